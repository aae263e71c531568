"""Private parts of the standard library's queues that programs use, made for whoever asks: the two ends of the pipe that it has inside,
to be waited for with others by `connection.wait`, `select` or an event loop, and names that need only be there.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from . import reduction

__all__: list[str] = []


class _End:
    """One end of a queue's pipe. Closing it closes nothing but this object: the queue has `close`.

    The queue does not keep it, as that would be a circle; it equals every other of the same end.
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
        """Whether the end, or its queue, is closed."""
        return self._end_closed or self._queue._closed

    def close(self) -> None:
        """No more by this object."""
        self._end_closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise OSError("handle is closed")

    def fileno(self) -> int:
        """A descriptor that can be read from (poll(2)) while there are items."""
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
    #: `connection.wait` asks `poll` too: the descriptor is set by a thread.
    fileno_lags = True

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is an item, or comes one in `timeout` seconds; None: for ever."""
        self._check_open()
        return self._queue._wait_until_ready(timeout)

    def recv(self) -> Any:
        """As the queue's `get`."""
        self._check_open()
        return self._queue.get()

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """The pickle of the next item. OSError if it is longer than `maxlength`."""
        data = bytes(reduction.ForkingPickler.dumps(self.recv()))
        if maxlength is not None and len(data) > maxlength:
            raise OSError("bad message length")
        return data


class Writer(_End):
    """The end that items go into."""

    writable = True

    def send(self, obj: object) -> None:
        """As the queue's `put`."""
        self._check_open()
        self._queue.put(obj)

    def send_bytes(self, data: Any, offset: int = 0, size: int | None = None) -> None:
        """Put the object that `data` is the pickle of."""
        view = memoryview(data).cast("B")
        self.send(
            reduction.ForkingPickler.loads(view[offset : None if size is None else offset + size])
        )


#: Name -> what makes it, and whether the queue keeps it. Nothing of procession's uses the locks: its queues need none.
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
    """Make the part. AttributeError if there is none of that name."""
    if name not in PARTS:
        raise AttributeError(f"{type(queue).__name__!r} object has no attribute {name!r}")
    make, kept = PARTS[name]
    made = make(queue)
    if kept:
        setattr(queue, name, made)
    return made
