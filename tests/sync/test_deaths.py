"""What happens to locks, conditions and barriers when a holder or waiter dies.

Which error names the dead holder is tested in test_owner_died.py.
"""

from __future__ import annotations

import os
import signal
import threading

import pytest

import procession
from tests.waiting import LONG, until


def take_and_die(lock, times=1):
    for _ in range(times):
        lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition"])
def test_the_death_of_a_holder_is_told_once(ctx, kind):
    lock = getattr(ctx, kind)()
    process = ctx.Process(target=take_and_die, args=(lock,), name="Holder")
    process.start()
    process.join(LONG)
    with pytest.raises(procession.OwnerDied, match=r"Holder.*died") as caught:
        lock.acquire()
    assert caught.value.pid == process.pid and caught.value.name == "Holder"
    assert isinstance(caught.value, procession.ProcessError)
    with lock:
        pass


def test_a_probe_learns_of_the_death_too(ctx):
    lock = ctx.Lock()
    process = ctx.Process(target=take_and_die, args=(lock,))
    process.start()
    process.join(LONG)

    def probe():
        try:
            return lock.acquire(False)
        except procession.OwnerDied:
            died.append(True)

    died = []
    until(probe)
    assert died == [True]


def wait_for_lock(lock, ready, results):
    ready.release()
    try:
        lock.acquire()
        results.put("taken")
        lock.release()
    except procession.OwnerDied:
        results.put("died")


def test_one_of_several_waiters_is_told(ctx):
    lock, ready, results = ctx.Lock(), ctx.Semaphore(0), ctx.SimpleQueue()
    lock.acquire()
    waiters = [ctx.Process(target=wait_for_lock, args=(lock, ready, results)) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    for _ in waiters:
        assert ready.acquire(timeout=LONG)
    victim = ctx.Process(target=take_and_die, args=(lock,))
    victim.start()
    lock.release()
    ends = sorted(results.get() for _ in waiters)
    victim.join(LONG)
    # The victim dies with the lock whenever it acquires it: before, between or after the others.
    assert ends in (["died", "taken", "taken"], ["taken"] * 3)
    for waiter in waiters:
        waiter.join(LONG)


def wait_at(barrier, ready, results):
    ready.release()
    try:
        results.put(barrier.wait())
    except threading.BrokenBarrierError:
        results.put("broken")


def test_a_death_at_the_barrier_breaks_it(ctx):
    barrier, ready, results = ctx.Barrier(4), ctx.Semaphore(0), ctx.SimpleQueue()
    processes = [ctx.Process(target=wait_at, args=(barrier, ready, results)) for _ in range(3)]
    for process in processes:
        process.start()
    until(lambda: barrier.n_waiting == 3)
    processes[0].kill()
    assert [results.get(), results.get()] == ["broken", "broken"]
    for process in processes:
        process.join(LONG)
    assert barrier.broken


def wait_in_line(condition, order):
    with condition:
        order.put("waits")
        condition.wait()
        order.put("woken")


def wait_for_ever(condition, ready):
    with condition:
        ready.set()
        condition.wait()


def test_a_dead_waiter_gets_no_notification(ctx):
    condition, ready, order = ctx.Condition(), ctx.Event(), ctx.SimpleQueue()
    victim = ctx.Process(target=wait_for_ever, args=(condition, ready))
    victim.start()
    assert ready.wait(LONG)
    until(lambda: "1)>" in repr(condition))
    heir = ctx.Process(target=wait_in_line, args=(condition, order))
    heir.start()
    assert order.get() == "waits"
    victim.kill()
    victim.join(LONG)
    with condition:
        condition.notify()
    assert order.get() == "woken"
    heir.join(LONG)
