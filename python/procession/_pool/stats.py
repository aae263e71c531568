"""The figures of a pool."""

from __future__ import annotations

from typing import NamedTuple

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
    #: Tasks in line.
    queued: int
    #: Tasks that workers are running.
    running: int
    workers: list[WorkerStats]
