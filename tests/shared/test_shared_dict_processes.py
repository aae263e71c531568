"""`SharedDict` between processes, through deaths and stops, beside handlers and forks; its memory."""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import threading

import pytest

import procession
from procession import SharedDict
from procession._procession import arena_fd, counters
from tests.conftest import METHODS


def add(shared, keys, rounds):
    for _ in range(rounds):
        for key in keys:
            shared.increment(key)
            shared.increment(("all", key % 3))


def test_processes_add_up(ctx):
    shared = ctx.SharedDict(start=0)
    keys = range(50)
    processes = [ctx.Process(target=add, args=(shared, keys, 40)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [shared[key] for key in keys] == [160] * 50
    assert sum(shared["all", n] for n in range(3)) == 160 * 50
    assert [process.exitcode for process in processes] == [0] * 4


def echo(inner, results):
    shared = inner.get()["dictionary"]
    shared["child"] = 1
    results.put(shared)


def test_it_travels_in_messages(ctx):
    inner, results = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=echo, args=(inner, results))
    process.start()
    inner.put({"dictionary": SharedDict(parent=1)})
    assert results.get() == {"parent": 1, "child": 1}
    process.join()


def write_for_ever(shared, number, ready):
    ready.release()
    for turn in itertools.count():
        key = turn % 700
        shared[key] = (number, turn, "x" * (turn % 5 * 400))
        shared.pop((number, turn - 50), None)
        shared[number, turn] = b"y" * (turn % 3 * 900)


@pytest.mark.parametrize("method", METHODS)
def test_killed_writers_leave_a_whole_dictionary(method):
    ctx = procession.get_context(method)
    SharedDict(a=1)
    gc.collect()
    before = counters()
    shared, ready = ctx.SharedDict(), ctx.Semaphore(0)
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
        for key, value in shared.items():
            if isinstance(key, int):
                _, turn, text = value
                assert turn % 700 == key and text == "x" * (turn % 5 * 400)
            else:
                assert value == b"y" * (key[1] % 3 * 900)
        shared["survivor"] = 1
        assert shared.pop("survivor") == 1
    del writers, writer, ready
    shared.clear()
    del shared
    gc.collect()
    assert counters()["transit"] == before["transit"]


def test_nobody_waits_for_a_stopped_writer(ctx):
    shared, ready = ctx.SharedDict(), ctx.Semaphore(0)
    writers = [ctx.Process(target=write_for_ever, args=(shared, n, ready)) for n in range(2)]
    for writer in writers:
        writer.start()
    for _ in writers:
        ready.acquire()
    try:
        for _ in range(20):
            for writer in writers:
                os.kill(writer.pid, signal.SIGSTOP)
            for key in range(800):
                shared["own", key] = key
            assert sum(shared["own", key] for key in range(800)) == sum(range(800))
            snapshot = shared.copy()
            assert len(snapshot) == len(shared) >= 800
            for writer in writers:
                os.kill(writer.pid, signal.SIGCONT)
    finally:
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()


def test_signal_handlers_and_finalizers_use_it_too():
    shared = SharedDict(n=0)

    class Reenters:
        def __reduce__(self):
            shared.increment("pickled")
            return str, ("value",)

        def __del__(self):
            shared.increment("finalized")

        def __hash__(self):
            shared.increment("hashed")
            return 1

    signalled = []

    def handler(*_):
        signalled.append(shared.increment("signals"))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(300):
            shared["value"] = Reenters()
            shared[Reenters()] = 1
            shared.increment("n")
            list(shared.items())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert shared["n"] == 300 and shared["value"] == "value"
    assert shared["pickled"] == 600 and shared["finalized"] == 600 and shared["hashed"] == 300
    assert shared.get("signals", 0) == len(signalled)


def test_a_child_forked_while_threads_write():
    shared = SharedDict()
    stop = threading.Event()

    def work(number):
        for turn in itertools.count():
            shared[number, turn % 600] = "x" * (turn % 4 * 500)
            if stop.is_set():
                return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(20):
            process = procession.get_context("fork").Process(
                target=add, args=(shared, range(20), 5)
            )
            process.start()
            process.join()
            assert process.exitcode == 0
            assert shared[0] == 5 * (turn + 1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_child_uses_what_its_parent_dropped():
    ctx = procession.get_context("fork")
    held, seen, go = [SharedDict(a="x" * 3000)], ctx.Queue(), ctx.Event()

    def look():
        go.wait()
        seen.put(held[0]["a"])

    process = ctx.Process(target=look)
    process.start()
    held.clear()
    gc.collect()
    go.set()
    assert seen.get() == "x" * 3000
    process.join()


@pytest.mark.parametrize(("live", "size"), [(1000, 8), (2000, 3000)])
def test_memory_is_bounded_while_keys_come_and_go(live, size):
    def committed():
        return os.fstat(arena_fd()).st_blocks * 512

    gc.collect()
    shared, chance, before = SharedDict(), random.Random(live), committed()
    keys = [chance.getrandbits(64) for _ in range(live)]
    for key in keys:
        shared[key] = bytes(size)
    entries = committed() - before
    for _ in range(100_000):
        place = chance.randrange(live)
        assert shared.pop(keys[place]) == bytes(size)
        keys[place] = chance.getrandbits(64)
        shared[keys[place]] = bytes(size)
    assert committed() - before < 2 * entries + (16 << 20)
    assert len(shared) == live
