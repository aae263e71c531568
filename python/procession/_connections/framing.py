"""Messages over a descriptor: the connection, pairs of connections, and waiting for several.

A message is its length, four bytes in network order, and its bytes; -1 announces a length of eight
bytes instead. Listeners, and what precedes the first message, are in `_connections.listening`.
"""

from __future__ import annotations

import io
import math
import os
import select
import socket
import struct
import time
from _collections_abc import Callable, Iterable
from _weakref import ref

from .._procession import Connection as _Connection
from .._procession import read_descriptor, read_message, write_descriptor
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

# The length in a bell's header: see "Lanes" in the engine's README of channels.
_BELL = -2
# Methods that an instance may replace. Lanes bypass them, so replacing one leaves the lanes.
_REPLACED = frozenset({"_close", "_recv", "_recv_bytes", "_send", "_send_bytes"})

_ForkingPickler = reduction.ForkingPickler


class Connection(_Connection):
    """A connection over a descriptor (the end of a pipe, or a stream socket), which it owns.

    The ends of a `Pipe` also have lanes: messages between processes of one family go through shared
    memory, until the descriptor is requested.
    """

    #: The other end of a pipe, weakly, in the process that made it and those forked from it.
    _peer: Callable[[], Any] | None = None

    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None:
        descriptor = _checked_descriptor(handle)
        if not (readable or writable):
            raise ValueError("at least one of `readable` and `writable` must be True")
        self._open(descriptor, readable, writable)

    def __setattr__(self, name: str, value: object) -> None:
        if name in _REPLACED:
            self._leave_lanes()
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
                self._closed()  # not for an interrupt that came before the close
                raise
            self._closed()  # a subclass's `_close` leaves that to this method

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send bytes of a buffer as one message: `size` from `offset` on, by default all."""
        self._check_writable()
        if type(buf) is not bytes or offset or size is not None:
            buf = _part(buf, offset, size)
        if not self._put_bytes(buf):
            self._send_bytes(buf)

    def _send_object(self, obj: Any) -> None:
        self._send_bytes(_ForkingPickler.dumps(obj))

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive one message as bytes.

        Raises EOFError when the other end is closed and nothing is left. Raises OSError when the
        message is longer than `maxlength` bytes; the connection is then no longer readable.
        """
        self._check_readable()
        if (maxlength or 0) < 0:
            raise ValueError("negative maxlength")
        return self._take(maxlength)

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
            data = self._take()
            if len(data) > room:
                raise BufferTooShort(data)
            if data:
                with view.cast("B") as target:
                    target[offset : offset + len(data)] = data
        return len(data)

    def _take(self, maxsize: int | None = None) -> bytes:
        data = self._take_bytes(True)
        if data is None:
            return self._recv_bytes(maxsize)
        if maxsize is not None and len(data) > maxsize:
            self._bad_message_length()
        return data

    def _move_messages(self) -> None:
        """Move the messages of the lane to the descriptor, for code that reads it."""
        peer = None if self._peer is None else self._peer()
        if peer is None or peer.closed:
            return
        frames = bytearray()
        while (data := self._take_bytes(False)) is not None:
            frames += LENGTH.pack(len(data)) + data
        peer._send(bytes(frames))

    def _recv_object(self) -> Any:
        return _ForkingPickler.loads(self._recv_bytes())

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether there is something to receive.

        Waits up to `timeout` seconds (None: forever).
        """
        self._check_readable()
        return self._poll(timeout)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, exc_type: object, exc_value: object, exc_tb: object) -> None:
        self.close()

    def _close(self) -> None:
        self._shut()

    def _send(self, *buffers: Any) -> None:
        write_descriptor(self._descriptor, *buffers)

    def _send_bytes(self, buf: Any) -> None:
        length = len(buf)
        if length > 0x7FFFFFFF:
            self._send(LENGTH.pack(-1) + _LONG_LENGTH.pack(length), buf)
        elif length > _JOINED:
            self._send(LENGTH.pack(length), buf)
        else:
            self._send(LENGTH.pack(length) + buf)

    def _recv(self, size: int) -> bytes:
        """Receive exactly `size` (not 0) bytes.

        Memory is allocated as bytes arrive, not for the length that the peer announced.
        """
        handle = self._descriptor
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

    def _recv_bytes(self, maxsize: int | None = None) -> bytes:
        most = _JOINED if maxsize is None else min(maxsize, _JOINED)
        size = read_message(self._descriptor, most)
        while size == _BELL and self._arm() is not None:
            # The message that the bell announced is in the lane. It precedes any frame in the
            # descriptor.
            data = self._take_bytes(False)
            size = read_message(self._descriptor, most) if data is None else data
        if isinstance(size, bytes):
            if maxsize is not None and len(size) > maxsize:
                self._bad_message_length()
            return size
        if size == -1:
            (size,) = _LONG_LENGTH.unpack(self._recv_rest(8))
        if size < 0 or (maxsize is not None and size > maxsize):
            self._bad_message_length()
        return self._recv_rest(size)

    def _recv_rest(self, size: int) -> bytes:
        """Receive `size` bytes within a message, where any end of file is an error."""
        try:
            return self._recv(size)
        except EOFError:
            raise OSError("got end of file during message") from None

    def _poll(self, timeout: float | None) -> bool:
        ready = self._poll_lane(timeout)
        return bool(wait([self], timeout)) if ready is None else ready


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
    one._peer, other._peer = ref(other), ref(one)
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
    # Ends of pipes that use their lanes.
    laned: set[Any] = set()
    poller = select.poll()
    for obj in object_list:
        if getattr(obj, "fileno_lags", False):
            lagging.append(obj)
        try:
            if type(obj) is Connection and obj._arm() is not None:
                laned.add(obj)
                descriptor = obj._descriptor
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
        in_lane = [obj for obj in laned if obj._arm()]
        if in_lane or any(obj.poll() for obj in lagging):
            pause = 0.0
        else:
            # A signal that arrives just before the kernel's wait begins is handled only after it.
            # So no sleep is longer than the wait has already lasted (within the two bounds above).
            pause = max(min(max(now - began, _FIRST_SLEEP), _LONGEST_SLEEP, deadline - now), 0)
        ready = poller.poll(math.ceil(pause * 1000))
        shown = [obj for descriptor, _events in ready for obj in by_descriptor[descriptor]]
        # The descriptor of a pipe may be readable for a message that was taken since.
        found = [obj for obj in shown if obj not in laned or obj._is_ready()]
        found += [obj for obj in in_lane if obj not in found]
        found += [obj for obj in lagging if obj not in found and obj.poll()]
        if found:
            return found
        if time.monotonic() >= deadline:
            return []
