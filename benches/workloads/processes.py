"""Starts of processes and pools."""

from __future__ import annotations

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
