"""Functions and classes of every kind, wrapped and sent in every way, behave alike elsewhere.

A program defines them all, sends each to another process, and prints what differs there.
"""

from __future__ import annotations

import pytest

pytest.importorskip("cloudpickle")

#: Definitions above and below the guard; `CASES` holds a callable and its arguments under each
#: name.
DEFINITIONS = '''
"""A main module.

def in_docstring(n):
    return "from the docstring"
"""
import collections, dataclasses, enum, functools, sys, typing
import procession as mp
import helper

try:
    import numpy
except ImportError:
    numpy = None

scale = 2
CASES = {}

def plain(n):
    return n * scale

if len(sys.argv) > 0:
    def below_if(n):
        return plain(n) + 1
for step in (1, 2, 3):
    pass
with open(__file__) as text:
    length = len(text.read())

def uses_loop_and_with(n):
    return n * step + length

def doubled(function):
    @functools.wraps(function)
    def wrapper(n):
        return 2 * function(n)
    return wrapper

def bare(function):
    def wrapper(n):
        return 3 * function(n)
    return wrapper

@functools.lru_cache(maxsize=None)
def cached(n):
    return n * cached(n - 1) if n else 1

@doubled
def wrapped(n):
    return n + 1

@bare
def hidden(n):
    return n + 1

def replaced(n):
    return "what importing makes"

class Shape:
    sides = 4
    def __init__(self, size): self.size = size
    def area(self, n=1): return self.size ** 2 * n
    @classmethod
    def of(cls, n): return cls(n).size * cls.sides
    @staticmethod
    def add(n): return n + 1
    @property
    def name(self): return type(self).__name__

def name_of(shape):
    return shape.name, type(shape) is type(shape)(1).__class__, isinstance(shape, Shape)

def counter(start):
    count = start
    def up(n):
        nonlocal count
        count += n
        return read()
    def read():
        return count
    return up

def recursive():
    def down(n):
        return n and n + down(n - 1)
    return down

def local_class():
    class Local(Shape):
        def area(self, n=1):
            return super().area(n) + plain(n)
    return Local

CASES["plain"] = plain, (3,)
CASES["below if"] = below_if, (3,)
CASES["loop and with"] = uses_loop_and_with, (3,)
CASES["cached"] = cached, (5,)
CASES["wrapped"] = wrapped, (5,)
CASES["hidden"] = hidden, (5,)
CASES["lambda"] = lambda n: plain(n) + scale, (5,)
CASES["closure"] = counter(2), (5,)
CASES["recursive"] = recursive(), (5,)
CASES["local class"] = local_class()(2).area, (3,)
CASES["method"] = Shape(3).area, (2,)
CASES["class method"] = Shape.of, (2,)
CASES["static method"] = Shape.add, (2,)
CASES["class"] = name_of, (Shape(1),)
CASES["partial"] = functools.partial(plain), (4,)
CASES["of a module"] = helper.make(), (4,)
'''

BELOW = """
if __name__ == "__main__":
    above = plain

    def replaced(n):
        return "what the program makes", n

    def late(n):
        return plain(n) + offset

    offset = 7

    @functools.lru_cache
    def late_cached(n):
        return n * late_cached(n - 1) if n else 1

    @doubled
    def late_wrapped(n):
        return late(n)

    def in_body(n):
        class Inner:
            shift = offset
        return Inner.shift + n

    class Late(Shape):
        made = 0
        @functools.cached_property
        def slow(self): return self.size + offset
        def get(self, n): return self.slow + n + len(self.name)
        def __eq__(self, other): return type(other).__name__ == "Late" and self.size == other.size
        __hash__ = None

    @dataclasses.dataclass
    class Record:
        number: int
        tags: list = dataclasses.field(default_factory=list)
        def fields(self, n):
            return [(f.name, f.default is dataclasses.MISSING) for f in dataclasses.fields(self)], n

    class Colour(enum.Enum):
        RED = 1
        BLUE = 2
        def next(self, n): return Colour(self.value % 2 + n).name

    Pair = collections.namedtuple("Pair", "one two")

    class Registry:
        known = []
        def __init_subclass__(cls, *, label):
            cls.label = label
            cls.known.append(cls.extra)

    class Entry(Registry, label="entry"):
        extra = 5
        def read(self, n): return self.label, self.extra + n

    T = typing.TypeVar("T")
    Number = typing.NewType("Number", int)

    def typed(kind):
        return kind.__name__

    def swap(pair):
        return Pair(pair.two, pair.one)

    CASES["replaced"] = replaced, (3,)
    CASES["calls replaced"] = lambda n: replaced(n), (3,)
    CASES["late"] = late, (3,)
    CASES["late alias"] = above, (3,)
    CASES["late cached"] = late_cached, (5,)
    CASES["late wrapped"] = late_wrapped, (5,)
    CASES["class in a body"] = in_body, (1,)
    CASES["late method"] = Late(3).get, (2,)
    CASES["late class"] = name_of, (Late(1),)
    CASES["late class method"] = Late.of, (2,)
    CASES["dataclass"] = Record(1).fields, (2,)
    CASES["enum"] = Colour.RED.next, (1,)
    CASES["named tuple"] = lambda n: swap(Pair(n, 2))._asdict(), (1,)
    CASES["with a hook"] = Entry().read, (1,)
    CASES["type variable"] = typed, (T,)
    CASES["new type"] = typed, (Number,)
    CASES["late lambda"] = lambda n: (offset, late(n), Late(n).size), (1,)
    CASES["late partial"] = functools.partial(late), (4,)
    CASES["late nested"] = functools.partial(map, late), ([1, 2],)
    if numpy is not None:
        def weigh(array, n): return float(array.sum()) + late(n)
        class Holder:
            def __init__(self): self.array = numpy.ones(5000)
            def total(self, n): return float(self.array.sum()) + offset + n
        CASES["late large partial"] = functools.partial(weigh, numpy.ones(5000)), (1,)
        CASES["late large method"] = Holder().total, (1,)
        array = numpy.arange(5000.0)
        CASES["large in a closure"] = (lambda array: lambda n: float(array[n]))(array), (7,)
"""

HELPER = """
base = 10

def make():
    return lambda n: add(n) + base

def add(n):
    return n + 1
"""

#: Ways to have a call made elsewhere.
CHANNELS = {
    "process": """
def go(queue, name, function, args):
    queue.put((name, shown(function(*args))))

def run(cases):
    queue = ctx.Queue()
    for name, (function, args) in cases.items():
        child = ctx.Process(target=go, args=(queue, name, function, args))
        child.start()
        yield queue.get(timeout=30)
        child.join()
""",
    "queue": """
def serve(calls, results):
    for name, function, args in iter(calls.get, None):
        results.put((name, shown(function(*args))))

def run(cases):
    calls, results = ctx.Queue(), ctx.Queue()
    child = ctx.Process(target=serve, args=(calls, results))
    child.start()
    for name, (function, args) in cases.items():
        calls.put((name, function, args))
        yield results.get(timeout=30)
    calls.put(None)
    child.join()
""",
    "pool": """
def run(cases):
    with ctx.Pool(1) as pool:
        for name, (function, args) in cases.items():
            first = shown(pool.apply(function, args))
            assert first == shown(pool.map(function, args)[0]), name
            yield name, first
""",
    "executor": """
def run(cases):
    with mp.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        for name, (function, args) in cases.items():
            yield name, shown(executor.submit(function, *args).result())
""",
    "pipe": """
def serve(end):
    for name, function, args in iter(end.recv, None):
        end.send((name, shown(function(*args))))

def run(cases):
    here, there = ctx.Pipe()
    child = ctx.Process(target=serve, args=(there,))
    child.start()
    for name, (function, args) in cases.items():
        here.send((name, function, args))
        yield here.recv()
    here.send(None)
    child.join()
""",
}

COMPARE = """
def shown(value):
    return list(value) if isinstance(value, map) else value

if __name__ == "__main__":
    ctx = mp.get_context(sys.argv[1])
    cases = CASES
    if sys.argv[2] == "process":  # one child each: those that differ
        cases = {name: CASES[name] for name in list(CASES)[::3]}
    seen = {}
    for name, value in run(cases):
        seen[name] = value
    assert seen.keys() == cases.keys()
    for name, (function, args) in cases.items():
        here = shown(function(*args))
        if seen[name] != here:
            print(name, seen[name], here)
"""


@pytest.mark.parametrize("channel", CHANNELS)
def test_elsewhere_as_here(run_program, tmp_path, method, channel):
    (tmp_path / "helper.py").write_text(HELPER)
    # The channel's functions are above the guard, as in a real program.
    text = DEFINITIONS + CHANNELS[channel] + BELOW + COMPARE
    done = run_program(text, method, channel)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("channel", ["queue", "pool"])
def test_elsewhere_as_here_from_a_session(run_program, tmp_path, method, channel):
    """The whole program comes from standard input: a receiver cannot import `__main__`."""
    (tmp_path / "helper.py").write_text(HELPER)
    text = DEFINITIONS.replace("open(__file__)", "open('helper.py')") + CHANNELS[channel]
    (tmp_path / "all.py").write_text(text + BELOW + COMPARE)
    run_all = "exec(compile(open('all.py').read(), '<cell>', 'exec'))"
    done = run_program(f"import runpy, sys\n{run_all}", method, channel, name="__main__.py")
    assert (done.stdout, done.stderr) == ("", "")
