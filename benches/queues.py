"""Compare queues with the standard library's: ``python benches/queues.py [rounds]``.

Both run in one process tree, in alternation. Prints medians and ratios for small tuples, round
trips between cores and on one core, and arrays of 64 KB and 64 MB.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy

import procession

CONTEXTS = {
    "standard": multiprocessing.get_context("fork"),
    "procession": procession.get_context("fork"),
}
clock = time.perf_counter


def forked(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        work()
        sys.stdout.flush()
        os._exit(0)
    return pid


def stream(ctx, item: object, count: int) -> float:
    """Return items per second from one process to another."""
    queue = ctx.Queue()

    def produce() -> None:
        for _ in range(count + 1):
            queue.put(item)
        queue.close()
        queue.join_thread()

    pid = forked(produce)
    queue.get()
    start = clock()
    for _ in range(count):
        queue.get()
    elapsed = clock() - start
    os.waitpid(pid, 0)
    return count / elapsed


def ping_pong(ctx, count: int) -> float:
    """Return seconds from a put into one queue to the get of its answer from another."""
    there, back = ctx.Queue(), ctx.Queue()

    def answer() -> None:
        while (item := there.get()) is not None:
            back.put(item)
        back.close()
        back.join_thread()

    pid = forked(answer)
    for number in range(count + 100):
        if number == 100:
            start = clock()
        there.put(number)
        back.get()
    elapsed = clock() - start
    there.put(None)
    os.waitpid(pid, 0)
    return elapsed / count


def on_one_core(ctx, count: int) -> float:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        return ping_pong(ctx, count)
    finally:
        os.sched_setaffinity(0, cores)


def main(rounds: int) -> None:
    small, medium, large = (1, "two", 3.0), numpy.ones(8192), numpy.ones(8 << 20)
    rows: list[tuple[str, str, Callable[[object], float]]] = [
        ("small tuples, 1 to 1", "/s", lambda ctx: stream(ctx, small, 50_000)),
        ("round trip", "us", lambda ctx: ping_pong(ctx, 2_000)),
        ("round trip, one core", "us", lambda ctx: on_one_core(ctx, 2_000)),
        ("64 KB arrays", "/s", lambda ctx: stream(ctx, medium, 3_000)),
        ("64 MB arrays", "/s", lambda ctx: stream(ctx, large, 8)),
    ]
    for title, unit, measure in rows:
        figures: dict[str, list[float]] = {name: [] for name in CONTEXTS}
        for _ in range(rounds):
            for name, ctx in CONTEXTS.items():
                figures[name].append(measure(ctx))
        standard, ours = (statistics.median(figures[name]) for name in CONTEXTS)
        ratio = ours / standard if unit == "/s" else standard / ours
        scale = 1 if unit == "/s" else 1e6
        print(
            f"{title:24}{standard * scale:14,.1f}{ours * scale:14,.1f} {unit:4}{ratio:8.1f}x",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
