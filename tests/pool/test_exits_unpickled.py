"""Exits and interrupts that the program's code raises in a pool's own threads.

They are outcomes of the tasks that bring the code: no thread ends by them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading

import pytest

import procession
from procession import util
from procession.pool import MaybeEncodingError
from tests.pool import tasks
from tests.pool.shapes import METHODS, assert_serves, workers_without_main
from tests.pool.test_subclass import OwnQueues
from tests.waiting import until

pytestmark = pytest.mark.timeout(60)

KINDS = [SystemExit, KeyboardInterrupt, asyncio.CancelledError]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture
def reported(monkeypatch):
    """Return what the threads report; the program's own hook fails, too."""
    errors = []

    def hook(args):
        errors.append(args.exc_type)
        raise SystemExit("of the hook")

    monkeypatch.setattr(threading, "excepthook", hook)
    return errors


class Told:
    """The outcomes of which callbacks were told."""

    def __init__(self):
        self.values, self.errors = [], []

    @property
    def callbacks(self):
        return {"callback": self.values.append, "error_callback": self.errors.append}

    def one(self):
        until(lambda: self.values or self.errors)
        assert not self.values
        return self.errors[0]


def submit(survivor, function, *args):
    """Return a future of a call, completed by a thread of the package, whatever the shape."""
    if not hasattr(survivor.face, "apply_async"):
        return survivor.face.submit(function, *args)
    future = concurrent.futures.Future()
    told = {"callback": future.set_result, "error_callback": future.set_exception}
    survivor.face.apply_async(function, args, **told)
    return future


def test_result(survivor, kind):
    futures = [submit(survivor, tasks.return_what_raises, kind), submit(survivor, tasks.square, 3)]
    error = futures[0].exception(30)
    assert isinstance(error, MaybeEncodingError)
    assert isinstance(error.__cause__, kind)
    assert futures[1].result(30) == 9


def test_exception(survivor, kind):
    futures = [submit(survivor, tasks.raise_what_raises, kind), submit(survivor, tasks.square, 3)]
    error = futures[0].exception(30)
    assert isinstance(error, MaybeEncodingError)
    assert kind.__name__ in error.exc
    assert futures[1].result(30) == 9


def test_map(survivor, kind):
    if not hasattr(survivor.face, "map_async"):
        pytest.skip("the caller unpickles the results of an executor's map")
    told = Told()
    result = survivor.face.map_async(tasks.return_what_raises, [kind] * 3, **told.callbacks)
    assert isinstance(told.one().__cause__, kind)
    with pytest.raises(MaybeEncodingError):
        result.get(30)


def test_result_that_the_caller_unpickles(survivor):
    """It is raised there, and the result is an error for all that ask later."""
    if not hasattr(survivor.face, "apply_async"):
        pytest.skip("a thread unpickles the results of an executor")
    for result in (
        survivor.face.apply_async(tasks.return_what_raises, (SystemExit,)),
        survivor.face.map_async(tasks.return_what_raises, [SystemExit] * 3),
    ):
        with pytest.raises(SystemExit):
            result.get(30)
        for _ in range(2):
            with pytest.raises(MaybeEncodingError) as caught:
                result.get(30)
            assert isinstance(caught.value.__cause__, SystemExit)


def test_argument_of_a_task_whose_worker_died(survivor, kind):
    """Its error shows the arguments: they are unpickled, and asked for their `repr`."""
    for argument in (tasks.Raises(kind, there=True), tasks.BadRepr(kind)):
        future = submit(survivor, tasks.kill_self, argument)
        assert isinstance(future.exception(30), (procession.WorkerDied, kind))
        assert submit(survivor, tasks.square, 3).result(30) == 9


def test_callback(survivor, kind, reported, tmp_path):
    called = []

    def bad(_):
        called.append(kind)
        raise kind("from the callback")

    if hasattr(survivor.face, "apply_async"):
        survivor.face.apply_async(tasks.square, (2,), callback=bad)
    else:
        gate = tmp_path / "gate"
        survivor.face.submit(tasks.wait_for, str(gate)).add_done_callback(bad)
        gate.touch()
    until(lambda: called)
    assert submit(survivor, tasks.square, 3).result(30) == 9
    # `concurrent.futures` itself logs what is an Exception.
    assert reported == [kind] or not hasattr(survivor.face, "apply_async")


def test_item_that_a_feeding_thread_pickles(survivor, kind):
    if not hasattr(survivor.face, "apply_async"):
        pytest.skip("an executor takes all items in the calling thread")
    items = [*range(5000), tasks.Raises(kind)]
    result = survivor.face.map_async(tasks.square, items, 1)
    with pytest.raises(kind):
        result.get(30)


def test_initializer_that_raises_what_raises(opening, kind):
    """Its exception comes to the thread that watches the workers."""
    with opening(initializer=tasks.raise_what_raises, initargs=(kind,)) as made:
        with pytest.raises(procession.BrokenPool) as caught:
            made.call(tasks.square, 3)(30)
        assert isinstance(caught.value.__cause__, MaybeEncodingError)


def test_worker_that_cannot_be_started(opening, kind):
    with opening(1) as made:
        assert made.call(tasks.square, 3)(30) == 9
        watched, started = made.pool._pool_workers, []
        start = watched._start

        def fail_once(**kwds):
            started.append(kwds)
            if len(started) == 1:
                raise kind("no worker today")
            return start(**kwds)

        watched._start = fail_once
        made.pool._pool[0].kill()
        until(lambda: started)
        with pytest.raises(procession.BrokenPool, match=f"{kind.__name__}.*no worker today"):
            for _ in range(2):
                made.call(tasks.square, 3)(30)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_watch_that_fails(opening, kind, monkeypatch):
    """Without it no worker would be replaced: all calls fail instead."""
    with opening(1) as made:
        waiting = made.call(tasks.wait_for, "/nonexistent/never")

        def fail():
            raise kind("no figures today")

        monkeypatch.setattr(made.pool._pool_workers, "_stop_overdue", fail)
        made.pool._pool_workers._notify()
        with pytest.raises(procession.BrokenPool, match="can no longer be watched"):
            waiting(30)


@pytest.mark.parametrize("method", METHODS)
def test_log_handler(method, kind, reported):
    """A worker's end is logged by the thread that watches."""

    class Bad(logging.Handler):
        def emit(self, record):
            if threading.current_thread() is not threading.main_thread():
                raise kind("of the handler")

    logger, bad = util.get_logger(), Bad()
    level = logger.level
    logger.addHandler(bad)
    logger.setLevel(logging.DEBUG)
    try:
        with workers_without_main(), procession.get_context(method).Pool(1) as pool:
            for _ in range(2):
                (victim,) = pool._pool
                victim.kill()
                until(lambda victim=victim: victim not in pool._pool and pool._pool)
                assert pool.apply(tasks.square, (3,)) == 9
    finally:
        logger.setLevel(level)
        logger.removeHandler(bad)
    assert kind in reported


@pytest.mark.parametrize("method", METHODS)
def test_queues_of_a_subclass(method, kind):
    context = procession.get_context(method)

    class OwnPool(OwnQueues, type(context.Pool(1))):
        pass

    with workers_without_main(), OwnPool(1, context=context) as pool:
        for function, argument in (
            (tasks.square, tasks.Raises(kind)),
            (tasks.return_what_raises, kind),
        ):
            told = Told()
            result = pool.apply_async(function, (argument,), **told.callbacks)
            error = told.one()
            assert isinstance(error, kind) or isinstance(error.__cause__, kind)
            with pytest.raises(type(error)):
                result.get(30)
            assert pool.apply(tasks.square, (3,)) == 9


def test_iterable_that_cannot_be_iterated(survivor):
    """The call is over, and a pool that is closed does not wait for it."""
    if not hasattr(survivor.face, "map_async"):
        pytest.skip("an executor iterates in the calling thread alone")

    class Sized(list):
        def __iter__(self):
            raise SystemExit("no items")

    told = Told()
    with pytest.raises(SystemExit, match="no items"):
        survivor.face.map_async(tasks.square, Sized([1]), **told.callbacks)
    assert isinstance(told.one(), SystemExit)
    assert_serves(survivor)
