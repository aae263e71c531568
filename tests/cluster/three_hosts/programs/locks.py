"""Scenes of locks, semaphores, conditions, events and barriers between hosts, and their owners' deaths."""

from __future__ import annotations

import itertools
import os
import signal
import threading

from scenes import LONG, host, hosts_of, joined, main, started

import procession

TURNS = 40


def count(lock, counter, places, place):
    for _ in range(TURNS):
        with lock:
            counter.value += 1
    places.put((place, host()))


def mutual_exclusion(ctx):
    for lock in (
        ctx.Lock(),
        ctx.RLock(),
        ctx.Semaphore(1),
        ctx.BoundedSemaphore(1),
        ctx.Condition(),
    ):
        counter, places = ctx.RawValue("i", 0), ctx.SimpleQueue()
        arguments = (lock, counter, places)
        processes = [started(ctx, count, *arguments, number)[0] for number in range(4)]
        for _ in range(TURNS):
            with lock:
                counter.value += 1
        joined(processes)
        assert counter.value == 5 * TURNS
        found = [places.get() for _ in processes]
        assert len({name for _, name in found}) == hosts_of(ctx.get_start_method())


def hold(lock, held, event, times=1):
    for _ in range(times):
        lock.acquire()
    held.set()
    event.wait()
    for _ in range(times):
        lock.release()


def a_lock_that_another_process_holds(ctx):
    for lock, times in ((ctx.Lock(), 1), (ctx.RLock(), 3), (ctx.RLock(), 1)):
        held, event = ctx.Event(), ctx.Event()
        process = started(ctx, hold, lock, held, event, times)
        assert held.wait(LONG)
        assert not lock.acquire(False)
        assert not lock.acquire(timeout=0.05)
        event.set()
        assert lock.acquire(timeout=LONG)
        lock.release()
        joined(process)


def misuse(results, lock, reentrant, bounded):
    seen = []
    try:
        lock.release()
    except ValueError:
        seen.append("Lock")
    try:
        reentrant.release()
    except AssertionError:
        seen.append("RLock")
    try:
        bounded.release()
    except ValueError:
        seen.append("BoundedSemaphore")
    results.put(seen)


def wrong_releases(ctx):
    for _ in range(2):
        results, reentrant = ctx.SimpleQueue(), ctx.RLock()
        with reentrant:
            made = (results, ctx.Lock(), reentrant, ctx.BoundedSemaphore(1))
            process = started(ctx, misuse, *made)
            assert results.get() == ["Lock", "RLock", "BoundedSemaphore"]
        joined(process)


def be_inside(semaphore, inside, most, turns):
    for _ in range(turns):
        with semaphore:
            with inside.get_lock():
                inside.value += 1
                most.value = max(most.value, inside.value)
            with inside.get_lock():
                inside.value -= 1


def a_semaphore_counts(ctx):
    semaphore, inside, most = ctx.Semaphore(2), ctx.Value("i", 0), ctx.RawValue("i", 0)
    joined(started(ctx, be_inside, semaphore, inside, most, 20, times=4))
    assert inside.value == 0 and most.value in (1, 2)
    for _ in range(2):
        assert semaphore.acquire(False)
    assert not semaphore.acquire(timeout=0.05)


def wait_for_value(condition, value, answers):
    with condition:
        answers.put("waits")
        assert condition.wait_for(lambda: value.value == 7, LONG)
    answers.put("seen")


def a_condition(ctx):
    condition, value, answers = ctx.Condition(), ctx.RawValue("i", 0), ctx.Queue()
    processes = started(ctx, wait_for_value, condition, value, answers, times=3)
    assert [answers.get(timeout=LONG) for _ in processes] == ["waits"] * 3
    with condition:
        assert not condition.wait(0.05)
        value.value = 6
        condition.notify_all()
    with condition:
        value.value = 7
        condition.notify_all()
    assert [answers.get(timeout=LONG) for _ in processes] == ["seen"] * 3
    joined(processes)


def pass_on(mine, next_one):
    assert mine.wait(LONG)
    mine.clear()
    next_one.set()


def events(ctx):
    chain = [ctx.Event() for _ in range(4)]
    processes = [started(ctx, pass_on, *pair)[0] for pair in itertools.pairwise(chain)]
    assert not chain[-1].wait(0.05)
    chain[0].set()
    assert chain[-1].wait(LONG)
    joined(processes)
    assert [event.is_set() for event in chain] == [False, False, False, True]


def meet(barrier, answers, times):
    for turn in range(times):
        answers.put((turn, barrier.wait(LONG)))


def a_barrier(ctx):
    barrier, answers = ctx.Barrier(4), ctx.Queue()
    processes = started(ctx, meet, barrier, answers, 5, times=3)
    for turn in range(5):
        places = [barrier.wait(LONG)]
        found = [answers.get(timeout=LONG) for _ in processes]
        assert {number for number, _ in found} == {turn}
        assert sorted([place for _, place in found] + places) == [0, 1, 2, 3]
    joined(processes)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (4, 0, False)


def meet_in_vain(barrier, answers):
    try:
        barrier.wait(LONG)
    except threading.BrokenBarrierError:
        answers.put("broken")


def a_broken_barrier(ctx):
    barrier, answers = ctx.Barrier(4), ctx.Queue()
    processes = started(ctx, meet_in_vain, barrier, answers, times=2)
    try:
        barrier.wait(0.1)
    except threading.BrokenBarrierError:
        pass
    else:
        raise AssertionError("the barrier has a party too few")
    assert [answers.get(timeout=LONG) for _ in processes] == ["broken"] * 2
    assert barrier.broken
    joined(processes)
    barrier.reset()
    assert not barrier.broken


def take_and_die(lock, told, times):
    for _ in range(times):
        lock.acquire()
    told.put(host())
    while True:
        signal.pause()


def wait_for_lock(lock, ready, answers):
    ready.release()
    try:
        lock.acquire()
    except procession.OwnerDied as error:
        answers.put(("died", error.name))
    else:
        lock.release()
        answers.put(("taken", None))


def an_owner_dies(ctx):
    """One waiter learns of it, of all that wait on several hosts; then the lock is usable."""
    for kind, times in (("Lock", 1), ("RLock", 2), ("Condition", 1)):
        lock, told, ready, answers = (
            getattr(ctx, kind)(),
            ctx.Queue(),
            ctx.Semaphore(0),
            ctx.Queue(),
        )
        holder = started(ctx, take_and_die, lock, told, times, name="Holder")[0]
        told.get(timeout=LONG)
        waiters = started(ctx, wait_for_lock, lock, ready, answers, times=3)
        for _ in waiters:
            assert ready.acquire(timeout=LONG)
        holder.kill()
        found = sorted((answers.get(timeout=LONG) for _ in waiters), key=str)
        assert found == [("died", "Holder"), ("taken", None), ("taken", None)], found
        holder.join(LONG)
        assert holder.exitcode == -signal.SIGKILL
        joined(waiters)
        assert lock.acquire(timeout=LONG)
        lock.release()


def the_driver_learns_of_an_owners_death(ctx):
    for _ in range(3):
        lock, told = ctx.Lock(), ctx.Queue()
        holder = started(ctx, take_and_die, lock, told, 1, name="Holder")[0]
        told.get(timeout=LONG)
        assert not lock.acquire(timeout=0.05)
        holder.kill()
        try:
            lock.acquire(timeout=LONG)
        except procession.OwnerDied as error:
            assert error.name == "Holder"
        else:
            raise AssertionError("the lock was acquired, or not within its timeout")
        with lock:
            pass
        holder.join(LONG)


def hold_permits(semaphore, told):
    for _ in range(2):
        semaphore.acquire()
    told.put(os.getpid())
    while True:
        signal.pause()


def permits_of_a_dead_process(ctx):
    """They are lost, as in the standard library, unless the semaphore was made to recover them."""
    for options in ({}, {"recover": "silent"}):
        semaphore, told = ctx.Semaphore(2, **options), ctx.Queue()
        holder = started(ctx, hold_permits, semaphore, told)[0]
        told.get(timeout=LONG)
        holder.kill()
        holder.join(LONG)
        if options:
            assert semaphore.acquire(timeout=LONG) and semaphore.acquire(timeout=LONG)
        else:
            assert not semaphore.acquire(timeout=0.2)


if __name__ == "__main__":
    main()
