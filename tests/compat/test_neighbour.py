"""The standard library's `multiprocessing` beside procession in one program.

Each uses the other's queues and catches the other's errors.
"""

from __future__ import annotations

import textwrap

import pytest

QUEUES = """
import sys, time
{first}
import procession, procession.pool

def put(queue, text):
    import multiprocessing
    queue.put(text)
    inner = multiprocessing.Queue()
    inner.put(1)
    assert inner.get() == 1

if __name__ == "__main__":
    import multiprocessing
    method = sys.argv[1]
    theirs = multiprocessing.get_context(method)
    sleeper = theirs.Process(target=time.sleep, args=(60,), daemon=True)
    sleeper.start()
    queue = theirs.Queue()
    queue.put("parent's")
    assert queue.get(timeout=30) == "parent's"
    for number in range(5):
        child = procession.get_context(method).Process(target=put, args=(queue, "x" * 100_000 + str(number)))
        child.start()
        print(queue.get(timeout=30)[-1], flush=True)
        child.join()
        assert child.exitcode == 0
    assert sleeper.is_alive()
    sleeper.kill()
"""


@pytest.mark.parametrize("first", ["import multiprocessing", ""], ids=["before", "after"])
def test_their_queues_in_our_children(run_program, method, first):
    done = run_program(QUEUES.format(first=first), method)
    assert (done.stdout, done.stderr) == ("0\n1\n2\n3\n4\n", "")


MANAGERS = """
import sys, multiprocessing
import procession

def add(shared, key):
    shared[key] = type(shared).__module__
    return len(shared)

def add_deeper(method, shared, key):
    child = procession.get_context(method).Process(target=add, args=(shared, key))
    child.start()
    child.join()

if __name__ == "__main__":
    method = sys.argv[1]
    ours = procession.get_context(method)
    with multiprocessing.get_context(method).Manager() as manager:
        shared = manager.dict()
        with ours.Pool(1) as pool:
            assert pool.apply(add, (shared, "pool")) == 1
        with procession.ProcessPoolExecutor(1, mp_context=ours) as executor:
            assert executor.submit(add, shared, "executor").result() == 2
        child = ours.Process(target=add_deeper, args=(method, shared, "child of a child"))
        child.start()
        child.join()
        queue = ours.SimpleQueue()
        child = ours.Process(target=lambda: add(queue.get(), "queue"))
        child.start()
        queue.put(shared)
        child.join()
        assert set(shared.values()) == {"multiprocessing.managers"}
        print(*shared.keys())
"""


def test_their_managers_in_our_children(run_program, method):
    """A manager knows its clients by the key of its program, which our children have, too."""
    done = run_program(MANAGERS, method)
    assert (done.stdout, done.stderr) == ("pool executor child of a child queue\n", "")


@pytest.mark.parametrize(
    "theirs", ["procession", "multiprocessing.process", "concurrent.futures.process"]
)
def test_our_children_load_the_neighbour_only_where_their_parent_has_its_managers(
    run_program, method, theirs
):
    text = f"""
    import sys, procession
    def loaded():
        return "multiprocessing" in sys.modules
    if __name__ == "__main__":
        if sys.argv[1] != "fork":
            import {theirs}
        with procession.get_context(sys.argv[1]).Pool(1) as pool:
            print(pool.apply(loaded))
            import multiprocessing.managers
        with procession.get_context(sys.argv[1]).Pool(1) as pool:
            print(pool.apply(loaded))
    """
    done = run_program(textwrap.dedent(text), method)
    assert (done.stdout, done.stderr) == ("False\nTrue\n", "")


ERRORS = """
import sys
import procession, procession.pool

def late():
    raise procession.ProcessError("made before")

try:
    late()
except procession.ProcessError:
    pass
assert "multiprocessing" not in sys.modules, "procession loads the other"
import {module} as theirs
import {own} as ours
names = {names!r}
for name in names:
    other = getattr(theirs, name)
    made = getattr(ours, name)(*["text"] * (2 if name == "MaybeEncodingError" else 1))
    try:
        raise made
    except other as error:
        assert str(error), name
    assert issubclass(getattr(ours, name), other)
    assert not issubclass(other, getattr(ours, name))
import multiprocessing
for name in ("NodeLost", "OwnerDied", "WorkerDied", "TaskTimeout", "TaskCancelled", "BrokenPool"):
    try:
        raise getattr(procession, name)("text")
    except multiprocessing.ProcessError as error:
        assert str(error) == "text"
try:
    with procession.pool.ThreadPool(1) as pool:
        pool.apply_async(__import__("time").sleep, (1,)).get(0)
except multiprocessing.TimeoutError:
    print("caught")
"""


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("", ["ProcessError", "TimeoutError", "BufferTooShort", "AuthenticationError"]),
        (".managers", ["RemoteError"]),
        (".pool", ["MaybeEncodingError"]),
    ],
)
def test_our_errors_are_caught_as_theirs(run_program, part, names):
    modules = {"module": f"multiprocessing{part}", "own": f"procession{part}"}
    done = run_program(ERRORS.format(names=names, **modules) + "", timeout=60)
    assert (done.stdout, done.stderr) == ("caught\n", "")


def test_our_errors_under_the_name_of_theirs(run_program):
    text = "import multiprocessing, procession\ntry:\n    raise multiprocessing.TimeoutError\nexcept procession.ProcessError as error:\n    print(type(error).__mro__)"
    done = run_program(text, under="run")
    assert done.stdout.count("TimeoutError") == 1
    assert done.stderr == ""


def test_a_result_that_cannot_travel_reads_the_same_beside_the_standard_library(run_program):
    text = """
    import multiprocessing.pool
    from procession import pool
    error = pool.MaybeEncodingError(TypeError("no"), [1])
    assert isinstance(error, multiprocessing.pool.MaybeEncodingError)
    assert str(error) == str(multiprocessing.pool.MaybeEncodingError(TypeError("no"), [1])), str(error)
    """
    done = run_program(textwrap.dedent(text))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
