"""Breaks connections to machines that have not acknowledged for too long what was sent to them.

The kernel asks a silent machine only where all that was sent is acknowledged (`wire`). Its limit on
data that is not also counts the time in which a living receiver leaves its buffer full, so it is for
connections that carry little (`wire.limit`). All others that may send are watched here.
"""

from __future__ import annotations

import os
import socket
import struct

from .. import reduction
from .._threads import Condition, Thread
from . import wire

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Where the kernel's `struct tcp_info` has the segments that are not acknowledged, and the
#: milliseconds since the last acknowledgement.
_UNACKNOWLEDGED, _LAST_ACKNOWLEDGEMENT = 24, 56


class _Watch:
    """The connections that are watched, and the thread that does it while there are some."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._conns: set[Any] = set()
        #: Those that were found silent: what was sent a moment ago may only not be acknowledged yet.
        self._suspected: set[Any] = set()
        self._is_running = False

    def add(self, conn: Any) -> None:
        """Watch a connection from now on."""
        with self._changed:
            self._conns.add(conn)
            if not self._is_running:
                Thread(self._run, "SilenceWatch").start()
                self._is_running = True

    def discard(self, conn: Any) -> None:
        """Watch a connection no longer."""
        with self._changed:
            self._conns.discard(conn)
            if not self._conns:
                self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while self._conns:
                self._changed.wait(wire.silence() / 3)
                before, self._suspected = self._suspected, set(filter(_is_silent, self._conns))
                for conn in self._suspected & before:
                    wire.shut(conn)
            self._is_running = False


def _is_silent(conn: Any) -> bool:
    try:
        with reduction._socket_of(conn, socket.AF_INET) as copy:
            info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except OSError:
        return False  # it has been closed
    (unacknowledged,) = struct.unpack_from("=I", info, _UNACKNOWLEDGED)
    (milliseconds,) = struct.unpack_from("=I", info, _LAST_ACKNOWLEDGEMENT)
    return bool(unacknowledged and milliseconds > wire.silence() * 1000)


_watch = _Watch()


def watch(conn: Any) -> None:
    """Watch a connection from now on."""
    _watch.add(conn)


def leave(conn: Any) -> None:
    """Watch a connection no longer. Call it before the connection is closed."""
    _watch.discard(conn)


def _after_fork() -> None:
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_after_fork)
