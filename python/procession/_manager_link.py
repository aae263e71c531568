"""A process's way to a manager's server: a connection for each thread's calls, and one for what concerns references.

All of them belong to one session (`_manager_wire`), whose references the server gives back when the process has gone. With a plain server there is no
session, and what concerns references takes a connection for itself each time.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Iterator, Mapping

from . import _procession, process, util
from ._manager_wire import (
    AskingLine,
    dispatch,
    family_of_offer,
    listener_client,
    new_queue,
    result_of,
)

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Link", "Locals"]


class _Channel:
    """One call at a time, over a connection or a line."""

    def __init__(self, line: Any, in_session: bool) -> None:
        self._line = line
        self.in_session = in_session
        # There is nobody, or a reply is still to come that nobody waits for.
        self._broken = False

    def call(self, request: tuple[Any, ...]) -> tuple[str, Any]:
        """Send a request; the reply."""
        self._broken = True
        try:
            self._line.send(request)
        except Exception as error:
            # If it could not be pickled, nothing was sent.
            self._broken = isinstance(error, OSError)
            raise
        try:
            reply = self._line.recv()
        except Exception as error:
            self._broken = isinstance(error, (EOFError, OSError))
            raise
        self._broken = False
        return reply

    def is_usable(self) -> bool:
        """Whether another call can be made; an interrupted one has a moment to end, then only another channel will do."""
        if self._broken and isinstance(self._line, AskingLine):
            self._broken = not self._line.catch_up()
        return not self._broken

    def close(self) -> None:
        """Close it."""
        self._broken = True
        self._line.close()


class Link:
    """The connections of this process to the server at an address, as long as a proxy or manager uses them.

    `Link.to(address, authkey, serializer)` returns the one there is. In a child of fork all are as new.
    """

    _all: weakref.WeakValueDictionary[Any, Link] = weakref.WeakValueDictionary()
    # Of the kind that a signal handler may take in the thread that holds it.
    _mutex = threading.RLock()

    def __init__(self, address: Any, authkey: bytes, serializer: str) -> None:
        self._address = address
        self._authkey = authkey
        self.client = listener_client[serializer][1]
        #: There was a connection for calls once.
        self._connected = False
        self._begin()

    def _begin(self) -> None:
        self.session = os.urandom(16).hex()
        #: Under `connection` a thread's own channel, if it has made a call.
        self.local = threading.local()
        #: The objects that proxies of this process refer to.
        self.ids: set[str] = set()
        self._asking = threading.Lock()
        self._asker: _Channel | None = None
        self._server_is_plain = False

    @classmethod
    def to(cls, address: Any, authkey: bytes, serializer: str) -> Link:
        """The link of this process to a server."""
        key = address, bytes(authkey), serializer
        with cls._mutex:
            link = cls._all.get(key)
            if link is None:
                link = cls._all[key] = cls(address, authkey, serializer)
            return link

    @classmethod
    def key_for(cls, address: Any) -> bytes | None:
        """The key by which this process knows the server at an address, if it does."""
        with cls._mutex:
            return next(
                (link._authkey for link in cls._all.values() if link._address == address), None
            )

    @classmethod
    def end(cls, address: Any) -> None:
        """Close what leads to a server that has ended."""
        with cls._mutex:
            links = [link for link in cls._all.values() if link._address == address]
        for link in links:
            link._begin()

    @classmethod
    def _after_fork(cls) -> None:
        # The copies of the parent's connections must be closed: as long as they are open its end cannot be seen.
        cls._mutex = threading.RLock()
        for link in list(cls._all.values()):
            link._connected = False
            link._begin()

    def channel(self) -> _Channel:
        """This thread's own."""
        channel = getattr(self.local, "connection", None)
        if channel is None or not channel.is_usable():
            # The old one is closed after the new one is there, so that the session does not end in between.
            try:
                channel = self.local.connection = self.open()
            except FileNotFoundError as error:
                if not self._connected:
                    raise
                raise BrokenPipeError(errno.EPIPE, "the manager's server has ended") from error
            self._connected = True
        return channel

    def ask(self, function: str, /, *args: Any, **kwds: Any) -> Any:
        """Call a function of the server itself. Raises what it raised."""
        if not self._server_is_plain:
            # Not to wait: this may be a finalizer, in the middle of another call of the same thread.
            if self._asking.acquire(blocking=False):
                try:
                    if self._asker is None or not self._asker.is_usable():
                        self._asker = self.open()
                    if self._asker.in_session:
                        return result_of(*self._asker.call((None, function, args, kwds)))
                    self._server_is_plain, self._asker = True, None
                finally:
                    self._asking.release()
            else:
                channel = self.open()
                try:
                    if channel.in_session:
                        return result_of(*channel.call((None, function, args, kwds)))
                finally:
                    channel.close()
        conn = self.client(self._address, authkey=self._authkey)
        try:
            return dispatch(conn, None, function, args, kwds)
        finally:
            conn.close()

    def open(self) -> _Channel:
        """A new connection for calls."""
        util.debug("making connection to manager")
        name = process.current_process().name
        if threading.current_thread().name != "MainThread":
            name += "|" + threading.current_thread().name
        conn = self.client(self._address, authkey=self._authkey)
        family = family_of_offer(dispatch(conn, None, "accept_connection", (name,)))
        if family is None:
            return _Channel(conn, in_session=False)
        if family != _procession.family_id():
            dispatch(conn, None, "join_session", (self.session,))
            return _Channel(conn, in_session=True)
        requests, replies = new_queue(), new_queue()
        dispatch(conn, None, "join_session", (self.session, requests, replies))
        return _Channel(AskingLine(conn, replies, requests), in_session=True)


class Locals(Mapping):
    """What this process's links have, by the server's address: for each thread its connection, and the ids of objects."""

    def __getitem__(self, address: Any) -> tuple[threading.local, set[str]]:
        return self._found()[address]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())

    @staticmethod
    def _found() -> dict[Any, tuple[threading.local, set[str]]]:
        with Link._mutex:
            return {link._address: (link.local, link.ids) for link in list(Link._all.values())}


os.register_at_fork(after_in_child=Link._after_fork)
