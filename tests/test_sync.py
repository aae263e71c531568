"""Locks, semaphores, conditions, events and barriers, between threads and processes."""

from __future__ import annotations

import functools
import inspect
import multiprocessing.synchronize
import os
import pickle
import signal
import subprocess
import sys
import threading

import pytest
from waiting import LONG, until

import procession
from procession import synchronize

KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"]

# Behaviour of both packages


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
            assert parameters[0] == [name for name in parameters[1] if name != "recover"]


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


@pytest.mark.skipif(sys.version_info < (3, 14), reason="it can be made before Python 3.14")
def test_a_barrier_of_nobody(package):
    for parties in (0, -1):
        with pytest.raises(ValueError, match="parties must be >"):
            package.Barrier(parties)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="it cannot be made from Python 3.14 on")
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


# Between processes


def add(lock, value, times):
    for _ in range(times):
        with lock:
            value.value += 1


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_processes_exclude_each_other(both, kind):
    lock, value = getattr(both, kind)(), both.Value("i", 0, lock=False)
    processes = [both.Process(target=add, args=(lock, value, 500)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LONG)
    assert value.value == 1500


def meet(barrier, rounds, results):
    for _ in range(rounds):
        results.put(barrier.wait(LONG))


def test_processes_meet_at_a_barrier(both):
    barrier, results = both.Barrier(3), both.SimpleQueue()
    processes = [both.Process(target=meet, args=(barrier, 20, results)) for _ in range(3)]
    for process in processes:
        process.start()
    indexes = [results.get() for _ in range(60)]
    for process in processes:
        process.join(LONG)
    assert sorted(indexes) == sorted([0, 1, 2] * 20)


def wait_in_line(condition, number, order):
    with condition:
        order.put(("waits", number))
        condition.wait()
        order.put(("woken", number))


def test_who_waits_longest_is_notified_first(ctx):
    condition, order = ctx.Condition(), ctx.SimpleQueue()
    processes = []
    for number in range(3):
        processes.append(ctx.Process(target=wait_in_line, args=(condition, number, order)))
        processes[-1].start()
        assert order.get() == ("waits", number)
    for number in range(3):
        with condition:
            condition.notify()
        assert order.get() == ("woken", number)
    for process in processes:
        process.join(LONG)


def answer(event, reply):
    assert event.wait(LONG)
    reply.set()


def test_an_event_between_processes(both):
    event, reply = both.Event(), both.Event()
    process = both.Process(target=answer, args=(event, reply))
    process.start()
    event.set()
    assert reply.wait(LONG)
    process.join(LONG)


def use_what_arrives(queue, done):
    lock, condition, barrier, semaphore, event = queue.get()
    with lock, condition:
        condition.notify()
    semaphore.release()
    barrier.wait(LONG)
    event.set()
    done.set()


def test_they_travel_in_queues(ctx):
    """The standard library allows inheritance only."""
    queue, done = ctx.Queue(), ctx.Event()
    process = ctx.Process(target=use_what_arrives, args=(queue, done))
    process.start()
    things = [ctx.Lock(), ctx.Condition(ctx.Lock()), ctx.Barrier(2), ctx.Semaphore(0), ctx.Event()]
    queue.put(things)
    things[2].wait(LONG)
    assert done.wait(LONG)
    assert things[3].get_value() == 1 and things[4].is_set()
    process.join(LONG)


def test_an_object_lives_as_long_as_a_message_holds_it(ctx):
    queue = ctx.Queue()
    for value in range(100):
        queue.put(ctx.Semaphore(value))
    assert [queue.get().get_value() for _ in range(100)] == list(range(100))


class Named(synchronize.Lock):
    """A user-defined subclass."""


def test_subclasses_travel():
    lock = Named(ctx=procession.get_context())
    copy = pickle.loads(pickle.dumps(lock))
    assert type(copy) is Named
    with lock:
        assert not copy.acquire(False)


# Fork, signals, other families


def test_a_child_of_fork_does_not_hold_what_its_parent_holds():
    lock, rlock = procession.Lock(), procession.RLock()
    with lock, rlock:
        child = os.fork()
        if child == 0:
            os._exit(int(lock.acquire(False) or rlock.acquire(False)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


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
