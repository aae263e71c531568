"""How a pool's calls come by their items, and put them in line."""

from __future__ import annotations

import itertools

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sized
    from typing import Any

__all__: list[str] = []

#: Tasks that a thread puts in line at a time.
_BATCH = 64


def mapstar(args: Any) -> list[Any]:
    """``list(map(*args))``: what the standard library's workers are told to do with a chunk."""
    return list(map(*args))


def starmapstar(args: Any) -> list[Any]:
    """The same, for items that are the arguments of a call."""
    return list(itertools.starmap(*args))


for _public in (mapstar, starmapstar):
    _public.__module__ = f"{__package__}.pool"


def perform(call: tuple[Callable[..., Any], Any, Any]) -> Any:
    """Do a task that brings its own function."""
    func, args, kwds = call
    return func(*args, **kwds)


def raise_again(error: BaseException) -> Any:
    """Raise what the iterable of a call raised."""
    raise error


class TaskLine:
    """The pool's `_taskqueue`, for programs that add a map of their own to the standard library's pool.

    They put ``(tasks, result._set_length)``, where `result` is a new `IMapIterator(pool)` and each task a tuple of its job, a number, a
    function, its arguments and its keyword arguments.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def put(self, item: tuple[Iterable[Any], Callable[[int], None]]) -> None:
        """Have the tasks done."""
        tasks, set_length = item
        job = set_length.__self__._job  # type: ignore[attr-defined]
        calls = (task[2:] for task in tasks)
        self._pool._feed(calls, job, lambda it, limit: job.feed(it, 0, limit), 0)


def iterator_of(iterable: Iterable[Any], job: Any) -> Any:
    """`iter(iterable)`; None if that fails: then the job fails with what it raised."""
    try:
        return iter(iterable)
    except Exception as error:
        job.refuse(error)
        return None


class Numbered:
    """The items as a seeded function wants them."""

    def __init__(self, items: Iterable[Any], starred: bool = False) -> None:
        self._items = items
        self._starred = starred

    def __iter__(self) -> Any:
        from ._randomness import numbered

        return numbered(iter(self._items), self._starred)


def feed_all(iterator: Any, job: Any, feed: Callable[[Any, int], bool], workers: Sized) -> None:
    """Put what `iterator` yields in line, no more at a time than keeps the `workers` busy."""
    try:
        # A few at a time: in between, the interpreter lets other threads have their turn.
        while (room := job.room(len(workers) or 1)) and feed(iterator, min(room, _BATCH)):
            pass
    except BaseException:
        pass  # an exit or an interrupt: the job says so to whoever takes its results
