"""Messages over a descriptor: the connection, pairs of them, and waiting for some of several.

A message is its length, four bytes in network order, and its bytes; -1 announces a length of eight bytes instead. Listeners and what
comes before the first message are `_listening`'s affair.
"""

from __future__ import annotations

import io
import math
import os
import select
import socket
import struct
import time

from ._procession import read_descriptor, read_message, write_descriptor
from .context import BufferTooShort, reduction

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["LENGTH", "Connection", "Pipe", "wait"]

LENGTH = struct.Struct("!i")
_LONG_LENGTH = struct.Struct("!Q")
# Header and body of a message up to this size go out in one piece; larger ones are not worth the copy.
_JOINED = 16384
# Most bytes asked of the kernel at once.
_CHUNK = 1 << 18
# Seconds that `wait` sleeps without a look at signals.
_FIRST_SLEEP = 0.002
_LONGEST_SLEEP = 1.0

_ForkingPickler = reduction.ForkingPickler


class Connection:
    """A connection over a descriptor: a pipe's end or a stream socket. It owns the descriptor."""

    _handle: int | None = None

    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None:
        handle = handle.__index__()
        if handle < 0:
            raise ValueError("invalid handle")
        if not readable and not writable:
            raise ValueError("at least one of `readable` and `writable` must be True")
        self._handle = handle
        self._readable = readable
        self._writable = writable

    def __del__(self) -> None:
        # The collector may have others look at it afterwards: it must know that it is closed.
        self.close()

    def _check_readable(self) -> None:
        self.fileno()
        if not self._readable:
            raise OSError("connection is write-only")

    def _check_writable(self) -> None:
        self.fileno()
        if not self._writable:
            raise OSError("connection is read-only")

    def _bad_message_length(self) -> None:
        # What follows in the stream cannot be told from messages: nothing may be read from it any more.
        if self._writable:
            self._readable = False
        else:
            self.close()
        raise OSError("bad message length")

    @property
    def closed(self) -> bool:
        """True if the connection is closed."""
        return self._handle is None

    @property
    def readable(self) -> bool:
        """True if messages can be received."""
        return self._readable

    @property
    def writable(self) -> bool:
        """True if messages can be sent."""
        return self._writable

    def fileno(self) -> int:
        """The descriptor. Raises OSError when closed."""
        if self._handle is None:
            raise OSError("handle is closed")
        return self._handle

    def close(self) -> None:
        """Close the connection; closing again does nothing."""
        if self._handle is not None:
            try:
                self._close()
            finally:
                self._handle = None

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send the bytes of a buffer as one message: `size` bytes from `offset`, all that follow by default."""
        self._check_writable()
        view = memoryview(buf)
        if view.itemsize > 1 or view.ndim != 1:
            view = view.cast("B")
        length = view.nbytes
        if offset < 0:
            raise ValueError("offset is negative")
        if length < offset:
            raise ValueError("buffer length < offset")
        if size is None:
            size = length - offset
        elif size < 0:
            raise ValueError("size is negative")
        elif offset + size > length:
            raise ValueError("buffer length < offset + size")
        self._send_bytes(view[offset : offset + size])

    def send(self, obj: Any) -> None:
        """Send an object that can be pickled."""
        self._check_writable()
        self._send_bytes(_ForkingPickler.dumps(obj))

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive one message as bytes.

        Raises EOFError when the other end is closed and nothing is left, and OSError when the message is longer than
        `maxlength` bytes; the connection cannot be read any more then.
        """
        self._check_readable()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        data = self._recv_bytes(maxlength)
        if data is None:
            self._bad_message_length()
        return data  # type: ignore[return-value]

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Receive one message into a writable buffer, from byte `offset` on; returns its length.

        Raises BufferTooShort, with the message as its argument, when it does not fit.
        """
        self._check_readable()
        with memoryview(buf) as view:
            room = view.nbytes
            if offset < 0:
                raise ValueError("negative offset")
            if offset > room:
                raise ValueError("offset too large")
            data = self._recv_bytes()
            assert data is not None
            if room < offset + len(data):
                raise BufferTooShort(data)
            if data:
                with view.cast("B") as target:
                    target[offset : offset + len(data)] = data
            return len(data)

    def recv(self) -> Any:
        """Receive one object. Raises EOFError when the other end is closed and nothing is left."""
        self._check_readable()
        return _ForkingPickler.loads(self._recv_bytes())  # type: ignore[arg-type]

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether something can be received, waiting up to `timeout` seconds (None: for ever) for it."""
        self._check_readable()
        return self._poll(timeout)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, exc_type: object, exc_value: object, exc_tb: object) -> None:
        self.close()

    def _close(self, _close: Callable[[int], None] = os.close) -> None:
        _close(self._handle)  # type: ignore[arg-type]

    def _send(self, *buffers: Any) -> None:
        write_descriptor(self._handle, *buffers)  # type: ignore[arg-type]

    def _send_bytes(self, buf: Any) -> None:
        length = len(buf)
        if length > 0x7FFFFFFF:
            self._send(LENGTH.pack(-1) + _LONG_LENGTH.pack(length), buf)
        elif length > _JOINED:
            self._send(LENGTH.pack(length), buf)
        else:
            self._send(LENGTH.pack(length) + buf)

    def _recv(self, size: int) -> bytes:
        """Exactly `size` (not 0) bytes. Memory is taken as they arrive, not because a peer announced them."""
        handle: int = self._handle  # type: ignore[assignment]
        data = read_descriptor(handle, min(size, _CHUNK))
        if len(data) == size:
            return data
        if not data:
            raise EOFError
        buf = io.BytesIO()
        while True:
            size -= buf.write(data)
            if not size:
                return buf.getvalue()
            data = read_descriptor(handle, min(size, _CHUNK))
            if not data:
                raise OSError("got end of file during message")

    def _recv_bytes(self, maxsize: int | None = None) -> bytes | None:
        most = _JOINED if maxsize is None else min(maxsize, _JOINED)
        size = read_message(self._handle, most)  # type: ignore[arg-type]
        if isinstance(size, bytes):
            return size
        if size == -1:
            (size,) = _LONG_LENGTH.unpack(self._recv_rest(8))
        if size < 0:
            self._bad_message_length()
        if maxsize is not None and size > maxsize:
            return None
        return self._recv_rest(size)

    def _recv_rest(self, size: int) -> bytes:
        """As `_recv`, inside a message: that nothing comes is as bad as that too little comes."""
        try:
            return self._recv(size)
        except EOFError:
            raise OSError("got end of file during message") from None

    def _poll(self, timeout: float | None) -> bool:
        return bool(wait([self], timeout))


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Two connections joined to each other; if not `duplex`, the first only receives and the second only sends."""
    if duplex:
        one, other = socket.socketpair()
        one.setblocking(True)
        other.setblocking(True)
        return Connection(one.detach()), Connection(other.detach())
    reader, writer = os.pipe()
    return Connection(reader, writable=False), Connection(writer, readable=False)


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Wait until some of the objects can be read from, or `timeout` seconds (None: for ever) have passed; returns those.

    An object is a connection, a socket, a process's `sentinel`, or anything with a `fileno()`; the end of a file can be read too. ValueError
    if it is none of these, or the timeout no number.
    """
    if timeout is not None and math.isnan(timeout):
        raise ValueError("Invalid value NaN (not a number)")
    by_descriptor: dict[int, list[Any]] = {}
    # Whose descriptor follows the truth a moment later: an end that a process left just before it ended must not come after its sentinel.
    lagging: list[Any] = []
    poller = select.poll()
    for obj in object_list:
        if getattr(obj, "fileno_lags", False):
            lagging.append(obj)
        try:
            descriptor = obj if isinstance(obj, int) else int(obj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {obj!r}") from None
        if descriptor < 0:
            raise ValueError(f"Invalid file descriptor: {descriptor}")
        by_descriptor.setdefault(descriptor, []).append(obj)
        poller.register(descriptor, select.POLLIN)
    began = time.monotonic()
    deadline = math.inf if timeout is None else began + timeout
    while True:
        now = time.monotonic()
        if any(obj.poll() for obj in lagging):
            pause = 0.0
        else:
            # A signal that comes just before the kernel puts us to sleep is heard afterwards: so no sleep is longer than the wait was until then.
            pause = max(min(max(now - began, _FIRST_SLEEP), _LONGEST_SLEEP, deadline - now), 0)
        ready = poller.poll(math.ceil(pause * 1000))
        found = [obj for descriptor, _events in ready for obj in by_descriptor[descriptor]]
        found += [obj for obj in lagging if obj not in found and obj.poll()]
        if found:
            return found
        if time.monotonic() >= deadline:
            return []
