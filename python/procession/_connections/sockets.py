"""Addresses and bare sockets: listening, connecting and accepting, without any proof of a key."""

from __future__ import annotations

import os
import socket

from .. import util
from .framing import Connection, wait

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SocketClient", "SocketListener", "address_type", "arbitrary_address"]

default_family = "AF_UNIX"
families = ["AF_INET", "AF_UNIX"]


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
    if type(address) is tuple:
        return "AF_INET"
    if type(address) is str and address.startswith("\\\\"):
        return "AF_PIPE"
    if type(address) is str or util.is_abstract_socket_namespace(address):
        return "AF_UNIX"
    raise ValueError(f"address type of {address!r} unrecognized")


class SocketListener:
    """A bound, listening socket.

    The socket itself never blocks: several threads or processes may wait for it, and only one of
    them gets the peer.
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
            unlink, self._unlink = self._unlink, None
            if unlink is not None:
                unlink()


def _connection(connected: socket.socket) -> Connection:
    connected.setblocking(True)
    if connected.family != socket.AF_UNIX:
        # The handshake writes twice in a row. The second write must not wait for the peer's delayed
        # acknowledgement of the first.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(connected.detach())


def SocketClient(address: Any) -> Connection:
    """Return a connection to the listener at `address`, without a handshake."""
    with socket.socket(getattr(socket, address_type(address))) as s:
        s.connect(address)
        return _connection(s)
