"""Proxies of the objects of other nodes.

Each has the methods of the object that it stands for, with their meaning, and calls them through the
process's deputy at the object's home (`link`). Besides what the methods raise, each call may raise
`NodeLost`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from .. import process, synchronize
from .._errors import NodeLost
from . import wire
from .link import Link, Renewed
from .reference import Reference

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


class Proxy:
    """What all proxies have in common."""

    #: What stands before the class's name in `repr`.
    _kind = ""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._ticket = reference.ticket
        #: The session, the object's number in it, and the process that has the session.
        self._at: tuple[Any, int, int] = (None, 0, 0)
        self._link = Link.to(reference.address, reference.node)
        try:
            self._attached()
        except NodeLost:
            pass  # the message with this object has other parts: its use raises the error again

    def _attached(self) -> tuple[Any, int]:
        session, number, pid = self._at
        if session is None or pid != os.getpid():
            # New, or inherited by fork.
            session, number = self._link.attach(self._reference.local, self._ticket)
            self._at = session, number, os.getpid()
            self._ticket = None
        return session, number

    def _ask(self, what: str, *rest: Any, action: Any = None, kept: Any = None) -> Any:
        session, number = self._attached()
        try:
            return self._link.call(session, what, number, *rest, action=action, kept=kept)
        except Renewed:
            # Not attached anew: a `release` must not meet what another process has acquired since.
            node = self._reference.node
            raise NodeLost(
                f"the connection to node {node} has broken since this {self._reference.kind} arrived: what this process had there was given up; have it sent anew",
                node,
            ) from None

    def _call(self, method: str, *args: Any, action: Any = None, **kwds: Any) -> Any:
        return self._ask("call", method, args, kwds, action=action)

    def _take(self, method: str, *args: Any) -> Any:
        """Call a method that takes something; give that back if a signal handler raises meanwhile.

        Nothing may stand between this method's return and that of the public methods: a signal
        handler runs after a call of another function, not while functions return.
        """
        kept: list[Any] = []
        try:
            value = self._ask("call", method, args, {}, kept=kept)
            if kept:
                kept[0].is_busy = False
            return value
        except BaseException:
            if kept:
                kept[0].give_back()
            raise

    def __reduce__(self) -> Any:
        wire.note_reference(self)
        return self._reference.reduced(self._ask("ticket"))

    def __del__(self) -> None:
        session, number, _pid = getattr(self, "_at", (None, 0, 0))
        if session is not None and self._link.session is session:
            self._link.drops.append(number)

    def __repr__(self) -> str:
        return f"<{self._reference.kind} of node {self._reference.node}>"


class _Acquired(Proxy):
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire it; return whether it was."""
        return self._take("acquire", block, timeout)

    def release(self) -> None:
        """Release it."""
        self._call("release")

    def locked(self) -> bool:
        """Return whether it could not be acquired now."""
        return self._call("locked")

    def __enter__(self) -> bool:
        return self._take("acquire")

    def __exit__(self, *error: object) -> None:
        self.release()


class _Semaphore(_Acquired):
    def get_value(self) -> int:
        """Return its value."""
        return self._call("get_value")


class _Condition(_Acquired):
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until notified, at most `timeout` seconds; return whether it was."""
        return self._call("wait", timeout)

    wait_for = synchronize.Condition.wait_for

    def notify(self, n: int = 1) -> None:
        """Wake `n` waiters."""
        self._call("notify", n)

    def notify_all(self) -> None:
        """Wake all waiters."""
        self._call("notify_all")


class _Event(Proxy):
    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._call("is_set")

    def set(self) -> None:
        """Set it."""
        self._call("set")

    def clear(self) -> None:
        """Clear it."""
        self._call("clear")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; return whether it is."""
        return self._call("wait", timeout)


class _Barrier(Proxy):
    def wait(self, timeout: float | None = None) -> int:
        """Wait for the other parties; see `synchronize.Barrier.wait`."""
        action, default, _parties = self._reference.extra
        timeout = default if timeout is None else timeout
        return self._call("wait", timeout, action is not None, action=action)

    def reset(self) -> None:
        """Restore the initial state; waiting parties get `threading.BrokenBarrierError`."""
        self._call("reset")

    def abort(self) -> None:
        """Break the barrier, until it is reset."""
        self._call("abort")

    @property
    def parties(self) -> int:
        """The number of parties."""
        return self._reference.extra[2]

    @property
    def n_waiting(self) -> int:
        """The number of parties that are waiting."""
        return self._call("#get", "n_waiting")

    @property
    def broken(self) -> bool:
        """Whether the barrier is broken."""
        return self._call("#get", "broken")


class _SimpleQueue(Proxy):
    def put(self, obj: Any) -> None:
        """Put an item into the queue."""
        self._call("put", obj)

    def get(self) -> Any:
        """Take the next item."""
        return self._take("get")

    def put_many(self, items: Iterable[Any]) -> None:
        """Put several items into the queue."""
        self._call("put_many", list(items))

    def get_many(self, max: int) -> list[Any]:
        """Wait for an item, and take up to `max`."""
        return self._take("get_many", max)

    def empty(self) -> bool:
        """Return whether it has no item."""
        return self._call("empty")

    def close(self) -> None:
        """Do nothing: the queue lives at its home."""

    def __getattr__(self, name: str) -> Any:
        if name in ("_reader", "_writer"):
            raise NotImplementedError("a queue of another node cannot be waited for by select")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class _Queue(_SimpleQueue):
    _closed_by: int | None = None

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an item into the queue; raise `Full` if there was no room in time."""
        self._check_open()
        self._call("put", obj, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item; raise `Empty` if there was none in time."""
        self._check_open()
        return self._take("get", block, timeout)

    def put_nowait(self, obj: Any) -> None:
        """Put an item if there is room."""
        self.put(obj, False)

    def get_nowait(self) -> Any:
        """Take the next item if there is one."""
        return self.get(False)

    def put_many(
        self, items: Iterable[Any], block: bool = True, timeout: float | None = None
    ) -> None:
        """Put several items into the queue."""
        self._check_open()
        self._call("put_many", list(items), block, timeout)

    def get_many(self, max: int, block: bool = True, timeout: float | None = None) -> list[Any]:
        """Wait for an item, and take up to `max`."""
        self._check_open()
        return self._take("get_many", max, block, timeout)

    def qsize(self) -> int:
        """Return the number of items."""
        return self._call("qsize")

    def full(self) -> bool:
        """Return whether there is no room for another item."""
        return self._call("full")

    @property
    def _maxsize(self) -> int:
        return self._reference.extra

    @property
    def _closed(self) -> bool:
        return self._closed_by is not None

    def close(self) -> None:
        """Refuse `put` and `get` in this process from now on."""
        self._closed_by = process.current_process().ident

    def join_thread(self) -> None:
        """Return at once: there is no thread to wait for. Call it only after `close`."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Do nothing: a process never waits for its queues when it ends."""


class _JoinableQueue(_Queue):
    def task_done(self) -> None:
        """Indicate that an item taken from the queue is done."""
        self._call("task_done")

    def join(self) -> None:
        """Wait until all items put into the queue are done."""
        self._call("join")


class _Raw(Proxy):
    """Stands for a ctypes object: its items and fields are read and written at its home."""

    def __bool__(self) -> bool:
        return not self._reference.extra or len(self) > 0

    def __len__(self) -> int:
        if not self._reference.extra:
            raise TypeError(f"this {self._reference.kind} value has no length")
        return self._call("__len__")

    def __getitem__(self, key: Any) -> Any:
        return self._call("__getitem__", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._call("__setitem__", key, value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self._call("#get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self._call("#set", name, value)


class _Synchronized(_Raw):
    """Stands for a ctypes object with its lock."""

    acquire = _Acquired.acquire
    release = _Acquired.release
    __enter__ = _Acquired.__enter__
    __exit__ = _Acquired.__exit__

    def add(self, *args: Any) -> Any:
        """Add to the value, or to an item, under the lock; return the result."""
        return self._call("add", *args)

    def get_lock(self) -> Any:
        """Return the lock."""
        return self._call("get_lock")

    def get_obj(self) -> Any:
        """Raise NotImplementedError: the memory is on another node."""
        raise NotImplementedError(
            "the memory of a Value or Array of another node cannot be had here: use value, items or slices"
        )


_CLASSES: dict[str, type[Proxy]] = {
    "Lock": _Acquired,
    "RLock": _Acquired,
    "Semaphore": _Semaphore,
    "BoundedSemaphore": _Semaphore,
    "Condition": _Condition,
    "Event": _Event,
    "Barrier": _Barrier,
    "SimpleQueue": _SimpleQueue,
    "Queue": _Queue,
    "JoinableQueue": _JoinableQueue,
    "Raw": _Raw,
    "Synchronized": _Synchronized,
}


def proxy_of(reference: Reference) -> Any:
    """Return a proxy for a reference that has arrived."""
    return _CLASSES[reference.kind](reference)
