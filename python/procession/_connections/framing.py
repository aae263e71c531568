"""Messages over a descriptor: the connection, pairs of connections, and waiting for several.

A message is its length, four bytes in network order, and its bytes; -1 announces a length of eight
bytes instead. Listeners, and what precedes the first message, are in `_connections.listening`.

The public methods of `Connection` are in the extension. They use the memory that the ends of a
`Pipe` share, and do in one call what the methods here do. Where a program has replaced one of
those, or a subclass has its own, the extension calls them instead, and the pipe is plain: all
messages go through its descriptors.
"""

from __future__ import annotations

import functools
import io
import math
import os
import pickle
import select
import socket
import struct
import time
from _collections_abc import Iterable

from .._procession import Connection as _Connection
from .._procession import read_descriptor, read_message, seal_connection, write_descriptor
from ..context import BufferTooShort, reduction

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["LENGTH", "Connection", "Pipe", "over_socket", "wait"]

LENGTH = struct.Struct("!i")
_LONG_LENGTH = struct.Struct("!Q")
# Header and body up to this size are joined into one write; for larger messages the copy costs
# more.
_JOINED = 16384
# The most bytes requested from the kernel at once.
_CHUNK = 1 << 18
# Shortest and longest sleep of `wait` between two looks at signals, in seconds.
_FIRST_SLEEP = 0.002
_LONGEST_SLEEP = 1.0

_ForkingPickler = reduction.ForkingPickler


class Connection(_Connection):
    """A connection over a descriptor (the end of a pipe, or a stream socket), which it owns.

    Between processes of one family, the ends of a `Pipe` also share memory, until `fileno` is
    called.
    """

    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None:
        descriptor = _checked_descriptor(handle)
        if not (readable or writable):
            raise ValueError("at least one of `readable` and `writable` must be True")
        self._open(descriptor, readable, writable)

    def __setattr__(self, name: str, value: object) -> None:
        self._note_attribute(name)
        super().__setattr__(name, value)

    def __del__(self) -> None:
        # The garbage collector may let other objects use the connection afterwards: mark it as
        # closed.
        self.close()

    def _bad_message_length(self) -> None:
        # The position in the stream is lost: nothing may be read from it any more.
        if self._writable:
            self._readable = False
        else:
            self.close()
        raise OSError("bad message length")

    def close(self) -> None:
        """Close the connection; closing it again does nothing."""
        if not self.closed:
            try:
                self._close()
            except Exception:
                self._forget()  # not for an interrupt that came before the close
                raise
            self._forget()  # a subclass's `_close` leaves that to this method

    def _send_part(self, buf: Any, offset: int, size: int | None) -> None:
        self._check_writable()
        if type(buf) is not bytes or offset or size is not None:
            buf = _part(buf, offset, size)
        self._send_bytes(buf)

    def _send_object(self, obj: Any) -> None:
        self._check_writable()
        self._send_bytes(_ForkingPickler.dumps(obj))

    def _recv_part(self, maxlength: int | None) -> bytes:
        self._check_readable()
        if (maxlength or 0) < 0:
            raise ValueError("negative maxlength")
        return self._recv_bytes(maxlength)

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Receive one message into a writable buffer, from byte `offset` on, and return its length.

        Raises BufferTooShort, with the message as its argument, when the message does not fit.
        """
        self._check_readable()
        with memoryview(buf) as view:
            room = view.nbytes - offset
            if offset < 0:
                raise ValueError("negative offset")
            if room < 0:
                raise ValueError("offset too large")
            data = self._receive()
            if len(data) > room:
                raise BufferTooShort(data)
            if data:
                with view.cast("B") as target:
                    target[offset : offset + len(data)] = data
        return len(data)

    def _recv_object(self) -> Any:
        self._check_readable()
        return _ForkingPickler.loads(self._recv_bytes())

    def _poll_object(self, timeout: float | None) -> bool:
        self._check_readable()
        return self._poll(timeout)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, exc_type: object, exc_value: object, exc_tb: object) -> None:
        self.close()

    def _close(self) -> None:
        self._shut()

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
        """Receive exactly `size` (not 0) bytes."""
        return _read(self._handle, size)  # type: ignore[arg-type]

    def _recv_bytes(self, maxsize: int | None = None) -> bytes:
        left = self._take_bytes()
        if left is not None:
            return left
        most = _JOINED if maxsize is None else min(maxsize, _JOINED)
        size = read_message(self._handle, most)  # type: ignore[arg-type]
        if isinstance(size, bytes):
            return size
        if size == -1:
            (size,) = _LONG_LENGTH.unpack(self._recv_rest(8))
        elif size < -1 and (named := self._take_bytes(size)) is not None:
            return named
        if size < 0 or (maxsize is not None and size > maxsize):
            self._bad_message_length()
        return self._recv_rest(size)

    def _recv_rest(self, size: int) -> bytes:
        """Receive `size` bytes within a message, where any end of file is an error."""
        try:
            return self._recv(size)
        except EOFError:
            raise OSError("got end of file during message") from None

    def _recv_long(self, size: int) -> bytes:
        """As `_recv_rest`, for the extension: the pipe does not become plain."""
        try:
            return _read(self._descriptor, size)
        except EOFError:
            raise OSError("got end of file during message") from None

    def _poll(self, timeout: float | None) -> bool:
        return bool(wait([self], timeout))

    # `copy` and `pickle` copy the number of the descriptor. What sends a connection to another
    # process uses `connection.reduce_connection` instead.
    def __getstate__(self) -> dict[str, Any]:
        state = {"_readable": self._readable, "_writable": self._writable, "_handle": self._handle}
        return {**vars(self), **state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class _Joined:
    """Pickles as a pickle and its buffers, which become the object again where this is unpickled."""

    def __init__(self, body: bytes, buffers: list[bytearray]) -> None:
        self._body, self._buffers = body, buffers

    def __reduce__(self) -> Any:
        return functools.partial(pickle.loads, buffers=self._buffers), (self._body,)


def _joined_pickle(body: bytes, buffers: list[bytearray]) -> bytes:
    """Return a pickle that holds another one and the buffers outside that, for any program."""
    return pickle.dumps(_Joined(body, buffers))


def _read(descriptor: int, size: int) -> bytes:
    """Read exactly `size` (not 0) bytes.

    Memory is allocated as bytes arrive, not for the length that the peer announced.
    """
    data = read_descriptor(descriptor, min(size, _CHUNK))
    if len(data) == size:
        return data
    if not data:
        raise EOFError
    buf = io.BytesIO()
    while True:
        size -= buf.write(data)
        if not size:
            return buf.getvalue()
        data = read_descriptor(descriptor, min(size, _CHUNK))
        if not data:
            raise OSError("got end of file during message")


def _checked_descriptor(handle: int) -> int:
    descriptor = handle.__index__()
    if descriptor < 0:
        raise ValueError("invalid handle")
    return descriptor


def _part(buf: Any, offset: int, size: int | None) -> memoryview:
    """Return `size` bytes of a buffer from `offset` on, by default all of them."""
    view = memoryview(buf)
    if view.itemsize > 1 or view.ndim != 1:
        view = view.cast("B")
    left = view.nbytes - offset
    if offset < 0:
        wrong = "offset is negative"
    elif left < 0:
        wrong = "buffer length < offset"
    elif size is None:
        return view[offset:]
    elif size < 0:
        wrong = "size is negative"
    elif size > left:
        wrong = "buffer length < offset + size"
    else:
        return view[offset : offset + size]
    raise ValueError(wrong)


def over_socket(connected: socket.socket) -> Connection:
    """Return the connection that takes over a socket's descriptor."""
    connected.setblocking(True)
    return Connection(connected.detach())


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Return two connections joined to each other.

    If not `duplex`, the first only receives and the second only sends.
    """
    if duplex:
        one, other = map(over_socket, socket.socketpair())
    else:
        reader, writer = os.pipe()
        one, other = Connection(reader, writable=False), Connection(writer, readable=False)
    one._make_lanes(other)
    return one, other


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Wait until some of the objects are ready to be read, and return those.

    Waits at most `timeout` seconds (None: forever). An object is a connection, a socket, a
    process's `sentinel`, or anything with a `fileno()`; at end of file it counts as ready too.
    Raises ValueError if an object is none of these, or if the timeout is NaN.
    """
    if timeout is not None and math.isnan(timeout):
        raise ValueError("Invalid value NaN (not a number)")
    by_descriptor: dict[int, list[Any]] = {}
    # Objects with a descriptor that becomes readable a moment late, so they are polled themselves.
    # Otherwise an item that a process put just before it ended could be reported after its
    # sentinel.
    lagging: list[Any] = []
    # Ends of pipes, whose descriptors are only polled here.
    ends: list[Connection] = []
    poller = select.poll()
    for obj in object_list:
        if getattr(obj, "fileno_lags", False):
            lagging.append(obj)
        try:
            if type(obj) is Connection and not obj._replaced:
                descriptor = obj._descriptor
                ends.append(obj)
            else:
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
        # Messages that were handed to receivers which died.
        left = [obj for obj in ends if obj._has_left()]
        if left or any(obj.poll() for obj in lagging):
            pause = 0.0
        else:
            # A signal that arrives just before the kernel's wait begins is handled only after it.
            # So no sleep is longer than the wait has already lasted (within the two bounds above).
            pause = max(min(max(now - began, _FIRST_SLEEP), _LONGEST_SLEEP, deadline - now), 0)
        ready = poller.poll(math.ceil(pause * 1000))
        found = [obj for descriptor, _events in ready for obj in by_descriptor[descriptor]]
        found += [obj for obj in left if obj not in found]
        found += [obj for obj in lagging if obj not in found and obj.poll()]
        if found:
            return found
        if time.monotonic() >= deadline:
            return []


seal_connection(Connection, _ForkingPickler)
