"""Queues between processes. When `put` returns, the item is in the queue: no thread of the producer carries it there later.

Queues can be sent: as arguments of processes, inside items of other queues, as arguments and results of pool tasks.

Buffers of 16 KB and more inside an item (numpy arrays) are copied once, by `put`; what `get` returns lies in shared memory that is the
receiver's alone, except that it stays common to the receiver and children that it forks while it has it.
"""

from __future__ import annotations

import sys
import types
from queue import Empty as Empty
from queue import Full as Full

from . import _procession

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]


class _Parts:
    """What code that reaches into the standard library's queues finds here."""

    def __getattr__(self, name: str) -> Any:
        from ._queue_ends import part

        return part(self, name)


class Queue(_procession.Queue, _Parts):
    """A first-in first-out queue of many producers and many consumers.

    `put(obj, block=True, timeout=None)` raises `Full`, `get(block=True, timeout=None)` raises `Empty` when `timeout` seconds have passed
    (at once, unless `block`); `put_nowait(obj)` and `get_nowait()` do not wait. `qsize()`, `empty()` and `full()` tell the truth of the
    moment. An item that cannot be pickled raises in `put`. After `close()`, `put` and `get` raise ValueError in this process.

    Args:
        maxsize: the most items it holds; 0 or less: no limit but memory.
        ctx: the context it was made by.
    """

    def __init__(self, maxsize: int = 0, *, ctx: Any) -> None:
        if maxsize > 2**31 - 1:
            raise OverflowError("maxsize is too large")
        self._create(max(maxsize, 0))

    def join_thread(self) -> None:
        """Return at once: there is no thread to wait for. Only after `close`."""
        assert self._closed, f"Queue {self!r} not closed"

    def _put_failed(self, error: Exception, obj: object) -> None:
        """Deal with an item that cannot be pickled; called by `put`, which returns or raises as this does.

        It is the caller's error, at once. Where a subclass asks for it, it goes to `_on_queue_feeder_error`, and the item is lost.
        """
        if type(self)._on_queue_feeder_error is Queue._on_queue_feeder_error:
            raise error
        self._give_up(error, obj)

    def _give_up(self, error: BaseException | None, obj: object) -> None:
        self._on_queue_feeder_error(error, obj)
        # The frames lead to the caller of `put` and all that it holds: who keeps the error shall not keep that.
        while error is not None:
            error.__traceback__ = None
            error = error.__context__

    @staticmethod
    def _on_queue_feeder_error(e: Any, obj: object) -> None:
        import traceback

        traceback.print_exception(e)

    def cancel_join_thread(self) -> None:
        """Do nothing: the end of a process never waits for its queues."""

    def _terminate_broken(self) -> None:
        self.close()

    __class_getitem__: Any = classmethod(types.GenericAlias)


class JoinableQueue(Queue):
    """A `Queue` whose `join` waits until `task_done` was said for every item."""

    def task_done(self) -> None:
        """Say that an item gotten has been dealt with. ValueError if that is said more often than there were items."""
        self._task_done()

    def join(self) -> None:
        """Wait until every item put has been dealt with."""
        self._join()


class SimpleQueue(_procession.Queue, _Parts):
    """A queue with no more than `put(obj)`, `get()`, `empty()` and `close()`.

    Args:
        ctx: the context it was made by.
    """

    def __init__(self, *, ctx: Any) -> None:
        self._create(0, used=True)

    def _put_failed(self, error: Exception, obj: object) -> None:
        raise error

    put = _procession.Queue._simple_put  # type: ignore[assignment]
    get = _procession.Queue._simple_get  # type: ignore[assignment]
    __class_getitem__: Any = classmethod(types.GenericAlias)


if (_install := sys.modules.get(f"{__package__}._install")) is not None:
    _install.amend(__name__)
