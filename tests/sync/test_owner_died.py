"""Holders of locks die in every way.

One waiter learns of it, soon, with the holder's name and the lock.
"""

from __future__ import annotations

import inspect
import os
import signal
import threading

import pytest

import procession

#: Far more seconds than anything here takes.
LONG = 60


def hold(lock, held, size=0):
    memory = bytearray(b"1") * size
    lock.acquire()
    held.set()
    signal.pause()
    del memory


def hold_and_exit(lock, held):
    lock.acquire()
    held.set()
    os._exit(3)


def held_by(ctx, lock, target=hold, *args):
    """Start a process that holds the lock."""
    held = ctx.Event()
    process = ctx.Process(target=target, args=(lock, held, *args), name="Holder")
    process.start()
    assert held.wait(LONG)
    return process


def told(lock):
    """Return the `OwnerDied` that acquiring the lock ends with; afterwards the lock is free."""
    with pytest.raises(procession.OwnerDied) as caught:
        lock.acquire(timeout=LONG)
    assert lock.acquire(False)
    lock.release()
    return caught.value


KINDS = ["Lock", "RLock", "Condition"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [hold, hold_and_exit])
def test_the_error_names_the_dead_the_lock_and_the_line_that_made_it(ctx, kind, end):
    lock = getattr(ctx, kind)()
    line = inspect.currentframe().f_lineno - 1
    process = held_by(ctx, lock, end)
    if end is hold:
        process.kill()
    error = told(lock)
    process.join(LONG)
    assert (error.pid, error.name) == (process.pid, "Holder")
    assert error.object == ("Lock" if kind == "Lock" else "RLock")
    assert error.made.endswith(f"/test_owner_died.py:{line}")
    assert str(error).startswith(
        f"process Holder ({process.pid}) died holding the {error.object} made at {error.made}"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_death_is_told_while_the_kernel_still_takes_down_the_memory_of_the_dead(kind):
    ctx = procession.get_context("fork")
    lock = getattr(ctx, kind)()
    process = held_by(ctx, lock, hold, 1 << 30)
    process.kill()
    told(lock)
    process.join(LONG)


def in_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(LONG)
    assert not thread.is_alive()


@pytest.mark.parametrize("kind", ["RLock", "Condition"])
def test_the_end_of_a_thread_that_holds_a_recursive_lock_is_told(kind):
    lock = getattr(procession, kind)()
    in_thread(lock.acquire)
    error = told(lock)
    assert error.pid == os.getpid() and str(error).startswith("thread ")


def take_in_thread(lock, held):
    in_thread(lock.acquire)
    held.set()
    signal.pause()


def test_the_end_of_a_thread_elsewhere_is_told(ctx):
    lock = ctx.RLock()
    process = held_by(ctx, lock, take_in_thread)
    error = told(lock)
    assert (error.pid, error.name) == (process.pid, "Holder") and "thread" in str(error)
    process.kill()
    process.join(LONG)


def test_a_lock_whose_thread_ended_is_another_threads_to_release(package):
    lock = package.Lock()
    in_thread(lock.acquire)
    assert not lock.acquire(timeout=0.1)
    lock.release()
    assert lock.acquire(False)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_silent_lock_is_handed_on(ctx, kind):
    lock = getattr(ctx, kind)(recover="silent")
    process = held_by(ctx, lock)
    process.kill()
    with lock:
        assert lock._is_mine()
    process.join(LONG)


def test_a_condition_is_held_when_its_wait_ends_with_the_news():
    condition = procession.Condition(procession.Lock())
    ctx = procession.get_context("fork")
    with condition:
        process = ctx.Process(target=notify_and_die, args=(condition,))
        process.start()
        with pytest.raises(procession.OwnerDied):
            condition.wait(LONG)
        condition.notify()  # asserts that the calling thread holds the lock
    process.join(LONG)


def notify_and_die(condition):
    condition.acquire()
    condition.notify()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
def test_permits_of_the_dead_come_back_if_asked_for(ctx, kind):
    semaphore = getattr(ctx, kind)(2, recover="silent")
    process = held_by(ctx, semaphore)
    assert semaphore.get_value() == 1
    process.kill()
    assert semaphore.acquire(timeout=LONG) and semaphore.acquire(timeout=LONG)
    assert not semaphore.acquire(False)
    process.join(LONG)
    semaphore.release()
    semaphore.release()
    assert semaphore.get_value() == 2
    if kind == "BoundedSemaphore":
        with pytest.raises(ValueError):
            semaphore.release()


def test_permits_of_the_dead_are_gone_otherwise(ctx):
    semaphore = ctx.Semaphore(1)
    process = held_by(ctx, semaphore)
    process.kill()
    process.join(LONG)
    assert not semaphore.acquire(timeout=0.1)


def test_a_word_that_means_nothing_is_refused():
    for make, word in [
        (procession.Lock, "no"),
        (procession.RLock, ""),
        (procession.Semaphore, "error"),
    ]:
        with pytest.raises(ValueError, match=r"recover is .*silent"):
            make(recover=word)
