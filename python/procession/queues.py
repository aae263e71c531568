"""Queues between processes.

When `put` returns, the item is in the queue: no thread of the producer sends it later. Queues can
be sent: as arguments of processes, inside items of other queues, as arguments and results of pool
tasks.

Buffers of 16 KB and more inside an item (numpy arrays) are copied once, by `put`. What `get`
returns is in shared memory that only the receiver has; children that the receiver forks while it
has it share it.
"""

from __future__ import annotations

import types
from queue import Empty as Empty
from queue import Full as Full

# `put` needs it. Loaded by then, it would be missing in a process that has changed its root or given up its
# privileges, and half there for a signal handler that interrupts the first `put`.
from . import reduction  # noqa: F401
from ._procession import Queue as _Queue

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]


class _Part:
    """A private attribute that is made when it is first read."""

    # Not `__set_name__`: before Python 3.12, an interrupt in it arrives as a RuntimeError.
    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, queue: Any, owner: Any = None) -> Any:
        if queue is None:
            return self
        from ._pickling.queue_ends import part

        return part(queue, self.name)


class _Parts:
    """Private attributes for code that reaches into the standard library's queues.

    Each is a descriptor. A `__getattr__` would make all method calls slower: with it, the
    interpreter makes an object of each method that it calls.
    """

    _reader = _Part("_reader")
    _writer = _Part("_writer")
    _rlock = _Part("_rlock")
    _wlock = _Part("_wlock")
    _sem = _Part("_sem")
    _notempty = _Part("_notempty")
    _buffer = _Part("_buffer")
    _opid = _Part("_opid")
    _ignore_epipe = _Part("_ignore_epipe")
    _thread = _Part("_thread")

    def __repr__(self: Any) -> str:
        try:
            name = self._name()
        except Exception:
            name = None
        text = object.__repr__(self)
        return text if name is None else f"{text[:-1]} name={name!r}>"


class Queue(_Queue, _Parts):
    """A first-in, first-out queue for many producers and many consumers.

    `put(obj, block=True, timeout=None)` raises `Full` and `get(block=True, timeout=None)` raises
    `Empty` after `timeout` seconds, or at once if not `block`. `put_nowait(obj)` and `get_nowait()`
    do not wait. `qsize()`, `empty()` and `full()` are exact at the moment of the call. `put` raises
    if the item cannot be pickled. After `close()`, `put` and `get` raise ValueError in this
    process.

    `put_many(items)` and `get_many(max)` move many small items at a fraction of the cost of as many
    `put` and `get`. Both take `block` and `timeout` as well.

    Args:
        maxsize: the most items it holds; 0 or less: no limit but memory.
        name: its name in what `procession` commands show; see `procession.snapshot`.
        ctx: the context that made it.
    """

    def __init__(self, maxsize: int = 0, *, ctx: Any, name: str | None = None) -> None:
        if maxsize > 2**31 - 1:
            raise OverflowError("maxsize is too large")
        self._create(max(maxsize, 0), name=name)

    def join_thread(self) -> None:
        """Return at once: there is no thread to wait for. Call it only after `close`."""
        assert self._closed, f"Queue {self!r} not closed"

    def _put_failed(self, error: Exception, obj: object) -> None:
        """Handle an item that cannot be pickled.

        `put` calls this, and returns or raises as this does. The error is raised in the caller at
        once. If a subclass overrides `_on_queue_feeder_error`, the error goes there, and the item
        is lost.
        """
        if type(self)._on_queue_feeder_error is Queue._on_queue_feeder_error:
            raise error
        self._give_up(error, obj)

    def _give_up(self, error: BaseException | None, obj: object) -> None:
        self._on_queue_feeder_error(error, obj)
        # The frames refer to the caller of `put` and all that it holds: keeping the error must not
        # keep that alive.
        while error is not None:
            error.__traceback__ = None
            error = error.__context__

    @staticmethod
    def _on_queue_feeder_error(e: Any, obj: object) -> None:
        import traceback

        traceback.print_exception(e)

    def cancel_join_thread(self) -> None:
        """Do nothing: a process never waits for its queues when it ends."""

    def _terminate_broken(self) -> None:
        self.close()

    __class_getitem__: Any = classmethod(types.GenericAlias)


class JoinableQueue(Queue):
    """A `Queue` with a `join` that waits until `task_done` was called for every item."""

    def task_done(self) -> None:
        """Indicate that an item taken from the queue is done.

        Raises ValueError if called more often than there were items.
        """
        self._task_done()

    def join(self) -> None:
        """Wait until all items put into the queue are done."""
        self._join()


class SimpleQueue(_Queue, _Parts):
    """A queue with only `put(obj)`, `get()`, `empty()` and `close()`, and `put_many` and `get_many`.

    Args:
        name: its name in what `procession` commands show; see `procession.snapshot`.
        ctx: the context that made it.
    """

    def __init__(self, *, ctx: Any, name: str | None = None) -> None:
        self._create(0, used=True, name=name)

    def _put_failed(self, error: Exception, obj: object) -> None:
        raise error

    put = _Queue._simple_put  # type: ignore[assignment]
    get = _Queue._simple_get  # type: ignore[assignment]
    put_many = _Queue._simple_put_many  # type: ignore[assignment]
    get_many = _Queue._simple_get_many  # type: ignore[assignment]
    __class_getitem__: Any = classmethod(types.GenericAlias)
