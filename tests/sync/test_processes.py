"""Locks, semaphores, conditions, events and barriers between processes.

How they travel and how long they live is tested here, too; threads alone in test_threads.py.
"""

from __future__ import annotations

import os
import pickle

import pytest

import procession
from procession import synchronize
from tests.waiting import LONG


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
