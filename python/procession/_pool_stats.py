"""The figures of a pool."""

from __future__ import annotations

from typing import NamedTuple

__all__: list[str] = []


class WorkerStats(NamedTuple):
    """What a worker has done since it was started."""

    pid: int
    #: Whether it is at a task.
    running: bool
    #: Number of tasks done.
    tasks: int
    #: Seconds spent at tasks, and between them.
    busy: float
    idle: float
    #: Bytes of the tasks it was sent, and of its results.
    received: int
    sent: int


class PoolStats(NamedTuple):
    """What a pool has done and is doing, in tasks: a chunk of items is one."""

    #: Tasks that came to an end, good or bad.
    done: int
    #: Tasks in line.
    queued: int
    #: Tasks that workers are at.
    running: int
    workers: list[WorkerStats]
