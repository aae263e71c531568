"""The clock of all workloads, and rates."""

from __future__ import annotations

import time

MEGABYTE = 1 << 20
clock = time.perf_counter


def rate(work, count):
    """Return the rate per second. A tenth of the work runs first, unmeasured."""
    work(count // 10)
    begin = clock()
    work(count)
    return count / (clock() - begin)


def nanoseconds(work, count):
    """Return how many nanoseconds one of `count` turns takes. A tenth runs first, unmeasured."""
    return 1e9 / rate(work, count)
