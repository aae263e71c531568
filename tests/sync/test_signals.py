"""Signal handlers that run in the middle of a wait for a lock, a condition or the like.

A handler may end the wait, use what its thread waits for, and raise.
"""

from __future__ import annotations

import signal
import threading

import pytest

import procession
from tests.waiting import LONG


def ring(handler, again=0.0):
    """Call `handler` by a signal, soon, and every `again` seconds after that."""
    signal.signal(signal.SIGALRM, lambda _signal, _frame: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.02, again)


@pytest.fixture(autouse=True)
def no_alarm():
    previous = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


def test_a_signal_handler_can_end_a_wait(package):
    """The handler runs in the middle of the wait, which then continues."""
    lock, semaphore = package.Lock(), package.Semaphore(0)
    lock.acquire()
    ring(lock.release)
    assert lock.acquire(timeout=LONG)
    ring(semaphore.release)
    assert semaphore.acquire(timeout=LONG)
    ring(lambda: None)
    assert not semaphore.acquire(timeout=0.1)


def test_a_signal_handler_can_use_what_its_thread_waits_for():
    """With the standard library this deadlocks.

    Its primitives consist of others, which the waiting thread holds.
    """
    event, condition, barrier = procession.Event(), procession.Condition(), procession.Barrier(2)
    ring(event.set)
    assert event.wait(LONG)

    def notify():
        with condition:
            condition.notify()

    with condition:
        ring(notify, again=0.02)  # the first may come before the wait
        assert condition.wait(LONG)
    ring(barrier.abort)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(LONG)


class Stop(Exception):
    """Raised by a signal handler."""


@pytest.mark.parametrize("kind", ["Lock", "Event", "Condition", "Barrier"])
def test_a_signal_handler_may_raise(package, kind):
    thing = package.Barrier(2) if kind == "Barrier" else getattr(package, kind)()

    def stop():
        raise Stop

    if kind == "Lock":
        thing.acquire()
    with pytest.raises(Stop):
        ring(stop)
        if kind == "Condition":
            with thing:
                thing.wait(LONG)
        else:
            (thing.acquire if kind == "Lock" else thing.wait)(timeout=LONG)
    if kind == "Condition":
        with pytest.raises(AssertionError):
            thing.release()
    if kind == "Barrier":
        assert thing.n_waiting == 0
