"""The arguments of pools, in all their forms, beyond those of the standard library."""

from __future__ import annotations

import math
from _collections_abc import Callable

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any, Literal

    from .randomness import Seeds

    Priority = Literal["high", "normal", "low"]
else:
    Any, Priority = object, str  # what `typing.get_type_hints` finds

__all__: list[str] = []


class _Unchanged:
    """Stands for an option that is the pool's."""

    def __repr__(self) -> str:
        return "unchanged"


UNCHANGED: Any = _Unchanged()
#: What `priority` may be: the tasks that are begun first come first. Their places here are the numbers that the
#: engine knows them by.
PRIORITIES = ("high", "normal", "low")


def _check_limits(timeout: float | None, retries: int, names: str = "") -> None:
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise ValueError(f"{names}timeout must be a positive number of seconds or None")
    if not isinstance(retries, int) or retries < 0:
        raise ValueError("retries must be a number from 0")


def _number_of(priority: Priority) -> int:
    if priority not in PRIORITIES:
        raise ValueError("priority must be 'high', 'normal' or 'low'")
    return PRIORITIES.index(priority)


def _check_name(name: str | None) -> None:
    if name is not None and not isinstance(name, str):
        raise TypeError("name must be a string or None")


class Options:
    """A pool's options, checked. `Pool` describes them."""

    def __init__(
        self,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        max_rss: int | None = None,
        worker_exit: Callable[[], object] | None = None,
        seed: int | None = None,
        threads_per_worker: int | None = None,
        name: str | None = None,
    ) -> None:
        _check_limits(task_timeout, retries, "task_")
        if max_rss is not None and (not isinstance(max_rss, int) or max_rss <= 0):
            raise ValueError("max_rss must be a positive number of bytes or None")
        if worker_exit is not None and not callable(worker_exit):
            raise TypeError("worker_exit must be a callable")
        if seed is not None and not isinstance(seed, int):
            raise TypeError("seed must be an int, None or False")
        if threads_per_worker is not None and (
            not isinstance(threads_per_worker, int) or threads_per_worker < 1
        ):
            raise ValueError("threads_per_worker must be a number from 1 or None")
        _check_name(name)
        #: For `PoolCore.call` and `PoolCore.job`: time limit, retries, priority, and perhaps the name.
        self.for_tasks: tuple[Any, ...] = (task_timeout, retries, _number_of("normal"))
        self.worker_exit = worker_exit
        self.max_rss = max_rss
        self.reseed = seed is not False
        self.seeds: Seeds | None = None
        if seed is not None and seed is not False:
            from .randomness import Seeds

            self.seeds = Seeds(seed)
        self.threads = threads_per_worker

    def of_calls(
        self, timeout: float | None, retries: int, priority: Priority, name: str | None
    ) -> tuple[float | None, int, int, str | None]:
        """Return the `for_tasks` of calls with options of their own."""
        if timeout is UNCHANGED:
            timeout = self.for_tasks[0]
        if retries is UNCHANGED:
            retries = self.for_tasks[1]
        _check_limits(timeout, retries)
        _check_name(name)
        return timeout, retries, _number_of(priority), name

    def changed(
        self, timeout: float | None, retries: int, priority: Priority, name: str | None
    ) -> Options:
        """Return a copy for calls with options of their own."""
        made = object.__new__(Options)
        made.__dict__.update(self.__dict__)
        made.for_tasks = self.of_calls(timeout, retries, priority, name)
        return made

    @property
    def have_effect(self) -> bool:
        """Whether the pool differs from one without options."""
        of_pool = self.for_tasks, self.seeds
        return of_pool != ((None, 0, _number_of("normal")), None) or self.of_worker() != {
            "reseed": True
        }

    def of_worker(self) -> dict[str, Any]:
        """Return the keyword arguments of `_pool.worker.worker`."""
        given = {
            "max_rss": self.max_rss,
            "worker_exit": self.worker_exit,
            "threads": self.threads,
            "reseed": self.reseed,
        }
        return {name: value for name, value in given.items() if value is not None}
