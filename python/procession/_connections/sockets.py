"""Addresses and bare sockets: listening, connecting and accepting, without any proof of a key."""

from __future__ import annotations

import os
import socket

from .. import util
from .framing import Connection, over_socket, wait

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["SocketClient", "SocketListener", "address_type", "arbitrary_address"]

default_family = "AF_UNIX"
families = ["AF_INET", "AF_UNIX"]
_FAMILIES_OF_TYPES: dict[type, str] = {tuple: "AF_INET", str: "AF_UNIX"}


def arbitrary_address(family: str) -> Any:
    """Return an unused address of the family.

    This is ('localhost', 0), or a name in this program's temporary folder.
    """
    if family == "AF_INET":
        return ("localhost", 0)
    if family == "AF_UNIX":
        return os.path.join(util.get_temp_dir(), f"listener-{os.getpid()}-{os.urandom(5).hex()}")
    raise ValueError("unrecognized family")


def _validate_family(family: str) -> None:
    if family == "AF_PIPE":
        raise ValueError(f"Family {family} is not recognized.")


def address_type(address: Any) -> str:
    """Return the family of an address: 'AF_INET', 'AF_UNIX' or 'AF_PIPE'.

    Raises ValueError for anything else.
    """
    family = _FAMILIES_OF_TYPES.get(type(address))
    if family == "AF_UNIX" and address.startswith("\\\\"):
        return "AF_PIPE"
    if family is None and util.is_abstract_socket_namespace(address):
        return "AF_UNIX"
    if family is None:
        raise ValueError(f"address type of {address!r} unrecognized")
    return family


def _listening(family: str, address: Any, backlog: int) -> socket.socket:
    listener = socket.socket(getattr(socket, family))
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


class SocketListener:
    """A bound, listening socket.

    The socket itself never blocks: several threads or processes may wait for it, and only one of
    them gets the peer.
    """

    def __init__(self, address: Any, family: str, backlog: int = 1) -> None:
        self._family = family
        self._last_accepted: Any = None
        self._socket = _listening(family, address, backlog)
        self._address = self._socket.getsockname()
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
        """Return the connection to a peer that is already waiting, or None."""
        try:
            peer, self._last_accepted = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        return _connection(peer)

    def close(self) -> None:
        """Close the socket and remove its name from the file system."""
        try:
            self._socket.close()
        finally:
            if self._unlink is not None:
                self._unlink()


def _connection(connected: socket.socket) -> Connection:
    if connected.family != socket.AF_UNIX:
        # The handshake writes twice in a row. The second write must not wait for the peer's delayed
        # acknowledgement of the first.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return over_socket(connected)


def SocketClient(address: Any) -> Connection:
    """Return a connection to the listener at `address`, without a handshake."""
    with socket.socket(getattr(socket, address_type(address))) as s:
        s.connect(address)
        return _connection(s)
