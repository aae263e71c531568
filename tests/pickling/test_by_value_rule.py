"""Corner cases of the rule for what goes by value: variables, refusals, costs, error texts.

The kinds of functions and classes are a table of their own, in test_by_value_table.py.
"""

from __future__ import annotations

import ctypes
import functools
import pickle
import sys
import textwrap
import threading

import pytest

import procession

pytest.importorskip("cloudpickle")

REFUSALS = (TypeError, AttributeError, pickle.PicklingError)


INITIALIZED = """
import functools, sys
import procession as mp

connection = None

def connect():
    global connection
    connection = "connected"

def above(_):
    return connection

class Above:
    def see(self, _):
        return connection

@functools.lru_cache
def cached(_):
    return connection

def inner():
    return lambda _: connection

if __name__ == "__main__":
    def below(_):
        return connection

    class Below:
        def see(self, _):
            return connection

    with mp.get_context(sys.argv[1]).Pool(1, connect) as pool:
        for function in (above, lambda _: connection, inner(), cached, below, Above().see, Below().see,
                         functools.partial(below), lambda _: above(0), lambda _: below(0)):
            print(pool.map(function, [1]))
    print(connection)
"""


def test_an_initializer_binds_for_functions_by_name_and_by_value(run_program, method):
    done = run_program(INITIALIZED, method)
    assert (done.stdout, done.stderr) == ("['connected']\n" * 10 + "None\n", "")


IN_A_MODULE = """
setting = None

def bind(value):
    global setting
    setting = value

def make():
    return lambda _: setting
"""


def test_a_lambda_of_a_module_sees_the_receiver_s_module(run_program, tmp_path, method):
    (tmp_path / "helper.py").write_text(IN_A_MODULE)
    done = run_program(
        """
        import sys, helper
        import procession as mp
        if __name__ == "__main__":
            with mp.get_context(sys.argv[1]).Pool(1, helper.bind, ("there",)) as pool:
                print(pool.map(helper.make(), [1]), helper.setting)
        """.replace("\n        ", "\n"),
        method,
    )
    assert (done.stdout, done.stderr) == ("['there'] None\n", "")


def test_functions_that_share_a_variable_share_it_afterwards():
    def pair():
        count = 0

        def up():
            nonlocal count
            count += 1

        return up, lambda: count

    queue = procession.SimpleQueue()
    queue.put(pair())
    up, read = queue.get()
    up()
    up()
    assert read() == 2


def test_a_traceback_names_the_file(tmp_path):
    queue = procession.SimpleQueue()
    queue.put(lambda: 1 / 0)
    assert queue.get().__code__.co_filename == __file__


# What cannot travel


class Strict(type):
    def __new__(cls, name, bases, namespace, *, needed):
        return super().__new__(cls, name, bases, namespace)

    def __init__(cls, name, bases, namespace, *, needed):
        super().__init__(name, bases, namespace)


def with_a_strict_metaclass():
    class Made(metaclass=Strict, needed=1):
        pass

    return Made()


class Slotted:
    __slots__ = ("one",)

    def __init_subclass__(cls, *, needed):
        pass


def with_slots_and_a_hook():
    class Made(Slotted, needed=1):
        pass

    return Made()


ODD = {
    "c array": lambda: (ctypes.c_int * 3)(1, 2, 3),
    "version": lambda: sys.version_info,
    "flags": lambda: sys.flags,
    "float info": lambda: sys.float_info,
    "hash info": lambda: [sys.hash_info],
    "structure": lambda: type("S", (ctypes.Structure,), {"_fields_": [("x", ctypes.c_int)]})(),
    "subclass of c_int": lambda: type("Int", (ctypes.c_int,), {})(),
    "metaclass": with_a_strict_metaclass,
    "slots and hook": with_slots_and_a_hook,
    "lock in a closure": lambda: (lambda lock: lambda: lock)(threading.Lock()),
    "memoryview": lambda: memoryview(b"abc"),
    "generator": lambda: (n for n in ()),
    "single dispatch": lambda: functools.singledispatch(lambda n: n),
    "frame": lambda: sys._getframe(),
    "code": lambda: (lambda: 5).__code__,
    "module": lambda: sys,
    "type of None": lambda: [type(None), type(...), type(len)],
}


@pytest.mark.parametrize("kind", ODD)
def test_what_put_accepts_get_gives(kind):
    queue = procession.Queue()
    thing = ODD[kind]()
    try:
        queue.put(thing)
    except REFUSALS:
        assert queue.empty()
    else:
        assert type(queue.get()).__name__ == type(thing).__name__


def test_an_error_shows_no_value():
    queue = procession.Queue()
    key = procession.current_process().authkey
    for item in (key, [key], {"key": key}, lambda: key):
        with pytest.raises(TypeError, match="security") as caught:
            queue.put(item)
        assert repr(bytes(key)) not in str(caught.value)
        assert caught.value.__cause__ is None


class Loud:
    shown = 0

    def __init__(self, part):
        self.part = part

    def __repr__(self):
        Loud.shown += 1
        return "secret"


def test_an_error_says_where_the_part_is_that_cannot_travel():
    queue = procession.Queue()
    lock = threading.Lock()
    default = {"lock": lock}
    with pytest.raises(TypeError) as caught:
        queue.put({"jobs": [1, (Loud([lock]),)]})
    assert "type dict to another process: ['jobs'][1][0].part[0] of it" in str(caught.value)
    assert "_thread.lock" in str(caught.value)
    with pytest.raises(TypeError, match=r"\.__closure__\['lock'\] of it is an object of type _thr"):
        queue.put(lambda: lock)
    with pytest.raises(TypeError, match=r"\.__defaults__\[0\]\['lock'\] of it"):
        queue.put(lambda part=default: part)
    with pytest.raises(TypeError, match=r"\.args\[0\] of it"):
        queue.put(functools.partial(print, lock))
    with pytest.raises(TypeError, match=r"it is an object of type _thr"):
        queue.put({"a secret key": lock})
    assert Loud.shown == 0


def give_a_lock(_):
    return [Loud(threading.Lock())]


def test_a_result_that_cannot_travel_is_not_shown(ctx):
    with (
        ctx.Pool(1) as pool,
        pytest.raises(procession.pool.MaybeEncodingError) as caught,
    ):
        pool.apply(give_a_lock, (1,))
    assert "[0].part" in str(caught.value) and "secret" not in str(caught.value)


# What it costs


COUNTED = """
import sys
import procession as mp

class Unrelated:
    pickled = 0
    def __getstate__(self):
        Unrelated.pickled += 1
        return {"n": 1}

def count_calls(item):
    calls = 0
    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")
    queue.put(item)
    before = Unrelated.pickled
    sys.setprofile(count)
    queue.put(item)
    sys.setprofile(None)
    queue.get()
    return Unrelated.pickled - before, calls

queue = mp.SimpleQueue()
items = [Unrelated() for _ in range(100)]
if __name__ == "__main__":
    def measure():
        return [count_calls(item) for item in (items, items[0], [items[:5], "below"])]

    before = measure()
    DEFINITION
    print(before[0][0], measure() == before)
"""


@pytest.mark.parametrize(
    "definition", ["pass", "def below(n): return n", "class below: pass", "below = lambda: 1"]
)
def test_a_definition_below_the_guard_costs_others_nothing(run_program, definition):
    text = COUNTED.replace("DEFINITION", definition).replace('"below"', '"other"')
    done = run_program(text)
    assert (done.stdout, done.stderr) == ("100 True\n", "")


def test_source_is_parsed_not_searched():
    from procession._pickling.source import read

    found = read(
        textwrap.dedent('''
        """
        def documented(): pass
        """
        import os.path as path, sys
        from math import *
        text = """
        if __name__ == "__main__":
            def quoted(): pass
        """
        if sys.platform: chosen = 1
        elif __name__ == "__main__": both = 1
        for turn in (): inside = 1
        with open(path) as (file, (*rest,)): read = [hidden for hidden in ()]
        while (walrus := 0): pass
        try: tried = 1
        except OSError as error: caught = 1
        match turn:
            case [first, *others]: pass
        class Outer:
            def method(self): local = 1
        if not __name__ != "__main__":
            main_only = 1
        else:
            other_only = 2
        if "__main__" == __name__ and sys.argv:
            def only(): pass
            def again(): pass
        if __name__ in ("__main__", "__mp_main__"):
            for_both = 1
        def again():
            global late
            def late(): pass
        '''),
        "main.py",
    )
    bound = "path sys text chosen turn inside file rest read walrus tried error caught first others"
    assert found.names == {*bound.split(), "Outer", "other_only", "for_both", "again"}
    assert found.rebound == {"both", "main_only", "only", "again", "late"}
    assert set(found.codes) == {"Outer.method", "again"}
    assert found.stars == [("math", 0)]


# What a call binds

BOUND_BY_A_CALL = """
import sys, threading
import multiprocessing

def install(namespace, name):
    def here(self):
        return self.__class__ is namespace[name], self.number
    attributes = {"__module__": namespace["__name__"], "lock": threading.Lock(), "number": 7, "here": here}
    namespace[name] = type(name, (), attributes)

def outer(name):
    install(globals(), name)

class Maker:
    def __init__(self, name):
        setattr(sys.modules[__name__], name, type(name, (Direct,), {"__module__": __name__}))

install(globals(), "Direct")
outer("Through")
Maker("Made")

def give(method, queue):
    queue.put(method())

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.SimpleQueue()
    for kind in (Direct, Through, Made):
        child = multiprocessing.Process(target=give, args=(kind().here, queue))
        child.start()
        child.join()
        print(kind.__name__, child.exitcode == 0 and queue.get())
    print(vars(sys.implementation)["name"])
"""


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_what_a_call_at_top_level_binds_goes_by_name(run_program, tmp_path, method, flags):
    program = ["program"] if flags else [str(tmp_path / "program.py")]
    (tmp_path / "program.py").write_text(BOUND_BY_A_CALL)
    command = [sys.executable, "-m", "procession", "run", *flags, *program, method]
    done = run_program(
        f"import subprocess, sys\nsys.exit(subprocess.call({command!r}))", name="run.py"
    )
    true, false = "(True, 7)", "(False, 7)"
    expected = (
        ["Direct", true],
        ["Through", true],
        ["Made", false],
        [sys.implementation.name],
    )
    assert (done.stdout, done.stderr) == ("".join(" ".join(line) + "\n" for line in expected), "")


BOUND_BY_A_CALL_BELOW = """
import sys
import procession as mp

def define(name):
    class New:
        def get(self, n):
            return name, n
    New.__qualname__ = New.__name__ = name
    globals()[name] = New

if sys.argv[2] == "above":
    globals()["Above"] = None
    define("Above")

if __name__ == "__main__":
    define("Below")
    with mp.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.map(Below().get, [1]), Above and pool.map(Above().get, [1]))
"""


def test_what_a_call_below_the_guard_binds_goes_by_value(run_program, method):
    for text in (
        BOUND_BY_A_CALL_BELOW,
        BOUND_BY_A_CALL_BELOW.replace('sys.argv[2] == "above"', "True"),
    ):
        done = run_program(text.replace("Above and", '"Above" in globals() and'), method, "below")
        above = "[('Above', 1)]" if "if True" in text else "False"
        assert (done.stdout, done.stderr) == (f"[('Below', 1)] {above}\n", "")


CPYTHON_S_LAYOUT = """
import unittest
from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), "{method}")

if __name__ == "__main__":
    unittest.main()
"""


CPYTHON_S_TESTS = ("WithProcessesTestEvent", "WithProcessesTestBarrier.test_default_timeout")


def test_cpython_s_tests_run_as_main_programs(run_program, method):
    pytest.importorskip("test._test_multiprocessing")
    text = CPYTHON_S_LAYOUT.format(method=method)
    done = run_program(text, *CPYTHON_S_TESTS, under="run", timeout=300)
    assert done.stderr.endswith("OK\n"), done.stderr
