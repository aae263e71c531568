"""Whatever a task is, returns or raises, its caller learns of it, and the pool goes on.

Faults of workers are tested in test_worker_faults.py.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading

import pytest

from procession.pool import MaybeEncodingError, RemoteTraceback
from tests.pool import tasks
from tests.pool.shapes import BIG, assert_serves
from tests.waiting import until_ended

pytestmark = pytest.mark.timeout(60)


def test_argument_that_cannot_be_pickled(survivor):
    with pytest.raises(RuntimeError, match="never"):
        survivor.map(tasks.square, [1, tasks.Unpicklable(), 3])
    with pytest.raises(RuntimeError, match="never"):
        survivor.call(tasks.square, tasks.Unpicklable())(20)
    results = survivor.results(tasks.square, [1, tasks.Unpicklable(), 3])
    assert next(results) == 1
    with pytest.raises(RuntimeError, match="never"):
        next(results)


def test_argument_that_cannot_be_unpickled(survivor):
    with pytest.raises(RuntimeError, match="not here"):
        survivor.call(tasks.square, tasks.UnloadableThere())(20)


def test_function_that_cannot_be_pickled(survivor):
    with pytest.raises(RuntimeError, match="never"):
        survivor.call(tasks.UnpicklableFunction(), 1)(20)
    with pytest.raises(RuntimeError, match="never"):
        survivor.map(tasks.UnpicklableFunction(), [1, 2, 3])
    with pytest.raises(RuntimeError, match="never"):
        next(survivor.results(tasks.UnpicklableFunction(), [1]))


def test_result_that_cannot_be_pickled(survivor):
    for _ in range(3):
        with pytest.raises(MaybeEncodingError, match=r"^Error sending result: ") as caught:
            survivor.call(tasks.return_unpicklable)(20)
        assert "RuntimeError('never')" in caught.value.exc
        assert "Unpicklable" in caught.value.value


def test_result_that_cannot_be_unpickled(survivor):
    with pytest.raises(MaybeEncodingError, match="not here") as caught:
        survivor.call(tasks.return_unloadable)(20)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("kind", ["call", "map"])
def test_result_whose_unpickling_asks_for_it(survivor, monkeypatch, kind):
    """A thread that unpickles the result would wait for itself; other threads wait for it."""
    outcomes = []

    def ask(timeout):
        try:
            outcomes.append(get(timeout))
        except Exception as error:
            outcomes.append(type(error).__name__)

    def ask_everywhere():
        assert submitted.wait(30)
        ask(0.01)
        impatient = threading.Thread(target=ask, args=(0.01,))
        impatient.start()
        impatient.join()
        patient.start()

    submitted = threading.Event()
    patient = threading.Thread(target=ask, args=(30,))
    monkeypatch.setattr(tasks, "when_loaded", [ask_everywhere])
    of_pool = hasattr(survivor.face, "apply_async")
    if kind == "call":
        get = survivor.call(tasks.return_what_tells)
    elif of_pool:
        get = survivor.face.map_async(tasks.return_what_tells, [None]).get
    else:
        pytest.skip("an executor's maps have no result of their own")
    submitted.set()
    value = "loaded" if kind == "call" else ["loaded"]
    assert get(30) == value
    patient.join(30)
    assert outcomes == ["RuntimeError" if of_pool else "TimeoutError", "TimeoutError", value]


@pytest.mark.parametrize(
    "function", [tasks.raise_picky, tasks.raise_unpicklable, tasks.raise_unloadable]
)
def test_exception_that_cannot_be_pickled(survivor, function):
    with pytest.raises(MaybeEncodingError) as caught:
        survivor.call(function)(20)
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert f"in {function.__name__}" in str(cause)
    assert "Error(" in caught.value.value


def test_exception_with_attributes_and_notes(survivor):
    with pytest.raises(ValueError, match="with more") as caught:
        survivor.call(tasks.raise_rich)(20)
    assert caught.value.extra == list(range(10))
    assert caught.value.__notes__ == ["one note", "another"]
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "raise error" in str(caught.value.__cause__)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in 3.11")
def test_exception_group(survivor):
    with pytest.raises(ExceptionGroup, match="two") as caught:  # noqa: F821
        survivor.call(tasks.raise_group)(20)
    assert [type(error) for error in caught.value.exceptions] == [ValueError, FileNotFoundError]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (tasks.raise_cyclic, "first"),
        (tasks.raise_with_many_causes, "the last of many"),
        (tasks.raise_huge, "xxx"),
    ],
)
def test_exception_with_a_huge_or_cyclic_history(survivor, function, text):
    with pytest.raises(ValueError) as caught:
        survivor.call(function)(20)
    assert str(caught.value).startswith(text)
    assert f"in {function.__name__}" in str(caught.value.__cause__)


def test_exception_that_is_no_exception(survivor):
    """Only an exit and an interrupt end the worker."""
    pid = survivor.call(tasks.identify)(20)
    with pytest.raises(asyncio.CancelledError, match="no Exception"):
        survivor.call(tasks.raise_cancelled)(20)
    assert pid in [process.pid for process in survivor.pool._pool]


def test_stop_iteration_ends_no_iteration(survivor):
    for chunksize in (1, 4):
        with pytest.raises(RuntimeError, match="StopIteration"):
            list(survivor.face.map(tasks.stop_on_three, range(8), chunksize=chunksize))


def test_child_of_a_task_that_comes_back_from_it(survivor):
    children = survivor.map(tasks.fork_and_return, range(10))
    assert 0 not in children
    assert len(set(children)) == 10
    until_ended(children)


def test_deep_recursion(survivor):
    with pytest.raises(RecursionError):
        survivor.call(tasks.recurse)(20)


def test_generator_that_raises_midway(survivor):
    def items():
        yield 2
        yield 3
        raise OSError("no more")

    got = []
    with pytest.raises(OSError, match="no more"):
        for result in survivor.results(tasks.square, items()):
            got.append(result)
    # An executor takes all items before it returns: its map itself raises.
    assert got == ([4, 9] if hasattr(survivor.face, "imap") else [])


def test_iterable_that_raises_at_once(survivor):
    class Bad:
        def __iter__(self):
            raise OSError("not even one")

    with pytest.raises(OSError, match="not even one"):
        next(survivor.results(tasks.square, Bad()))
    with pytest.raises(OSError, match="not even one"):
        survivor.map(tasks.square, Bad())


def test_endless_generator(survivor):
    if hasattr(survivor.face, "imap"):
        pytest.skip("see test_limits")
    results = survivor.face.map(tasks.square, itertools.count(), buffersize=3)
    assert [next(results) for _ in range(10)] == [x * x for x in range(10)]


@pytest.mark.skipif(not BIG, reason="takes 10 GB of memory")
@pytest.mark.timeout(600)
def test_result_of_three_gigabytes(opening):
    size = 3 << 30
    with opening() as pool:
        assert len(pool.call(tasks.return_much, size)(300)) == size
        assert_serves(pool)
