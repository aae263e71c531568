"""Private parts of the standard library's queues that programs use, made on demand.

These are the two ends of the queue's inner pipe, which `connection.wait`, `select` and event loops
can wait for, and names that only need to exist.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .. import reduction

__all__: list[str] = []


class _End:
    """One end of a queue's pipe.

    `close` only closes this object; to close the queue, use its own `close`. The queue does not
    keep it, because that would be a reference cycle. All objects for the same end are equal.
    """

    readable = writable = False

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._end_closed = False

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._queue is self._queue

    def __hash__(self) -> int:
        return hash((type(self), id(self._queue)))

    @property
    def closed(self) -> bool:
        """Whether the end or its queue is closed."""
        return self._end_closed or self._queue._closed

    def close(self) -> None:
        """Close this object."""
        self._end_closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise OSError("handle is closed")

    def fileno(self) -> int:
        """Return a descriptor that is readable (poll(2)) while there are items."""
        self._check_open()
        return self._queue._readable_fd()

    def __reduce__(self) -> Any:
        return type(self), (self._queue,)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class Reader(_End):
    """The end that items come out of."""

    readable = True
    #: `connection.wait` also calls `poll`, because a thread sets the descriptor.
    fileno_lags = True

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether there is an item.

        Waits up to `timeout` seconds (None: forever) for one.
        """
        self._check_open()
        return self._queue._wait_until_ready(timeout)

    def recv(self) -> Any:
        """Return the next item, as the queue's `get` does."""
        self._check_open()
        return self._queue.get()

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Return the pickle of the next item. Raises OSError if it is longer than `maxlength`."""
        data = bytes(reduction.ForkingPickler.dumps(self.recv()))
        if maxlength is not None and len(data) > maxlength:
            raise OSError("bad message length")
        return data


class Writer(_End):
    """The end that items go into."""

    writable = True

    def send(self, obj: object) -> None:
        """Put an item, as the queue's `put` does."""
        self._check_open()
        self._queue.put(obj)

    def send_bytes(self, data: Any, offset: int = 0, size: int | None = None) -> None:
        """Put the object that `data` is the pickle of."""
        view = memoryview(data).cast("B")
        self.send(
            reduction.ForkingPickler.loads(view[offset : None if size is None else offset + size])
        )


#: Name -> the function that makes the part, and whether the queue keeps it. Each has a descriptor in
#: `queues`. procession itself uses none of the locks: its queues need none.
PARTS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "_reader": (Reader, False),
    "_writer": (Writer, False),
    "_rlock": (lambda queue: threading.Lock(), True),
    "_wlock": (lambda queue: threading.Lock(), True),
    "_sem": (lambda queue: threading.BoundedSemaphore(queue._maxsize), True),
    "_notempty": (lambda queue: threading.Condition(threading.Lock()), True),
    "_buffer": (lambda queue: deque(), True),
    "_opid": (lambda queue: os.getpid(), True),
    "_ignore_epipe": (lambda queue: False, True),
    "_thread": (lambda queue: None, True),
}


def part(queue: Any, name: str) -> Any:
    """Return the part `name`, made anew."""
    make, kept = PARTS[name]
    made = make(queue)
    if kept:
        setattr(queue, name, made)
    return made
