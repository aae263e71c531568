"""The figures of a pool. `typing` is slow to load, so nothing loads this before it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

__all__: list[str] = []


class WorkerStats(NamedTuple):
    """The figures of a worker since it was started."""

    pid: int
    #: Whether it is running a task.
    running: bool
    #: Number of tasks done.
    tasks: int
    #: Seconds spent in tasks, and between them.
    busy: float
    idle: float
    #: Bytes of the tasks it was sent, and of its results.
    received: int
    sent: int


class PoolStats(NamedTuple):
    """The figures of a pool, in tasks: a chunk of items is one task."""

    #: Tasks that ended, successfully or not.
    done: int
    #: Tasks queued.
    queued: int
    #: Tasks that workers are running.
    running: int
    workers: list[WorkerStats]


def stats_of(core: Any, processes: Iterable[Any]) -> PoolStats:
    """Return the figures of a pool: `core` counts by worker index, `processes` have the pids."""
    done, queued, running, workers = core.stats()
    pids = {process._worker_index: process.pid for process in list(processes)}
    named = [WorkerStats(pids[index], *rest) for index, *rest in workers if index in pids]
    return PoolStats(done, queued, running, named)
