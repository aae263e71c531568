"""A process's own listener, where others of the cluster reach it by a token that they were told."""

from __future__ import annotations

import os
from collections.abc import Callable

from .. import util
from .._threads import RLock, Thread
from . import place, wire

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


class Rendezvous:
    """The listener of this process, and the connections that are expected there."""

    def __init__(self, here: place.Place) -> None:
        self._listener = wire.listen(here.address[0], here.key)
        self.address: tuple[str, int] = self._listener.address
        self.key = here.key
        self._expected: dict[bytes, Callable[[Any], object]] = {}
        args = self._listener, self._admit
        Thread(wire.serve, "ClusterRendezvous", args).start()

    def expect(self, take: Callable[[Any], object]) -> bytes:
        """Return a new token. `take` is called with the connection of the process that shows it.

        That is in a thread of its own; the connection is closed by `take`.
        """
        token = os.urandom(16)
        self._expected[token] = take
        return token

    def forget(self, token: bytes) -> None:
        """Expect nothing with this token any more."""
        self._expected.pop(token, None)

    def _admit(self, conn: Any) -> None:
        try:
            take = self._expected.pop(wire.recv_prompt(conn), None)
        except (EOFError, OSError) as error:
            util.info("a peer left before it showed its token: %s", error)
            take = None
        if take is None:
            conn.close()
        else:
            take(conn)


_mutex = RLock()
_own: Rendezvous | None = None


def own(here: place.Place) -> Rendezvous:
    """Return the rendezvous of this process."""
    global _own
    with _mutex:
        if _own is None or _own.key != here.key:  # a cluster that was left before
            _own = Rendezvous(here)
        return _own


def show(address: tuple[str, int], token: bytes, key: bytes) -> Any:
    """Return a connection to the process that expects the token.

    Raises EOFError or OSError if it cannot be reached.
    """
    conn = wire.connect(address, key)
    try:
        conn.send_bytes(token)
    except BaseException:
        conn.close()
        raise
    return conn


def _after_fork() -> None:
    global _mutex, _own
    _mutex = RLock()
    if _own is not None:
        _own._listener.close()
        _own = None


os.register_at_fork(after_in_child=_after_fork)
