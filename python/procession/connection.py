"""Connections: messages over pipes and sockets, listeners and clients, and waiting for several of them.

The framing and the handshake are CPython's own, so either end of a connection may be a plain `multiprocessing`. What a key's
proof consists of is in `_authentication`; how an object becomes bytes is `reduction`'s.
"""

from __future__ import annotations

import io
import math
import os
import select
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from . import _authentication, util
from .context import AuthenticationError, BufferTooShort, reduction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Client", "Listener", "Pipe", "wait"]

_ForkingPickler = reduction.ForkingPickler

# The handshake under the names it has in CPython: with an underscore from 3.12 on.
MESSAGE_LENGTH = _authentication.MESSAGE_LENGTH
CHALLENGE = _CHALLENGE = _authentication.CHALLENGE
WELCOME = _WELCOME = _authentication.WELCOME
FAILURE = _FAILURE = _authentication.FAILURE
_create_response = _authentication.create_response
_verify_challenge = _authentication.verify_challenge
_get_digest_name_and_payload = _authentication.split_digest

BUFSIZE = 8192
# Seconds a peer has for its whole handshake; it is dropped afterwards.
CONNECTION_TIMEOUT = 20.0

default_family = "AF_UNIX"
families = ["AF_INET", "AF_UNIX"]

_LENGTH = struct.Struct("!i")
_LONG_LENGTH = struct.Struct("!Q")
# Header and body of a message up to this size go out in one piece; larger ones are not worth the copy.
_JOINED = 16384
# Most bytes asked of the kernel at once.
_CHUNK = 1 << 18


def arbitrary_address(family: str) -> Any:
    """An unused address of the family: ('localhost', 0), or a name in this program's temporary folder."""
    if family == "AF_INET":
        return ("localhost", 0)
    if family == "AF_UNIX":
        return os.path.join(util.get_temp_dir(), f"listener-{os.getpid()}-{os.urandom(5).hex()}")
    raise ValueError("unrecognized family")


def _validate_family(family: str) -> None:
    if family not in families and (family == "AF_PIPE" or not hasattr(socket, family)):
        raise ValueError(f"Family {family} is not recognized.")


def address_type(address: Any) -> str:
    """The family of an address: 'AF_INET', 'AF_UNIX' or 'AF_PIPE'. Raises ValueError for anything else."""
    if type(address) is tuple:
        return "AF_INET"
    if type(address) is str and address.startswith("\\\\"):
        return "AF_PIPE"
    if type(address) is str or util.is_abstract_socket_namespace(address):
        return "AF_UNIX"
    raise ValueError(f"address type of {address!r} unrecognized")


class _ConnectionBase:
    """What every kind of connection does before it touches its descriptor: checks, and turning objects into bytes."""

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
        if self._handle is not None:
            self._close()

    def _close(self) -> None:
        raise NotImplementedError

    def _send_bytes(self, buf: Any) -> None:
        raise NotImplementedError

    def _recv_bytes(self, maxsize: int | None = None) -> bytes | None:
        raise NotImplementedError

    def _poll(self, timeout: float | None) -> bool:
        raise NotImplementedError

    def _check_closed(self) -> None:
        if self._handle is None:
            raise OSError("handle is closed")

    def _check_readable(self) -> None:
        if not self._readable:
            raise OSError("connection is write-only")

    def _check_writable(self) -> None:
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
        self._check_closed()
        assert self._handle is not None
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
        self._check_closed()
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
        self._check_closed()
        self._check_writable()
        self._send_bytes(_ForkingPickler.dumps(obj))

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive one message as bytes.

        Raises EOFError when the other end is closed and nothing is left, and OSError when the message is longer than
        `maxlength` bytes; the connection cannot be read any more then.
        """
        self._check_closed()
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
        self._check_closed()
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
        self._check_closed()
        self._check_readable()
        return _ForkingPickler.loads(self._recv_bytes())  # type: ignore[arg-type]

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether something can be received, waiting up to `timeout` seconds (None: for ever) for it."""
        self._check_closed()
        self._check_readable()
        return self._poll(timeout)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, exc_type: object, exc_value: object, exc_tb: object) -> None:
        self.close()


class Connection(_ConnectionBase):
    """A connection over a descriptor: a pipe's end or a stream socket. It owns the descriptor."""

    def _close(self, _close: Callable[[int], None] = os.close) -> None:
        _close(self._handle)  # type: ignore[arg-type]

    def _send(self, *buffers: Any) -> None:
        handle = self._handle
        if len(buffers) == 1:
            (data,) = buffers
            sent = os.write(handle, data)  # type: ignore[arg-type]
            if sent == len(data):
                return
        else:
            sent = os.writev(handle, buffers)  # type: ignore[arg-type]
        for data in buffers:
            if sent >= len(data):
                sent -= len(data)
                continue
            rest = memoryview(data)[sent:]
            sent = 0
            while rest:
                rest = rest[os.write(handle, rest) :]  # type: ignore[arg-type]

    def _send_bytes(self, buf: Any) -> None:
        length = len(buf)
        if length > 0x7FFFFFFF:
            self._send(_LENGTH.pack(-1) + _LONG_LENGTH.pack(length), buf)
        elif length > _JOINED:
            self._send(_LENGTH.pack(length), buf)
        else:
            self._send(_LENGTH.pack(length) + buf)

    def _recv(self, size: int) -> bytes:
        """Exactly `size` (not 0) bytes. Memory is taken as they arrive, not because a peer announced them."""
        handle = self._handle
        data = os.read(handle, min(size, _CHUNK))  # type: ignore[arg-type]
        if len(data) == size:
            return data
        if not data:
            raise EOFError
        buf = io.BytesIO()
        while True:
            size -= buf.write(data)
            if not size:
                return buf.getvalue()
            data = os.read(handle, min(size, _CHUNK))  # type: ignore[arg-type]
            if not data:
                raise OSError("got end of file during message")

    def _recv_bytes(self, maxsize: int | None = None) -> bytes | None:
        (size,) = _LENGTH.unpack(self._recv(4))
        if size == -1:
            (size,) = _LONG_LENGTH.unpack(self._recv_rest(8))
        if size < 0:
            self._bad_message_length()
        if maxsize is not None and size > maxsize:
            return None
        return self._recv_rest(size) if size else b""

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


class SocketListener:
    """A bound, listening socket.

    The socket itself never blocks: several threads or processes may wait for it, and only one of them gets the peer.
    """

    def __init__(self, address: Any, family: str, backlog: int = 1) -> None:
        self._socket = socket.socket(getattr(socket, family))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setblocking(False)
            self._socket.bind(address)
            self._socket.listen(backlog)
            self._address = self._socket.getsockname()
        except OSError:
            self._socket.close()
            raise
        self._family = family
        self._last_accepted: Any = None
        self._unlink: Any = None
        if family == "AF_UNIX" and not util.is_abstract_socket_namespace(address):
            self._unlink = util.Finalize(self, os.unlink, args=(address,), exitpriority=0)

    def accept(self) -> Connection:
        """Wait for a peer. Raises OSError when the socket is closed."""
        while True:
            connection = self.accept_now()
            if connection is not None:
                return connection
            wait([self._socket])

    def accept_now(self) -> Connection | None:
        """A peer that is waiting already, or None."""
        try:
            peer, self._last_accepted = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        peer.setblocking(True)
        return Connection(peer.detach())

    def close(self) -> None:
        """Close the socket and remove its name from the file system."""
        try:
            self._socket.close()
        finally:
            unlink, self._unlink = self._unlink, None
            if unlink is not None:
                unlink()


def SocketClient(address: Any) -> Connection:
    """A connection to the listener at `address`, without a handshake."""
    with socket.socket(getattr(socket, address_type(address))) as s:
        s.setblocking(True)
        s.connect(address)
        return Connection(s.detach())


class _Handshake:
    """A listener's half of the mutual proof, advanced whenever bytes arrive; it never waits and reads no byte too many."""

    def __init__(self, connection: Connection, authkey: bytes) -> None:
        self.connection = connection
        self.deadline = time.monotonic() + CONNECTION_TIMEOUT
        self._steps = self._both(authkey)
        self._received = bytearray()
        self._wanted = 4

    @staticmethod
    def _both(authkey: bytes) -> _authentication.Steps:
        yield from _authentication.challenge(authkey)
        yield from _authentication.answer(authkey)

    def fileno(self) -> int:
        return self.connection.fileno()

    def advance(self, message: bytes | None = None) -> bool:
        """Hand the peer's message (at first None) to the protocol; whether that proved the peer."""
        try:
            reply = self._steps.send(message)
            while reply is not None:
                # A few hundred bytes in all: the socket's buffer takes them whatever the peer does.
                os.write(self.fileno(), _LENGTH.pack(len(reply)) + reply)
                reply = next(self._steps)
        except StopIteration:
            return True
        return False

    def receive(self) -> bool:
        """Take what has arrived, as `wait` says that something has; whether the peer is proved by now."""
        data = os.read(self.fileno(), self._wanted - len(self._received))
        if not data:
            raise EOFError
        self._received += data
        if len(self._received) < self._wanted:
            return False
        if self._wanted == 4:
            (length,) = _LENGTH.unpack(self._received)
            if not 0 <= length <= _authentication.LONGEST_MESSAGE:
                raise OSError("bad message length")
            self._wanted += length
            if length:
                return False
        message = bytes(self._received[4:])
        self._received.clear()
        self._wanted = 4
        return self.advance(message)


class Listener:
    """A bound socket that accepts connections.

    `address` defaults to a free one of `family` (default AF_UNIX); with an `authkey` (bytes) every peer must prove that it knows
    it, and gets our proof. The handshakes of several peers run side by side, so one that is silent keeps nobody waiting; it is
    refused after `CONNECTION_TIMEOUT` seconds.
    """

    # Peers in the middle of their handshake; the oldest makes room for another.
    _MOST_PENDING = 128

    def __init__(
        self,
        address: Any = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        family = family or (address and address_type(address)) or default_family
        address = address or arbitrary_address(family)
        _validate_family(family)
        if authkey is not None and not isinstance(authkey, bytes):
            raise TypeError("authkey should be a byte string")
        self._listener: SocketListener | None = SocketListener(address, family, backlog)
        self._authkey = authkey
        self._pending: list[_Handshake] = []
        self._mutex = threading.Lock()

    def accept(self) -> Connection:
        """Wait for a peer and return the connection to it.

        Raises AuthenticationError when a peer has the wrong key or takes too long, EOFError or OSError when it leaves or talks
        nonsense; the listener stays usable. Raises OSError when the listener is closed.
        """
        listener = self._listener
        if listener is None:
            raise OSError("listener is closed")
        if self._authkey is None:
            return listener.accept()
        # Each caller goes on with the handshakes that were left over, alone: threads do not share them.
        with self._mutex:
            pending, self._pending = self._pending, []
        try:
            return self._accept_proved(listener, pending, self._authkey)
        finally:
            with self._mutex:
                self._pending += pending

    def _accept_proved(
        self, listener: SocketListener, pending: list[_Handshake], authkey: bytes
    ) -> Connection:
        while True:
            timeout = min((peer.deadline for peer in pending), default=math.inf) - time.monotonic()
            ready = wait([listener._socket, *pending], None if timeout == math.inf else timeout)
            for peer in ready:
                if isinstance(peer, _Handshake) and self._proved(peer, pending, peer.receive):
                    return peer.connection
            if listener._socket in ready:
                connection = listener.accept_now()
                if connection is not None:
                    if len(pending) >= self._MOST_PENDING:
                        pending.pop(0).connection.close()
                    pending.append(_Handshake(connection, authkey))
                    self._proved(pending[-1], pending, pending[-1].advance)
            now = time.monotonic()
            for peer in pending:
                if peer.deadline < now and peer not in ready:
                    pending.remove(peer)
                    peer.connection.close()
                    raise AuthenticationError(
                        f"the peer did not finish its handshake in {CONNECTION_TIMEOUT} s"
                    )

    @staticmethod
    def _proved(peer: _Handshake, pending: list[_Handshake], step: Callable[[], bool]) -> bool:
        """Take one step; a peer that is through or fails is no longer pending."""
        try:
            proved = step()
        except BaseException:
            pending.remove(peer)
            peer.connection.close()
            raise
        if proved:
            pending.remove(peer)
        return proved

    def close(self) -> None:
        """Close the listener and drop the peers that it has not returned yet."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with self._mutex:
                pending, self._pending = self._pending, []
            for peer in pending:
                peer.connection.close()
            listener.close()

    @property
    def address(self) -> Any:
        """The address it is bound to."""
        return self._listener._address  # type: ignore[union-attr]

    @property
    def last_accepted(self) -> Any:
        """The address of the last peer, None if there was none or it has none."""
        return self._listener._last_accepted  # type: ignore[union-attr]

    def __enter__(self) -> Any:
        return self

    def __exit__(self, exc_type: object, exc_value: object, exc_tb: object) -> None:
        self.close()


def Client(address: Any, family: str | None = None, authkey: bytes | None = None) -> Connection:
    """A connection to the listener at `address`. Raises AuthenticationError when the two keys differ.

    Waits as long as the listener's program takes to accept it.
    """
    family = family or address_type(address)
    _validate_family(family)
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError("authkey should be a byte string")
    connection = SocketClient(address)
    if authkey is not None:
        try:
            answer_challenge(connection, authkey)
            deliver_challenge(connection, authkey)
        except BaseException:
            connection.close()
            raise
    return connection


def _drive(connection: Any, steps: _authentication.Steps) -> None:
    message = None
    try:
        while True:
            reply = steps.send(message)
            if reply is None:
                message = connection.recv_bytes(_authentication.LONGEST_MESSAGE)
            else:
                connection.send_bytes(reply)
                message = None
    except StopIteration:
        pass


def _check_key(authkey: object) -> None:
    if not isinstance(authkey, bytes):
        raise ValueError(f"Authkey must be bytes, not {type(authkey)}")


def deliver_challenge(connection: Any, authkey: bytes, digest_name: str = "sha256") -> None:
    """Let the peer prove that it knows the key; raises AuthenticationError when it does not. Waits for the peer."""
    _check_key(authkey)
    _drive(connection, _authentication.challenge(authkey, digest_name))


def answer_challenge(connection: Any, authkey: bytes) -> None:
    """Prove to the peer that we know the key; raises AuthenticationError when it is not content. Waits for the peer."""
    _check_key(authkey)
    _drive(connection, _authentication.answer(authkey))


class ConnectionWrapper:
    """A connection whose objects travel by `dumps` and `loads` instead of pickle."""

    def __init__(
        self, conn: Connection, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]
    ) -> None:
        self._conn = conn
        self._dumps = dumps
        self._loads = loads
        for name in ("fileno", "close", "poll", "recv_bytes", "send_bytes"):
            setattr(self, name, getattr(conn, name))

    def send(self, obj: Any) -> None:
        """Send an object."""
        self._conn.send_bytes(self._dumps(obj))

    def recv(self) -> Any:
        """Receive an object."""
        return self._loads(self._conn.recv_bytes())


def _xml_dumps(obj: Any) -> bytes:
    import xmlrpc.client

    return xmlrpc.client.dumps((obj,), None, None, None, True).encode("utf-8")


def _xml_loads(data: bytes) -> Any:
    import xmlrpc.client

    (obj,), _method = xmlrpc.client.loads(data.decode("utf-8"))
    return obj


class XmlListener(Listener):
    """A listener whose connections carry XML-RPC values."""

    def accept(self) -> Any:
        """As `Listener.accept`."""
        return ConnectionWrapper(super().accept(), _xml_dumps, _xml_loads)


def XmlClient(*args: Any, **kwds: Any) -> ConnectionWrapper:
    """A connection to an `XmlListener`; arguments as `Client`."""
    return ConnectionWrapper(Client(*args, **kwds), _xml_dumps, _xml_loads)


# poll(2) takes milliseconds as an int.
_LONGEST_POLL = 2**31 - 1


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Wait until some of the objects can be read from, or `timeout` seconds (None: for ever) have passed; returns those.

    An object is a connection, a socket, a process's `sentinel`, or anything with a `fileno()`; the end of a file can be read too.
    """
    by_descriptor: dict[int, list[Any]] = {}
    poller = select.poll()
    for obj in object_list:
        descriptor = obj if isinstance(obj, int) else obj.fileno()
        if descriptor < 0:
            raise ValueError(f"Invalid file descriptor: {descriptor}")
        by_descriptor.setdefault(descriptor, []).append(obj)
        poller.register(descriptor, select.POLLIN)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        if deadline is None:
            ready = poller.poll()
        else:
            left = max(deadline - time.monotonic(), 0) if timeout > 0 else 0  # type: ignore[operator]
            ready = poller.poll(min(math.ceil(left * 1000), _LONGEST_POLL))
        if ready:
            return [obj for descriptor, _events in ready for obj in by_descriptor[descriptor]]
        if deadline is not None and time.monotonic() >= deadline:
            return []


def reduce_connection(conn: Connection) -> Any:
    """For the pickler: the descriptor goes along, by whatever way the pickle goes."""
    return rebuild_connection, (reduction.DupFd(conn.fileno()), conn.readable, conn.writable)


def rebuild_connection(df: Any, readable: bool, writable: bool) -> Connection:
    """The counterpart of `reduce_connection`."""
    return Connection(df.detach(), readable, writable)


reduction.register(Connection, reduce_connection)
