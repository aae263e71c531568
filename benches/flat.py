"""Measure what operations cost with more and more objects or processes around.

Prints for each operation and each crowd the time alone, the time beside the crowd, and the ratio.
A crowd is a number of locks, of messages of 1,000 bytes that wait in a queue, or of processes that
sleep. A start and a death are measured in processor time of the parent and the fork server, and a
time is the first decile of many rounds: other programs on the machine change neither much.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import procession

CTX = procession.get_context("forkserver")
BURST = 200


def nothing() -> None:
    pass


def hold(lock: Any, ready: Any) -> None:
    with lock:
        ready.put((lock, bytes(1000)))
        time.sleep(600)


def sleep(ready: Any) -> None:
    ready.put(None)
    time.sleep(600)


def each(burst: Callable[[], None], count: int = BURST) -> float:
    """Return the microseconds of one call in a burst of `count`."""
    begin = time.perf_counter()
    for _ in range(count):
        burst()
    return (time.perf_counter() - begin) / count * 1e6


def put_and_get() -> dict[str, float]:
    queue = CTX.SimpleQueue()
    item = bytes(1000)
    return {"put": each(lambda: queue.put(item)), "get": each(lambda: queue.get() and None)}


def make_and_drop() -> dict[str, float]:
    made: list[Any] = []
    return {
        "make": each(lambda: made.append(CTX.Lock())),
        "drop": each(lambda: made.pop() and None),
    }


def processor_time() -> float:
    """Return the microseconds used by this process and its children.

    Of these, the fork server is the only one that is alive when it is called.
    """
    used = time.process_time() * 1e6
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as children:
            for pid in children.read().split():
                with open(f"/proc/{pid}/schedstat") as statistic:
                    used += int(statistic.read().split()[0]) / 1e3
    return used


def start() -> dict[str, float]:
    process = CTX.Process(target=nothing)
    begin = processor_time()
    process.start()
    process.join()
    return {"start": processor_time() - begin}


def death() -> dict[str, float]:
    lock, ready = CTX.Lock(), CTX.SimpleQueue()
    process = CTX.Process(target=hold, args=(lock, ready))
    process.start()
    ready.get()
    begin = processor_time()
    process.kill()
    process.join()  # what it held has been released by then
    return {"death": processor_time() - begin}


def measure(times: int) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for operation, rounds in (
        (put_and_get, 5 * times),
        (make_and_drop, 5 * times),
        (start, times),
        (death, times),
    ):
        operation()
        for _ in range(rounds):
            for name, microseconds in operation().items():
                found.setdefault(name, []).append(microseconds)
    return {name: statistics.quantiles(values, n=10)[0] for name, values in found.items()}


@contextmanager
def locks(count: int) -> Iterator[None]:
    crowd = [CTX.Lock() for _ in range(count)]
    gc.freeze()  # the collector's work on them must not be measured
    yield
    del crowd
    gc.unfreeze()


@contextmanager
def messages(count: int) -> Iterator[None]:
    queue = CTX.SimpleQueue()
    item = bytes(1000)
    for _ in range(count):
        queue.put(item)
    yield


@contextmanager
def processes(count: int) -> Iterator[None]:
    ready = CTX.SimpleQueue()
    crowd = [CTX.Process(target=sleep, args=(ready,)) for _ in range(count)]
    for process in crowd:
        process.start()
    for _ in crowd:
        ready.get()
    yield
    for process in crowd:
        process.kill()
    for process in crowd:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--times", type=int, default=20, help="starts and deaths beside each crowd (%(default)s)"
    )
    parser.add_argument("--locks", type=int, nargs="*", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--messages", type=int, nargs="*", default=[1000, 8000, 100_000])
    parser.add_argument("--processes", type=int, nargs="*", default=[10, 100, 400])
    arguments = parser.parse_args()
    measure(2)
    alone = measure(arguments.times)
    names = list(alone)
    print("| beside | " + " | ".join(names) + " |")
    print("| --- |" + " ---: |" * len(names))
    print("| nothing, µs | " + " | ".join(f"{alone[name]:.1f}" for name in names) + " |")
    for crowd, counts in (
        (locks, arguments.locks),
        (messages, arguments.messages),
        (processes, arguments.processes),
    ):
        for count in counts:
            with crowd(count):
                beside = measure(arguments.times)
            cells = (f"{beside[name]:.1f} ({beside[name] / alone[name]:.2f})" for name in names)
            print(f"| {count:,} {crowd.__name__} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
