"""An interrupt at the beginning of a `with` block does not leave a lock held."""

from __future__ import annotations

import signal
import sys

import pytest

import procession
from procession._threads import Condition, RLock


class Interrupt(BaseException):
    pass


def raise_interrupt(_number, _frame):
    raise Interrupt


@pytest.fixture
def interrupts():
    """Return a function that makes another one go on until a signal handler raises in it."""
    before = signal.signal(signal.SIGALRM, raise_interrupt)

    def interrupt(go_on):
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                go_on()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupt:
            pass

    yield interrupt
    signal.signal(signal.SIGALRM, before)


def is_free(lock):
    if hasattr(lock, "get_value"):
        return lock.get_value() == 1
    return lock._semlock._count() == 0


@pytest.mark.parametrize("make", [RLock, Condition])
def test_between_threads(make, interrupts):
    lock = make()

    def go_on():
        while True:
            with lock:
                pass

    for _ in range(1000):
        interrupts(go_on)
        assert not lock._is_owned()


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_between_processes(kind, interrupts):
    lock = getattr(procession, kind)()

    def go_on():
        while True:
            with lock:
                pass

    held = 0
    for _ in range(1000):
        interrupts(go_on)
        if not is_free(lock):
            held += 1
            lock.release()
    # On CPython 3.14, the last instructions of a call do not see a signal; without a check before them it was 600.
    assert held <= (200 if sys.version_info[:2] == (3, 14) else 0)
