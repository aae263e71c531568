"""Interpreters that end while daemon threads are inside the extension.

`python -m tests.storm.ends ENTRY METHOD SEED` is one of them. Each of `ENTRIES` makes what some
threads then do in a loop. Each lets Python code run beneath a call of the extension where there is
any: reducers, functions that unpickle, callbacks, finalizers. Such a program prints nothing and
exits with 0: what the end takes away from under a thread raises nothing there, except in calls of a
manager and at a listener, and in starts of processes, which the exit functions end as those of the
standard library do.
"""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import procession
from procession.connection import Client, Listener, wait
from procession.managers import RemoteError, SyncManager
from procession.queues import Empty

PAUSE = 0.002
"""Seconds of Python code beneath a call of the extension, without the interpreter's lock."""

Steps = list[Callable[[], object]]


def slow_int() -> int:
    time.sleep(PAUSE)
    return 0


class Slow:
    """An object that is slow to pickle, to unpickle, and to be dropped."""

    def __reduce__(self) -> Any:
        time.sleep(PAUSE)
        return Slow, ()

    def __del__(self, sleep: Any = time.sleep) -> None:
        sleep(PAUSE)


class SlowBuffer(bytearray):
    """A buffer that travels outside the pickle."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        import pickle

        time.sleep(PAUSE)
        return bytearray, (pickle.PickleBuffer(self),)


def slowly(_item: Any = None) -> Slow:
    return Slow()


def simple_queues(context: Any) -> Steps:
    queue = context.SimpleQueue()
    return [lambda: (queue.put(Slow()), queue.get())]


def queues(context: Any) -> Steps:
    queue, full, empty = context.Queue(), context.Queue(1), context.JoinableQueue()
    full.put(0)
    empty.put(0)
    return [
        lambda: (queue.put(Slow(), timeout=1), queue.get(timeout=1)),
        lambda: (queue.put(SlowBuffer(1 << 15)), queue.get()),
        lambda: queue.put(lambda: Slow),  # by value
        lambda: full.put(1),
        lambda: wait([empty._reader], 0.001),
        lambda: empty.join(),
    ]


def empty_queues(context: Any) -> Steps:
    queue = context.Queue()
    return [queue.get, lambda: queue.get(timeout=0.001), queue.get_nowait]


def locks(context: Any) -> Steps:
    lock, rlock, semaphore = context.Lock(), context.RLock(), context.BoundedSemaphore(1)

    def take(one: Any) -> Callable[[], object]:
        def step() -> None:
            with one:
                slow_int()
            one.acquire(timeout=0.001) and one.release()

        return step

    return [take(lock), take(rlock), take(semaphore), lambda: context.Lock()]


def conditions(context: Any) -> Steps:
    event, condition = context.Event(), context.Condition()
    barrier = context.Barrier(2, slow_int)

    def notify() -> None:
        with condition:
            condition.notify_all()
        event.set()
        event.clear()

    def hear() -> None:
        with condition:
            condition.wait(0.01)
            condition.wait_for(slow_int, 0.001)

    return [notify, hear, event.wait, lambda: event.wait(0.001), barrier.wait, barrier.wait]


def pools(context: Any) -> Steps:
    pool = context.Pool(2, initializer=slow_int)
    return [
        lambda: pool.apply(slowly),
        lambda: pool.apply_async(slowly, (Slow(),), callback=slowly).wait(),
        lambda: pool.map(slowly, [Slow()] * 3),
        lambda: list(pool.imap(slowly, (Slow() for _ in range(3)))),
        lambda: list(pool.imap_unordered(slowly, [Slow()] * 3, 2)),
        lambda: pool.starmap_async(slowly, [(Slow(),)] * 3).get(),
    ]


def short_pools(context: Any) -> Steps:
    def step() -> None:
        with context.Pool(1) as pool:
            pool.apply_async(slowly)
        pool.join()

    return [step]


def executors(context: Any) -> Steps:
    executor = procession.ProcessPoolExecutor(2, mp_context=context)

    def submit() -> None:
        future = executor.submit(slowly, Slow())
        future.add_done_callback(slowly)
        future.result()

    return [submit, lambda: list(executor.map(slowly, [Slow()] * 3))]


def managers(context: Any) -> Steps:
    manager = SyncManager(ctx=context)
    manager.start()
    shared, lock, queue = manager.list(), manager.Lock(), manager.Queue()

    def change() -> None:
        with lock:
            shared.append(Slow())
            shared.pop()

    return [change, queue.get, lambda: manager.dict(one=Slow())]


def connections(context: Any) -> Steps:
    one, other = context.Pipe()
    full, unread = context.Pipe()
    idle, _kept = context.Pipe()
    listener = Listener()

    def meet() -> None:
        with Client(listener.address) as client:
            client.send(Slow())

    def accept() -> None:
        with listener.accept() as server:
            server.recv()

    return [
        lambda: one.send(Slow()),
        other.recv,
        lambda: (full.send_bytes(b"x" * 100_000), unread),
        lambda: (idle.poll(0.001), idle.poll(None), _kept),
        lambda: wait([idle]),
        meet,
        accept,
    ]


def values(context: Any) -> Steps:
    value, array = context.Value("i"), context.Array("i", 10)

    def add() -> None:
        with value.get_lock():
            value.value += slow_int()
        array[:] = list(range(10))

    return [add, lambda: context.RawArray("i", 10)]


def processes(context: Any) -> Steps:
    sleeper = context.Process(target=time.sleep, args=(30,), daemon=True)
    sleeper.start()

    def start() -> None:
        process = context.Process(target=slow_int)
        process.start()
        process.join()

    return [start, sleeper.join, lambda: sleeper.join(0.001), lambda: wait([sleeper.sentinel])]


def started(context: Any) -> Steps:
    """Start what the exit functions end, while they do so, and keep it."""
    kept: list[Any] = []

    def manager() -> None:
        starting = SyncManager(ctx=context)
        starting.start()
        kept.append(starting)

    def pool() -> None:
        kept.append(context.Pool(1))
        kept[-1].apply_async(time.sleep, (60,))

    def daemon() -> None:
        process = context.Process(target=time.sleep, args=(60,), daemon=True)
        process.start()
        kept.append(process)

    def until_enough(step: Callable[[], None]) -> Callable[[], object]:
        return lambda: step() if len(kept) < 60 else time.sleep(PAUSE)

    return [until_enough(step) for step in (manager, pool, daemon)]


def garbage(context: Any) -> Steps:
    """Drop and collect extension objects together with Python objects that have finalizers."""
    pool = context.Pool(1)
    queue = context.SimpleQueue()

    def cycle() -> None:
        result = pool.apply_async(slowly)
        result.itself = result
        result.slow = Slow()
        del result
        gc.collect()

    def drop() -> None:
        queue.put((Slow(), SlowBuffer(1 << 15)))
        queue.get()
        # A Python subclass of the lock: unlike the lock, it has room for attributes.
        lock = context.Lock()
        lock.slow = Slow()
        context.Condition(lock)

    return [cycle, drop]


ENTRIES = {
    function.__name__: function
    for function in (
        simple_queues,
        queues,
        empty_queues,
        locks,
        conditions,
        pools,
        short_pools,
        executors,
        managers,
        connections,
        values,
        processes,
        started,
        garbage,
    )
}

#: Entries for which the start method matters.
BY_METHOD = ("pools", "short_pools", "executors", "managers", "processes", "started")


class Last:
    """Ends late, and gives the other threads time to ask for the interpreter's lock."""

    def __del__(self, sleep: Any = time.sleep) -> None:
        sleep(0.1)


def forever(step: Callable[[], object], ended: tuple[type[Exception], ...]) -> None:
    """Repeat a step. Errors of the classes `ended` are those of what the end takes away."""
    while True:
        try:
            step()
        except Empty:
            pass
        except ended:
            time.sleep(PAUSE)
        except AssertionError as error:
            # The end shuts a manager down; the standard library's, too, refuses this by an assertion.
            if str(error) != "Manager has shut down":
                raise
            time.sleep(PAUSE)
        except RuntimeError as error:
            # An executor takes no calls once the interpreter ends, as that of the standard library.
            # Some versions of Python start no threads then, and do not fork.
            text = str(error)
            if not text.startswith("cannot schedule new futures after") and not text.endswith(
                "at interpreter shutdown"
            ):
                raise
            time.sleep(PAUSE)  # without a spin, until the interpreter has ended


def main(entry: str, method: str, seed: str) -> None:
    global last
    last = Last()
    ended = (
        (EOFError, OSError, RemoteError) if entry in ("managers", "connections", "started") else ()
    )
    for step in ENTRIES[entry](procession.get_context(method)):
        for _ in range(2):
            threading.Thread(target=forever, args=(step, ended), daemon=True).start()
    # Not synchronisation: it only varies where the end falls.
    time.sleep(random.Random(seed).uniform(0, 0.1))


def run(entry: str, method: str, seed: int, timeout: float = 60) -> None:
    """Run such a program. Raises AssertionError unless it exits with 0 and prints nothing."""
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        [sys.executable, "-m", "tests.storm.ends", entry, method, str(seed)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
    )
    said = done.stdout + done.stderr
    assert (done.returncode, said) == (0, ""), f"{entry} by {method}: {done.returncode}\n{said}"


def storm(context: Any, seed: int, count: int) -> str:
    """Let `count` programs of each kind end; return a summary."""
    names = [name for name in ENTRIES if context.get_start_method() == "fork" or name in BY_METHOD]
    for number in range(count):
        for name in names:
            run(name, context.get_start_method(), seed + number)
    return f"{count * len(names)} interpreters ended with 0"


if __name__ == "__main__":
    main(*sys.argv[1:])
