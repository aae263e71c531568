"""The tasks of a pool on several nodes that no node was given yet."""

from __future__ import annotations

from collections import deque

from ..._pool.options import PRIORITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .job import Task

__all__: list[str] = []


class WaitingTasks:
    """A queue, those of the highest priority first."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: list[deque[Task]] = [deque() for _ in PRIORITIES]

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def append(self, task: Task) -> None:
        self._queues[task.job.priority].append(task)

    def extend(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            self.append(task)

    def appendleft(self, task: Task) -> None:
        """Put back a task that is to be the first of its priority."""
        self._queues[task.job.priority].appendleft(task)

    def popleft(self) -> Task:
        for queue in self._queues:
            if queue:
                return queue.popleft()
        raise IndexError("no task waits")

    def clear(self) -> None:
        for queue in self._queues:
            queue.clear()
