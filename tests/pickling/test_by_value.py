"""Functions and classes that other processes cannot import travel.

These are lambdas, closures and what `__main__` alone has.
"""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
import time

import pytest

import procession
from tests.conftest import PACKAGE_FOLDER

cloudpickle = pytest.importorskip("cloudpickle")

#: Uses of a session's definitions. Prints one line for each use; `METHOD` is set before.
CELLS = [
    """
import dataclasses, sys
import procession as mp

@dataclasses.dataclass
class Point:
    x: int
    def double(self):
        return Point(twice(self.x))

class Refused(Exception):
    pass

factor = 2
state = "untouched"

def twice(n):
    return n * factor

def set_state(value):
    global state
    state = value

def show_state(n):
    return state, n

def refuse(n):
    raise Refused(n)

def serve(requests, answers):
    for point in iter(requests.get, None):
        answers.put((isinstance(point, Point), point.double()))
""",
    """
ctx = mp.get_context(METHOD)
requests, answers = ctx.Queue(), ctx.Queue()
requests.put(Point(3))
child = ctx.Process(target=serve, args=(requests, answers))
child.start()
requests.put(Point(4))
requests.put(None)
first, second = answers.get(), answers.get()
child.join()
print("process", child.exitcode, first, second, isinstance(first[1], Point))
""",
    """
pool = ctx.Pool(2, set_state, ("initialized",))
print("pool", pool.map(twice, [1, 2]), pool.apply(show_state, (7,)))
print("objects", pool.map(Point.double, [Point(5)]), isinstance(pool.apply(Point, (6,)), Point))
try:
    pool.apply(refuse, (8,))
except Refused as error:
    print("refused", error)
""",
    """
def later(n):
    return twice(n) + 1

def twice(n):
    return n * 20
""",
    """
print("later", pool.map(later, [1, 2]), pool.map(lambda n: later(n) + factor, [1]))
pool.close()
pool.join()
""",
]
SEEN = """\
process 0 (True, Point(x=6)) (True, Point(x=8)) True
pool [2, 4] ('initialized', 7)
objects [Point(x=10)] True
refused 8
later [21, 41] [23]
"""


def run(args, cwd, **more):
    done = subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        text=True,
        timeout=15,
        cwd=cwd,
        env={"PYTHONPATH": PACKAGE_FOLDER, "PATH": "/usr/bin:/bin"},
        **more,
    )
    return done.stdout, done.stderr


def one_text(method):
    return f"METHOD = {method!r}\n" + "".join(CELLS)


def test_code_option_and_standard_input(tmp_path, method):
    assert run(["-c", one_text(method)], tmp_path) == (SEEN, "")
    assert run(["-"], tmp_path, input=one_text(method)) == (SEEN, "")
    as_run = ["-m", "procession", "run", "-"]
    assert run(as_run, tmp_path, input=one_text(method)) == (SEEN, "")


def test_package_main(tmp_path, method):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(one_text(method))
    assert run(["-m", "package"], tmp_path) == (SEEN, "")
    assert run(["package"], tmp_path) == (SEEN, "")


def test_notebook(tmp_path, method):
    """Cells that run in a `__main__` without a file, as notebooks do."""
    (tmp_path / "notebook.py").write_text(f"""
import sys, types
sys.modules["__main__"] = main = types.ModuleType("__main__")
main.METHOD = {method!r}
for number, cell in enumerate({CELLS!r}):
    exec(compile(cell, f"<ipython-input-{{number}}>", "exec"), main.__dict__)
""")
    assert run(["-c", "import notebook"], tmp_path) == (SEEN, "")


def test_ipython(tmp_path, method):
    pytest.importorskip("IPython")
    (tmp_path / "shell.py").write_text(f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.push({{"METHOD": {method!r}}})
for cell in {CELLS!r}:
    shell.run_cell(cell).raise_error()
""")
    assert run(["-c", "import shell"], tmp_path) == (SEEN, "")


def test_session(tmp_path, method):
    """Lines typed at the prompt, also after a script."""
    (tmp_path / "script.py").write_text("def scripted(n):\n    return n + 100\n")
    lines = f"""
import procession as mp
def typed(n):
    return scripted(n) + 1

pool = mp.get_context({method!r}).Pool(1)
print(pool.map(typed, [1]), pool.map(scripted, [2]))
def scripted(n):
    return n + 200

print(pool.map(scripted, [3]), pool.map(typed, [4]))
"""
    seen, _ = run(["-q", "-i", "script.py"], tmp_path, input=lines)
    assert seen == "[102] [102]\n[203] [205]\n"


def test_below_the_guard(tmp_path, method):
    (tmp_path / "script.py").write_text("""
import sys
import procession as mp

def above(n):
    return n + 1

class Above:
    pass

def is_above(thing):
    return type(thing) is Above

if __name__ == "__main__":
    # A comment,

    def below(thing):
        return above(thing.n), isinstance(thing, Below)

    class Below(Above):
        n = 1

    with mp.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.map(below, [Below()]), pool.map(is_above, [Above(), Below()]))
        print(pool.map(lambda thing: is_above(thing), [Above()]))
""")
    assert run(["script.py", method], tmp_path) == ("[(2, True)] [True, False]\n[True]\n", "")


def test_what_a_copy_of_the_process_has_is_not_sent(tmp_path):
    text = """
import procession as mp

class Big:
    def __reduce__(self):
        raise RuntimeError("it was sent")

big = Big()

def use(n):
    return n, type(big).__name__

with mp.get_context("fork").Pool(1) as pool:
    print(pool.map(use, [1]), pool.map(lambda n: (n, type(big).__name__), [2]))
"""
    assert run(["-c", text], tmp_path) == ("[(1, 'Big')] [(2, 'Big')]\n", "")


def test_without_cloudpickle_one_line_says_what_to_install(tmp_path):
    (tmp_path / "cloudpickle.py").write_text("raise ImportError('not installed')")
    text = """
import procession as mp
def f(): print("ran", flush=True)
for method in "spawn", "forkserver":
    try:
        mp.get_context(method).Process(target=f).start()
    except Exception as error:
        print(type(error).__name__, str(error).endswith("Put it into a module, or install the package cloudpickle."))
try:
    mp.Queue().put(lambda: 1)
except Exception as error:
    print(str(error).splitlines()[-1].endswith("or install the package cloudpickle."))
child = mp.get_context("fork").Process(target=f)
child.start()
child.join()
with mp.get_context("fork").Pool(1) as pool:
    print(pool.apply(f))
"""
    expected = "PicklingError True\nPicklingError True\nTrue\nran\nran\nNone\n"
    assert run(["-c", text], tmp_path) == (expected, "")


def local_things():
    factor = 3

    @dataclasses.dataclass
    class Local:
        n: int

        def times(self):
            return Local(self.n * factor)

    class LocalError(Exception):
        pass

    def fail(thing):
        raise LocalError(thing.n)

    return Local, LocalError, fail, lambda thing: thing.times().n


def call(function, argument, answers):
    answers.put(function(argument))


def test_of_a_functions_body(ctx):
    Local, LocalError, fail, times = local_things()
    answers = ctx.Queue()
    child = ctx.Process(target=call, args=(times, Local(2), answers))
    child.start()
    assert answers.get(timeout=30) == 6
    child.join()
    answers.put(times)
    assert answers.get()(Local(5)) == 15
    with ctx.Pool(1, initializer=lambda value: None, initargs=(Local(1),)) as pool:
        assert pool.map(times, [Local(n) for n in range(3)]) == [0, 3, 6]
        assert pool.apply_async(times, (Local(1),)).get() == 3
        assert pool.apply(Local.times, (Local(4),)).n == 12
        assert list(pool.imap_unordered(times, [Local(1)])) == [3]
        assert pool.starmap(lambda one, other: one + other, [(1, 2)]) == [3]
        with pytest.raises(Exception, match="7") as caught:
            pool.apply(fail, (Local(7),))
        assert type(caught.value).__name__ == LocalError.__name__


def test_a_function_without_global_variables_may_import_from_c(ctx):
    """Functions in C look for `__builtins__` in the variables of the function that calls them."""
    with ctx.Pool(1) as pool:
        assert pool.apply(lambda parse: parse("2026", "%Y").tm_year, (time.strptime,)) == 2026


def test_over_pipes_and_managers(ctx):
    here, there = procession.Pipe()
    here.send(lambda: 5)
    assert there.recv()() == 5
    with ctx.Manager() as manager:
        shared = manager.dict()
        shared["f"] = lambda: 6
        assert shared["f"]() == 6


class Registered:
    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        raise TypeError("only by its registered reducer")


def rebuild(number):
    return Registered(number + 1)


@pytest.fixture
def registered():
    reducers = procession.reduction.ForkingPickler._extra_reducers
    procession.reduction.ForkingPickler.register(
        Registered, lambda thing: (rebuild, (thing.number,))
    )
    yield
    del reducers[Registered]


def test_registered_reducers_hold_on_every_path(ctx, registered):
    queue = ctx.Queue()
    # By pickle, and by value because of the lambda beside it.
    for item in (Registered(1), [Registered(1), lambda: 1]):
        queue.put(item)
        back = queue.get()
        assert (back if isinstance(back, Registered) else back[0]).number == 2
    child = ctx.Process(target=call, args=(lambda thing: thing.number, Registered(1), queue))
    child.start()
    # A copy of this process needs no pickle.
    assert queue.get(timeout=30) == (1 if ctx.get_start_method() == "fork" else 2)
    child.join()
    with ctx.Pool(1) as pool:
        assert pool.map(lambda thing: thing.number, [Registered(1)]) == [2]
    pickle.loads(procession.reduction.ForkingPickler.dumps([Registered(1), lambda: 1]))


def test_open_files_stay_here(tmp_path):
    """cloudpickle would send a copy of their contents."""
    ctx = procession.get_context("fork")
    queue = ctx.Queue()
    path = tmp_path / "text"
    path.write_text("some text")
    with open(path) as file, pytest.raises(TypeError):
        queue.put(lambda: file)
    with open(path) as file, pytest.raises(TypeError):
        queue.put([file])


def test_standard_streams_go_by_name(monkeypatch):
    queue = procession.get_context("fork").Queue()
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)  # not pytest's
    out = sys.stdout
    queue.put(lambda: out)
    assert queue.get()() is sys.stdout


#: Functions that name no variable of their module, and others beside them in one message.
NAMES_NONE = """
setting = "here"

def make():
    class Made:
        def first(self):
            return 1
        def second(self):
            return setting
        def third(self):
            return lambda: globals()["setting"]
    return Made()

def text():
    return lambda: eval("setting")
"""


def test_a_class_of_a_function_of_a_module_sees_its_module(run_program, tmp_path, method):
    (tmp_path / "helper.py").write_text(NAMES_NONE)
    done = run_program(
        """
        import sys, helper
        import procession as mp
        def child(made, *functions):
            print(made.first(), made.second(), made.third()(), *(function() for function in functions))
            helper.setting = "changed"
            print(made.second(), made.third()(), *(function() for function in functions))
        if __name__ == "__main__":
            context = mp.get_context(sys.argv[1])
            for args in (helper.make(), helper.text()), (helper.make(),):
                process = context.Process(target=child, args=args)
                process.start()
                process.join()
        """.replace("\n        ", "\n"),
        method,
    )
    with_text = "1 here here here\nchanged changed changed\n"
    assert (done.stdout, done.stderr) == (with_text + "1 here here\nchanged changed\n", "")
