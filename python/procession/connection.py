"""Connections: messages over pipes and sockets, listeners, clients, and waiting for several.

The framing (`_connections.framing`) and the handshake (`_connections.listening`) are CPython's, so either end of a
connection may be a plain `multiprocessing`. `reduction` turns objects into bytes.
"""

from __future__ import annotations

from _collections_abc import Callable

from ._connections import authentication
from ._connections.framing import Connection as Connection
from ._connections.framing import Pipe, wait
from ._connections.listening import CONNECTION_TIMEOUT as CONNECTION_TIMEOUT
from ._connections.listening import Client, Listener
from ._connections.listening import answer_challenge as answer_challenge
from ._connections.listening import deliver_challenge as deliver_challenge
from ._connections.sockets import SocketClient as SocketClient
from ._connections.sockets import SocketListener as SocketListener
from ._connections.sockets import _validate_family as _validate_family
from ._connections.sockets import address_type as address_type
from ._connections.sockets import arbitrary_address as arbitrary_address
from ._connections.sockets import default_family as default_family
from ._connections.sockets import families as families
from .context import AuthenticationError as AuthenticationError
from .context import BufferTooShort as BufferTooShort
from .context import reduction

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["Client", "Listener", "Pipe", "wait"]

_ForkingPickler = reduction.ForkingPickler

# The handshake under its names in CPython: with an underscore from 3.12 on.
MESSAGE_LENGTH = authentication.MESSAGE_LENGTH
CHALLENGE = _CHALLENGE = authentication.CHALLENGE
WELCOME = _WELCOME = authentication.WELCOME
FAILURE = _FAILURE = authentication.FAILURE
_create_response = authentication.create_response
_verify_challenge = authentication.verify_challenge
_get_digest_name_and_payload = authentication.split_digest

BUFSIZE = 8192


class ConnectionWrapper:
    """A connection that converts objects with `dumps` and `loads` instead of pickle."""

    def __init__(
        self, conn: Connection, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]
    ) -> None:
        self._conn = conn
        self._dumps = dumps
        self._loads = loads
        for name in ("fileno", "close", "poll", "recv_bytes", "send_bytes"):
            setattr(self, name, getattr(conn, name))

    @property
    def _readable(self) -> bool:
        return self._conn.readable

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
    """A listener for connections that carry XML-RPC values."""

    def accept(self) -> Any:
        """Accept a connection, as `Listener.accept` does."""
        return ConnectionWrapper(super().accept(), _xml_dumps, _xml_loads)


def XmlClient(*args: Any, **kwds: Any) -> ConnectionWrapper:
    """Return a connection to an `XmlListener`; the arguments are those of `Client`."""
    return ConnectionWrapper(Client(*args, **kwds), _xml_dumps, _xml_loads)


def reduce_connection(conn: Connection) -> Any:
    """Reduce a connection for the pickler.

    The descriptor is passed in the way that suits the pickle. What the ends of a pipe share stays
    theirs if the pickle is read by a process of the family alone.
    """
    lanes = conn._lanes()
    if lanes is None:
        return rebuild_connection, (reduction.DupFd(conn.fileno()), conn.readable, conn.writable)
    duplicate = reduction.DupFd(conn._descriptor)
    return _rebuild_end, (lanes, duplicate, conn.readable, conn.writable)


def rebuild_connection(df: Any, readable: bool, writable: bool) -> Connection:
    """Make a connection again from the result of `reduce_connection`."""
    return Connection(df.detach(), readable, writable)


def _rebuild_end(lanes: tuple[int, int, int], *arguments: Any) -> Connection:
    conn = rebuild_connection(*arguments)
    conn._join_lanes(lanes)
    return conn


reduction.register(Connection, reduce_connection)

for _public in (Client, Connection, Listener, Pipe, SocketClient, SocketListener, wait):
    _public.__module__ = __name__
