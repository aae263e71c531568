"""Calls of `ProcessPoolExecutor` that are cancelled, before and while they run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

import procession
from procession import ProcessPoolExecutor
from tests.pool.tasks import square, touch, wait_for
from tests.waiting import until


def test_cancel(ctx, tmp_path):
    """Waiting calls never begin; running ones end with their worker, if that is asked for.

    Others go on, and ended ones stay.
    """
    with ProcessPoolExecutor(1, ctx) as executor:
        ended = executor.submit(square, 2)
        assert ended.result(20) == 4
        running = executor.submit(wait_for, str(tmp_path / "never"))
        waiting = executor.submit(touch, str(tmp_path / "begun"))
        last = executor.submit(square, 3)
        until(running.running)
        assert not waiting.running()
        calls = ended, waiting, running
        assert [future.cancel() for future in calls] == [False, True, False]
        assert running.running() and not running.cancelled()
        assert [future.cancel(running=True) for future in calls] == [False, True, True]
        assert [future.cancelled() for future in (ended, waiting, running)] == [False, True, True]
        assert waiting.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            running.result(0)
        done, pending = concurrent.futures.wait([waiting, running, last], 20)
        assert (len(done), len(pending)) == (3, 0)
        assert last.result(0) == 9
    assert not (tmp_path / "begun").exists()


class Late:
    """The stream of an executor, for a thread that comes to the futures of its calls late."""

    def __init__(self, stream, futures):
        self._stream = stream
        self._futures = futures

    def __getattr__(self, name):
        def late(*args):
            result = getattr(self._stream, name)(*args)
            until(lambda: all(future.done() for future in self._futures))
            return result

        return late if name.startswith("cancel") else getattr(self._stream, name)


@pytest.mark.parametrize("way", ["cancel", "shutdown", "kill_workers"])
def test_the_collecting_thread_is_first_at_a_cancelled_future(ctx, tmp_path, way):
    executor = ProcessPoolExecutor(1, ctx)
    running = executor.submit(wait_for, str(tmp_path / "gate"))
    until(running.running)
    waiting = [executor.submit(square, x) for x in range(3)]
    if way == "cancel":
        for future in waiting:
            future._stream = Late(future._stream, [future])
            assert future.cancel()
    else:
        executor._engine.stream = Late(executor._engine.stream, waiting)
        executor.kill_workers() if way == "kill_workers" else executor.shutdown(
            wait=False, cancel_futures=True
        )
    for future in waiting:
        assert future.cancelled()
        with pytest.raises(concurrent.futures.CancelledError) as caught:
            future.result(0)
        assert type(caught.value) is concurrent.futures.CancelledError
    done, _ = concurrent.futures.wait(waiting, 0)
    assert len(done) == 3
    (tmp_path / "gate").touch()
    executor.shutdown()
    assert running.done()


@pytest.mark.parametrize("end", ["shutdown", "kill_workers"])
def test_a_callback_that_raises_while_calls_are_cancelled(tmp_path, end, monkeypatch):
    """The other calls are cancelled, and the workers end."""

    class Stop(BaseException):
        pass

    def stop(_future):
        raise Stop

    reported = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_type))
    executor = ProcessPoolExecutor(1, procession.get_context("fork"))
    running = executor.submit(wait_for, str(tmp_path / "gate"))
    until(running.running)
    waiting = [executor.submit(square, x) for x in range(3)]
    for future in waiting:
        future.add_done_callback(stop)
    raised = []
    try:
        if end == "shutdown":
            executor.shutdown(wait=False, cancel_futures=True)
        else:
            executor.kill_workers()
    except Stop as error:
        raised.append(type(error))
    (tmp_path / "gate").touch()
    executor.shutdown()
    assert len(concurrent.futures.wait(waiting, 30).done) == 3
    assert all(future.cancelled() for future in waiting)
    assert (raised + reported) == [Stop] * 3
    assert isinstance(running.exception(0), procession.BrokenPool) == (end == "kill_workers")


def test_a_call_may_raise_the_error_of_a_cancelled_task(ctx):
    with ProcessPoolExecutor(1, ctx) as executor:
        future = executor.submit(raise_cancelled)
        assert isinstance(future.exception(30), procession.TaskCancelled)
        assert not future.cancelled()


def raise_cancelled():
    raise procession.TaskCancelled("a task of another pool")


def test_an_event_loop_that_waits_no_more_stops_no_call(ctx, tmp_path):
    """A cancelled future of asyncio cancels the call's future, as in the standard library."""
    gate = tmp_path / "gate"

    async def give_up(future):
        waiting = asyncio.wrap_future(future)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with ProcessPoolExecutor(1, ctx) as executor:
        running = executor.submit(wait_for, str(gate))
        until(running.running)
        pids = list(executor._processes)
        asyncio.run(give_up(running))
        assert running.running()
        gate.touch()
        assert running.result(20) == str(gate)
        assert list(executor._processes) == pids


def test_shutdown_cancels_what_waits(ctx, tmp_path):
    executor = ProcessPoolExecutor(1, ctx)
    running = executor.submit(wait_for, str(tmp_path / "flag"))
    waiting = [executor.submit(square, x) for x in range(10)]
    results = executor.map(square, range(10))
    until(running.running)
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    assert not running.cancelled()
    (tmp_path / "flag").touch()
    assert running.result(20) == str(tmp_path / "flag")
    with pytest.raises(concurrent.futures.CancelledError):
        next(results)
