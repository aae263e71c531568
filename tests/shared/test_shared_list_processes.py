"""`SharedList` between processes, through deaths and stops, and beside handlers and forks."""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import threading

import pytest

import procession
from procession import SharedList
from procession._procession import counters
from tests.conftest import METHODS


def add(shared, number, rounds):
    for turn in range(rounds):
        shared.increment(turn % 3)
        shared.append((number, turn))
        if turn % 50 == 0:
            shared.extend([(number, turn)] * 3)


def test_processes_add_up(ctx):
    shared = ctx.SharedList([0, 0, 0])
    processes = [ctx.Process(target=add, args=(shared, number, 300)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert sum(shared[:3]) == 1200
    for number in range(4):
        turns = [turn for owner, turn in shared[3:] if owner == number]
        expected = [[turn] * (4 if turn % 50 == 0 else 1) for turn in range(300)]
        assert turns == list(itertools.chain(*expected)), "in the order in which they were added"


def echo(inner, results):
    shared = inner.get()["list"]
    shared.append("child")
    results.put(shared)


def test_it_travels_in_messages(ctx):
    inner, results = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=echo, args=(inner, results))
    process.start()
    inner.put({"list": SharedList(["parent"])})
    assert results.get() == ["parent", "child"]
    process.join()


def take(shared, results, ready):
    ready.wait()
    taken = []
    try:
        while True:
            taken.append(shared.pop(0))
    except IndexError:
        results.put(taken)


def test_each_item_is_popped_once(ctx):
    shared, results, ready = ctx.SharedList(range(900)), ctx.Queue(), ctx.Event()
    processes = [ctx.Process(target=take, args=(shared, results, ready)) for _ in range(3)]
    for process in processes:
        process.start()
    ready.set()
    taken = [results.get() for _ in processes]
    for process in processes:
        process.join()
    assert all(some == sorted(some) for some in taken)
    assert sorted(itertools.chain(*taken)) == list(range(900)) and shared == []


def write_for_ever(shared, number, ready):
    """Change the list in such a way that it is a row of pairs at any moment."""
    ready.release()
    chance = random.Random(number)
    for turn in itertools.count():
        value = (number, turn, "x" * (turn % 4 * 90))
        match turn % 6:
            case 0 | 1:
                shared.extend([value, value])
            case 2:
                # A slice of even bounds, whatever the length is by now.
                at = chance.randrange(300) * 2
                shared[at : at + 2] = [value, value, value, value]
            case 3 if len(shared) > 800:
                del shared[: chance.randrange(300) * 2]
            case 4:
                shared.reverse()
            case 5:
                shared.sort(key=repr)


def is_whole(items):
    return items[::2] == items[1::2] and all(
        text == "x" * (turn % 4 * 90) for _, turn, text in items
    )


@pytest.mark.parametrize("method", METHODS)
def test_killed_writers_leave_a_whole_list(method):
    ctx = procession.get_context(method)
    SharedList([1])
    gc.collect()
    before = counters()
    shared, ready = ctx.SharedList(), ctx.Semaphore(0)
    chance = random.Random(7)
    for _ in range(2):
        writers = [ctx.Process(target=write_for_ever, args=(shared, n, ready)) for n in range(2)]
        for writer in writers:
            writer.start()
        for _ in writers:
            ready.acquire()
        for writer in writers:
            threading.Event().wait(chance.random() / 5)
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            snapshot = shared.copy()
            assert is_whole(snapshot)
        assert len(shared) == len(snapshot)
        shared.append("survivor")
        assert shared.pop() == "survivor"
    del writers, writer, ready
    shared.clear()
    assert counters()["transit"] == before["transit"] + 1
    del shared
    gc.collect()
    assert counters()["transit"] == before["transit"]


def test_nobody_waits_for_a_stopped_writer(ctx):
    shared, ready = ctx.SharedList(), ctx.Semaphore(0)
    writers = [ctx.Process(target=write_for_ever, args=(shared, n, ready)) for n in range(2)]
    for writer in writers:
        writer.start()
    for _ in writers:
        ready.acquire()
    try:
        for _ in range(20):
            for writer in writers:
                os.kill(writer.pid, signal.SIGSTOP)
            for number in range(100):
                value = (9, number, "x" * (number % 4 * 90))
                shared.extend([value] * 2)
            snapshot = shared.copy()
            assert is_whole(snapshot) and len(snapshot) == len(shared) >= 200
            assert snapshot[-1] == value
            for writer in writers:
                os.kill(writer.pid, signal.SIGCONT)
            assert is_whole(shared.copy())
    finally:
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()


def test_signal_handlers_and_finalizers_use_it_too():
    shared = SharedList([0, 0, 0])

    class Reenters:
        def __reduce__(self):
            shared.increment(1)
            return str, ("value",)

        def __del__(self):
            shared.increment(2)

    signalled = []

    def handler(*_):
        signalled.append(shared.increment(-1, "s") if shared[-1] == "" else shared.append(""))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(300):
            shared.append(Reenters())
            shared[0] += 1
            shared.sort(key=lambda item: isinstance(item, str))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert shared[:3] == [300] * 3 and shared.count("value") == 300
    assert len(shared) == 303 + sum(result is None for result in signalled)


def test_a_child_forked_while_threads_write():
    shared = SharedList([0])
    stop = threading.Event()

    def work():
        for turn in itertools.count():
            shared.append("x" * (turn % 4 * 100))
            if turn % 10 == 9:
                del shared[1:6]
            if stop.is_set():
                return

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    ctx = procession.get_context("fork")
    try:
        for turn in range(20):
            process = ctx.Process(target=shared.increment, args=(0,))
            process.start()
            process.join()
            assert process.exitcode == 0
            assert shared[0] == turn + 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_child_uses_what_its_parent_dropped():
    ctx = procession.get_context("fork")
    held, seen, go = [SharedList(["x" * 3000])], ctx.Queue(), ctx.Event()

    def look():
        go.wait()
        seen.put(held[0].pop())

    process = ctx.Process(target=look)
    process.start()
    held.clear()
    gc.collect()
    go.set()
    assert seen.get() == "x" * 3000
    process.join()
