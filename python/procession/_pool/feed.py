"""How a pool's calls take their items and queue them."""

from __future__ import annotations

import itertools
from _collections_abc import Callable, Iterable, Iterator, Sized

from .workers import workers_now

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Tasks that a thread queues at a time.
_BATCH = 64


def mapstar(args: Any) -> list[Any]:
    """Return ``list(map(*args))``, which the standard library's workers do with a chunk."""
    return list(map(*args))


def starmapstar(args: Any) -> list[Any]:
    """Return ``list(starmap(*args))``, for items that are the arguments of a call."""
    return list(itertools.starmap(*args))


def outcomes(args: tuple[Callable[..., Any], Iterable[Any]]) -> list[Any]:
    """Return the function's result for each item, or what it raised."""
    func, items = args
    return starred_outcomes((func, ((item,) for item in items)))


def starred_outcomes(args: tuple[Callable[..., Any], Iterable[Any]]) -> list[Any]:
    """Do what `outcomes` does, for items that are the arguments of a call."""
    func, items = args
    ends: list[Any] = []
    for item in items:
        try:
            ends.append(func(*item))
        except BaseException as error:
            ends.append(error)
    return ends


for _public in (mapstar, starmapstar):
    _public.__module__ = "procession.pool"


def perform(call: tuple[Callable[..., Any], Any, Any]) -> Any:
    """Do a task that brings its own function."""
    func, args, kwds = call
    return func(*args, **kwds)


def raise_again(error: BaseException) -> Any:
    """Raise what the iterable of a call raised."""
    raise error


def calls(func: Any, iterable: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the function with each item.

    If the iterable raises, the last pair is `raise_again` with the error.
    """
    try:
        for item in iterable:
            yield func, item
    except Exception as error:
        yield raise_again, error


class TaskQueue:
    """The pool's `_taskqueue`, for programs that add their own map to the standard library's pool.

    Such a program puts ``(tasks, result._set_length)``. `result` is a new `IMapIterator(pool)`, and
    each task a tuple of its job, a number, a function, its arguments and its keyword arguments.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def put(self, item: tuple[Iterable[Any], Callable[[int], None]]) -> None:
        """Submit the tasks."""
        tasks, set_length = item
        job = set_length.__self__._job  # type: ignore[attr-defined]
        calls = (task[2:] for task in tasks)
        self._pool._feed(calls, job, lambda it, limit: job.feed(it, 0, limit), 0)


def iterator_of(iterable: Iterable[Any], job: Any) -> Any:
    """Return `iter(iterable)`; if that raises, make the job fail with the error and return None."""
    try:
        return iter(iterable)
    except BaseException as error:
        job.refuse(error)
        if not isinstance(error, Exception):
            raise
        return None


class Numbered:
    """The items in the form that a seeded function takes."""

    def __init__(self, items: Iterable[Any], starred: bool = False) -> None:
        self._items = items
        self._starred = starred

    def __iter__(self) -> Any:
        from .randomness import numbered

        return numbered(iter(self._items), self._starred)


def feed_all(iterator: Any, job: Any, feed: Callable[[Any, int], bool], workers: Sized) -> None:
    """Queue what `iterator` yields, at most as much at a time as keeps the `workers` busy."""
    try:
        # A few at a time: in between, the interpreter lets other threads run.
        while (room := job.room(workers_now(workers) or 1)) and feed(iterator, min(room, _BATCH)):
            pass
    except BaseException:
        pass  # an exit or an interrupt: the job raises it in the thread that takes its results
