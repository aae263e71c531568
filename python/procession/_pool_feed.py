"""How a pool's calls come by their items, and put them in line."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sized
    from typing import Any

__all__: list[str] = []

#: Tasks that a thread puts in line at a time.
_BATCH = 64


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
