"""Ctrl-C in the middle of a call to another node, and handlers that make calls of their own."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading

import pytest

import procession
from procession._cluster import place, wire

from ..boundary.calls import at_call
from ..waiting import LONG, until


class Interrupting:
    """Interrupts the main thread once the deputy was asked, before it has answered."""

    def __init__(self):
        from procession._cluster import link

        self._reply, self._channel = link._Channel._reply, link._Channel

    def __enter__(self):
        reply = self._reply

        def interrupted(channel, action):
            self._channel._reply = reply
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            return reply(channel, action)

        self._channel._reply = interrupted

    def __exit__(self, *error):
        self._channel._reply = self._reply


def _interrupted(method, *args):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Interrupting():
        try:
            method(*args)
        except KeyboardInterrupt:
            return "interrupted"
    return "not interrupted"


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
def test_an_interrupted_acquire_acquires_nothing(ctx, elsewhere, kind):
    lock = getattr(ctx, kind)()
    lock.acquire()
    assert elsewhere(_acquire_interrupted, lock) == "interrupted"
    lock.release()
    assert lock.acquire(timeout=LONG)
    lock.release()
    assert elsewhere(lambda lock: lock.acquire(), lock)


def _acquire_interrupted(lock):
    return _interrupted(lock.acquire)


def test_an_interrupted_get_takes_nothing(ctx, elsewhere):
    queue = ctx.Queue()
    assert elsewhere(_get_interrupted, queue) == "interrupted"
    queue.put("item")
    assert queue.get(timeout=LONG) == "item"
    queue.put("another")
    assert elsewhere(lambda queue: queue.get(), queue) == "another"


def _get_interrupted(queue):
    return _interrupted(queue.get)


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "RLock"])
def test_an_interrupt_right_after_the_acknowledgement(ctx, elsewhere, kind):
    queue, lock = ctx.Queue(), getattr(ctx, kind)()
    queue.put("item")
    assert elsewhere(_interrupted_after, queue, lock) == ["interrupted"] * 2
    assert queue.get(timeout=LONG) == "item"
    assert lock.acquire(timeout=LONG)


def _interrupted_after(queue, lock):
    from procession._cluster import link

    reply = link._Channel._reply

    def interrupted(channel, action):
        link._Channel._reply = reply
        answer = reply(channel, action)
        channel._conn.send_bytes(link.ACKNOWLEDGED)
        assert answer[0] == link.KEPT
        raise KeyboardInterrupt

    outcomes = []
    for call in queue.get, lock.acquire:
        queue.empty()
        lock.locked()
        link._Channel._reply = interrupted
        try:
            call()
        except KeyboardInterrupt:
            outcomes.append("interrupted")
    return outcomes


def test_an_interrupt_at_each_line_of_a_get(ctx, elsewhere):
    queue = ctx.Queue()
    at, outcome = 0, "interrupted"
    while outcome == "interrupted":
        queue.put(at)
        outcome = elsewhere(_interrupted_at, queue, at)
        if outcome == "interrupted":
            assert queue.get(timeout=LONG) == at
        at += 1
    assert outcome == at - 1
    assert at > 20


def test_an_interrupt_at_each_line_of_an_acquire(ctx, elsewhere):
    lock = ctx.Lock()
    at, outcome = 0, "interrupted"
    while outcome == "interrupted":
        outcome = elsewhere(_interrupted_with, lock, at)
        assert lock.acquire(timeout=LONG)
        lock.release()
        at += 1
    assert outcome == "acquired, and released"
    assert at > 20


class _At:
    """Raises KeyboardInterrupt in the main thread at a line of the package's, counted from the first."""

    def __init__(self, at):
        self._left, self._folder = at, os.path.dirname(procession.__file__)

    def __call__(self, frame, event, _value):
        if not frame.f_code.co_filename.startswith(self._folder):
            return None
        if event == "line":
            self._left -= 1
            if self._left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def _interrupted_at(queue, at):
    queue.empty()  # the connection is there
    sys.settrace(_At(at))
    try:
        return queue.get()
    except KeyboardInterrupt:
        return "interrupted"
    finally:
        sys.settrace(None)


def _interrupted_with(lock, at):
    lock.locked()
    sys.settrace(_At(at))
    try:
        with lock:
            sys.settrace(None)
            return "acquired, and released"
    except KeyboardInterrupt:
        return "interrupted"
    finally:
        sys.settrace(None)


def test_an_interrupted_put_puts_nothing(ctx, elsewhere):
    queue = ctx.Queue(1)
    queue.put(1)
    assert elsewhere(_put_interrupted, queue) == "interrupted"
    assert queue.get() == 1
    assert queue.empty()


def _put_interrupted(queue):
    return _interrupted(queue.put, 2)


def test_a_lock_is_kept_when_a_call_within_is_interrupted(ctx, elsewhere):
    lock, queue = ctx.RLock(), ctx.Queue()
    assert elsewhere(_interrupted_within, lock, queue) == "interrupted, and released"
    assert lock.acquire(timeout=LONG)


def _interrupted_within(lock, queue):
    with lock:
        assert _interrupted(queue.get) == "interrupted"
        assert lock.acquire(False)
        lock.release()
    return "interrupted, and released"


def test_an_interrupted_wait_keeps_the_lock(ctx, elsewhere):
    condition = ctx.Condition()
    assert elsewhere(_wait_interrupted, condition) == "interrupted, and released"
    assert condition.acquire(timeout=LONG)


def _wait_interrupted(condition):
    with condition:
        assert _interrupted(condition.wait) == "interrupted"
    return "interrupted, and released"


def test_an_interrupted_barrier_breaks(ctx, elsewhere):
    barrier = ctx.Barrier(2)
    assert elsewhere(_barrier_interrupted, barrier) == "interrupted"
    until(lambda: barrier.broken)


def _barrier_interrupted(barrier):
    return _interrupted(barrier.wait)


def test_an_interrupted_join_of_a_queue(ctx, elsewhere):
    queue = ctx.JoinableQueue()
    queue.put(1)
    assert elsewhere(_join_interrupted, queue) == "interrupted"
    queue.get()
    queue.task_done()
    assert elsewhere(lambda queue: queue.join() or "joined", queue) == "joined"


def _join_interrupted(queue):
    return _interrupted(queue.join)


def test_a_handler_makes_calls_in_the_middle_of_one(ctx, elsewhere):
    queue, noted, pids = ctx.Queue(), ctx.Queue(), ctx.Queue()
    elsewhere.begin(_get_with_handler, queue, noted, pids)
    pid = pids.get(timeout=LONG)
    for number in range(3):
        os.kill(pid, signal.SIGUSR1)
        assert noted.get(timeout=LONG) == "handled", number
    queue.put("item")
    assert elsewhere.end() == "item"


def _get_with_handler(queue, noted, pids):
    signal.signal(signal.SIGUSR1, lambda *_: noted.put("handled"))
    pids.put(os.getpid())
    return queue.get()


def test_an_interrupt_at_each_call_leaves_no_mode(ctx, loopback):
    """A thread that went on pickling for other nodes could send nothing to its own."""
    reader, writer = ctx.Pipe(duplex=False)
    sent = ctx.Lock(), writer, place.here()
    for number in itertools.count():
        try:
            at_call(number, lambda: wire.noting_dumps(sent))
            break
        except KeyboardInterrupt:
            assert not wire.mode.abroad, number
            assert not wire.mode.notes, number
    assert number > 10
    reader.close()
