"""Locks, semaphores, conditions, events and barriers: what they are to the threads of one process.

Most tests run on the standard library's, too. Processes are in test_processes.py, signals in
test_signals.py, and the deaths of holders in test_owner_died.py and test_deaths.py.
"""

from __future__ import annotations

import functools
import inspect
import multiprocessing.synchronize
import os
import pickle
import subprocess
import sys
import threading

import pytest

import procession
from procession import synchronize
from tests.waiting import LONG, until

KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"]


def test_a_lock_is_taken_once(package):
    lock = package.Lock()
    assert lock.acquire() is True
    assert lock.acquire(False) is False
    assert lock.acquire(True, 0.01) is False
    assert lock.acquire(block=True, timeout=-1) is False
    assert lock.release() is None
    with lock as taken:
        assert taken is True
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        lock.release()


def test_a_lock_may_be_released_by_another_thread(package):
    lock = package.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert lock.acquire(False)


def test_an_rlock_belongs_to_a_thread(package):
    lock = package.RLock()
    for _ in range(3):
        assert lock.acquire(timeout=5)
    seen = []

    def other():
        seen.append(lock.acquire(False))
        try:
            lock.release()
        except AssertionError as error:
            seen.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [False, "attempt to release recursive lock not owned by thread"]
    for _ in range(3):
        lock.release()
    with pytest.raises(
        AssertionError, match="attempt to release recursive lock not owned by thread"
    ):
        lock.release()


def test_bad_arguments(package):
    for kind in "Lock", "RLock", "Semaphore":
        lock = getattr(package, kind)()
        for args, kwargs in [
            ((1, 2, 3), {}),
            ((), {"wait": 1}),
            ((True, "soon"), {}),
            ((True,), {"block": True}),
        ]:
            with pytest.raises(TypeError):
                lock.acquire(*args, **kwargs)
        assert lock.acquire(False)


def test_semaphores_count(package):
    semaphore = package.Semaphore(2)
    assert [semaphore.acquire(False) for _ in range(3)] == [True, True, False]
    assert semaphore.get_value() == 0
    for _ in range(3):
        semaphore.release()
    assert semaphore.get_value() == 3
    bounded = package.BoundedSemaphore(1)
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        bounded.release()
    with bounded:
        assert bounded.get_value() == 0
    assert package.Semaphore(0).get_value() == 0
    with pytest.raises((ValueError, OSError)):
        package.Semaphore(-1)


@pytest.mark.parametrize("kind", [*KINDS, "Barrier"])
def test_signatures(kind):
    theirs, ours = getattr(multiprocessing.synchronize, kind), getattr(synchronize, kind)
    for name in "__init__", "wait", "wait_for":
        if hasattr(theirs, name):
            parameters = [
                list(inspect.signature(getattr(each, name)).parameters) for each in (theirs, ours)
            ]
            assert parameters[0] == [
                name for name in parameters[1] if name not in ("recover", "name")
            ]


def test_reprs(package):
    lock, rlock = package.Lock(), package.RLock()
    assert (repr(lock), repr(rlock)) == ("<Lock(owner=None)>", "<RLock(None, 0)>")
    with lock, rlock, rlock:
        assert (repr(lock), repr(rlock)) == ("<Lock(owner=MainProcess)>", "<RLock(MainProcess, 2)>")
        seen = []
        thread = threading.Thread(target=lambda: seen.extend([repr(lock), repr(rlock)]))
        thread.start()
        thread.join()
        assert seen == ["<Lock(owner=SomeOtherThread)>", "<RLock(SomeOtherThread, nonzero)>"]
    assert repr(package.Semaphore(3)) == "<Semaphore(value=3)>"
    assert repr(package.BoundedSemaphore(3)) == "<BoundedSemaphore(value=3, maxvalue=3)>"
    assert repr(package.Condition()) == "<Condition(<RLock(None, 0)>, 0)>"


def test_a_condition_needs_its_lock(package):
    condition = package.Condition()
    for call in condition.wait, condition.notify, condition.notify_all:
        with pytest.raises(AssertionError):
            call()
    with condition:
        assert condition.wait(0.01) is False
        assert condition.wait_for(lambda: 0, 0.01) == 0
        assert condition.wait_for(lambda: "yes") == "yes"
        condition.notify()
        condition.notify_all()


def test_a_condition_gives_its_lock_up_altogether(package):
    condition = package.Condition()
    done = []

    def other():
        with condition:
            done.append(True)
            condition.notify()

    with condition, condition:
        thread = threading.Thread(target=other)
        thread.start()
        assert condition.wait_for(lambda: done, LONG)
    thread.join()
    with pytest.raises(AssertionError):
        condition.release()


def test_an_event(package):
    event = package.Event()
    assert not event.is_set() and event.wait(0.01) is False
    event.set()
    event.set()
    assert event.is_set() and event.wait() is True and event.wait(0) is True
    event.clear()
    assert not event.is_set() and event.wait(0) is False


def test_nobody_gets_past_a_barrier_of_nobody(package):
    for parties in (0, -1, -(2**20)):
        barrier = package.Barrier(parties)
        assert (barrier.parties, barrier.n_waiting, barrier.broken) == (parties, 0, False)
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(0.01)
        assert barrier.broken


def test_a_barrier_of_threads(package):
    acted = []
    barrier = package.Barrier(3, action=lambda: acted.append(1))
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    indexes = []
    threads = [
        threading.Thread(target=lambda: indexes.append(barrier.wait(LONG))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(indexes) == [0, 1, 2] and acted == [1]
    assert barrier.n_waiting == 0


def test_a_barrier_breaks(package):
    barrier = package.Barrier(2, timeout=0.01)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    assert barrier.broken and barrier.n_waiting == 0
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken
    barrier.abort()
    assert barrier.broken


def test_an_action_that_raises_breaks_the_barrier(package):
    def action():
        raise ZeroDivisionError

    barrier = package.Barrier(1, action)
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    assert barrier.broken


@pytest.mark.parametrize("call", ["abort", "reset"])
def test_an_action_may_call_its_barrier(package, call):
    barrier = package.Barrier(1, lambda: getattr(barrier, call)())
    assert barrier.wait(LONG) == 0
    assert not barrier.broken


@pytest.mark.parametrize("end", ["abort", "reset"])
def test_a_barrier_is_broken_from_outside(package, end):
    barrier = package.Barrier(2)
    seen = []

    def wait():
        try:
            barrier.wait(LONG)
        except threading.BrokenBarrierError:
            seen.append(barrier.broken)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: barrier.n_waiting == 1)
    getattr(barrier, end)()
    thread.join()
    assert len(seen) == 1 and barrier.broken == (end == "abort")


def test_threads_run_while_one_waits(package):
    """A waiting thread releases the interpreter's lock."""
    lock = package.Lock()
    lock.acquire()
    threading.Timer(0.01, lock.release).start()
    assert lock.acquire(timeout=LONG)


@pytest.mark.parametrize("kind", KINDS)
def test_another_family_is_told_so(kind):
    thing = getattr(procession, kind)()
    text = f"import pickle, procession; procession.Lock(); pickle.loads({pickle.dumps(thing)!r})"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=LONG
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ValueError: this ")
    assert "belongs to another family of processes" in done.stderr


def test_a_handle_of_what_is_gone_is_told_so():
    lock = procession.Lock()
    pickled = pickle.dumps(lock)
    del lock
    with pytest.raises(ValueError, match="no longer exists"):
        pickle.loads(pickled)


def test_ten_thousand_locks_cost_no_descriptors(alone):
    def count():
        before = len(os.listdir("/proc/self/fd"))
        locks = [procession.Lock() for _ in range(10_000)]
        assert len(os.listdir("/proc/self/fd")) == before
        for lock in locks:
            with lock:
                pass

    alone(count)


def test_a_base_constructor_that_was_not_called_is_told_so():
    class Forgetful(synchronize.Lock):
        def __init__(self):
            pass

    for call in functools.partial(Forgetful().acquire), Forgetful().release:
        with pytest.raises(RuntimeError, match="__init__"):
            call()
