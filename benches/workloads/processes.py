"""Starts of processes and pools."""

from __future__ import annotations

import concurrent.futures
import statistics

from rows import row

from .timing import clock


def nothing():
    pass


def start_join(library, method, count=15):
    """Return milliseconds of ``Process(...).start()`` and ``join()``, the first run excluded."""
    context = library.get_context(method)
    times = []
    for _ in range(count + 1):
        process = context.Process(target=nothing)
        begin = clock()
        process.start()
        process.join()
        times.append(clock() - begin)
        assert process.exitcode == 0
    return statistics.median(times[1:]) * 1e3


@row("Process start + join, fork", "ms", 1)
def fork(library):
    return start_join(library, "fork")


@row("Process start + join, spawn", "ms", 1)
def spawn(library):
    return start_join(library, "spawn", 7)


@row("Process start + join, forkserver", "ms", 8)
def forkserver(library):
    return start_join(library, "forkserver")


@row("Pool(2) to its first result", "ms", 1)
def pool(library, count=7):
    """Return milliseconds from ``Pool(2)`` to its first result."""
    times = []
    for _ in range(count + 1):
        begin = clock()
        with library.Pool(2) as workers:
            assert workers.apply(abs, (-1,)) == 1
            times.append(clock() - begin)
    return statistics.median(times[1:]) * 1e3


@row("Pool(2), apply_async of trivial tasks", "/s", 9)
def apply_async(library, count=20_000):
    """Return tasks per second, all sent before the first result is asked for."""
    with library.Pool(2) as workers:
        workers.apply(abs, (-1,))
        begin = clock()
        results = [workers.apply_async(abs, (-1,)) for _ in range(count)]
        for result in results:
            result.get()
        return count / (clock() - begin)


@row("executor of two workers, submit of trivial tasks", "/s", 9)
def submit(library, count=10_000):
    """Return tasks per second, all sent before the first result is asked for."""
    own = getattr(library, "ProcessPoolExecutor", concurrent.futures.ProcessPoolExecutor)
    with own(2) as executor:
        executor.submit(abs, -1).result()
        begin = clock()
        futures = [executor.submit(abs, -1) for _ in range(count)]
        for future in futures:
            future.result()
        return count / (clock() - begin)
