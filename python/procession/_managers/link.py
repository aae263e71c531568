"""A process's link to a manager's server.

It has a connection for the calls of each thread, and one for reference counts.

All of them belong to one session (`_managers.wire`); the server drops the session's references when
the process is gone. A server of plain `multiprocessing` has no sessions, and each change of a
reference count opens a connection of its own.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Iterator, Mapping

from .. import process, util
from .._procession import family_id
from .._threads import RLock
from .wire import (
    AskingLine,
    call_once,
    dispatch,
    family_of_offer,
    listener_client,
    new_queue,
    result_of,
    stream,
)

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["Link", "Locals"]


class _Channel:
    """One call at a time, over a connection or a line."""

    def __init__(self, line: Any, in_session: bool) -> None:
        self._line = line
        self.in_session = in_session
        # The peer is gone, or a reply is due that no call waits for any more.
        self._broken = False
        # A call waits for its reply.
        self._calling = False

    def call(self, request: tuple[Any, ...]) -> tuple[str, Any]:
        """Send a request and return the reply."""
        self._calling = self._broken = True
        try:
            self._line.send(request)
            reply = self._line.recv()
        except Exception as error:
            # If pickling failed, nothing was sent; if unpickling failed, the reply has come. But
            # the error may also be that of a signal handler.
            gone = isinstance(error, (EOFError, OSError))
            self._broken = getattr(self._line, "is_due", gone)
            raise
        else:
            self._broken = False
            return reply
        finally:
            self._calling = False

    @property
    def is_of_family(self) -> bool:
        """Whether the server is of this process's family."""
        return isinstance(self._line, AskingLine)

    def is_usable(self) -> bool:
        """Return whether another call can be made.

        An interrupted call gets a moment to end. If it does not, the caller needs another channel.
        So does a signal handler or finalizer in the middle of a call: the next reply is that call's.
        """
        if self._calling:
            return False
        if self._broken and isinstance(self._line, AskingLine):
            self._broken = not self._line.catch_up()
        return not self._broken

    def close(self) -> None:
        """Close the channel."""
        self._broken = True
        self._line.close()


class Link:
    """The connections of this process to the server at an address.

    They exist while a proxy or manager uses them.

    `Link.to(address, authkey, serializer)` returns the existing one. In a child of fork every link
    starts afresh.
    """

    _all: weakref.WeakValueDictionary[Any, Link] = weakref.WeakValueDictionary()
    # Reentrant: a signal handler may take it in the thread that holds it.
    _mutex = RLock()

    def __init__(self, address: Any, authkey: bytes, serializer: str) -> None:
        self._address = address
        self._authkey = authkey
        self.client = listener_client[serializer][1]
        #: Whether there has been a connection for calls.
        self._connected = False
        self._begin()

    def _begin(self) -> None:
        self.session = os.urandom(16).hex()
        #: Holds, as `connection`, a thread's own channel once it has made a call.
        self.local = threading.local()
        #: The ids of the objects that proxies of this process refer to.
        self.ids: set[str] = set()
        self._asking = threading.Lock()
        self._asker: _Channel | None = None
        self._server_is_plain = False

    @classmethod
    def to(cls, address: Any, authkey: bytes, serializer: str) -> Link:
        """Return the link of this process to a server."""
        key = address, bytes(authkey), serializer
        with cls._mutex:
            link = cls._all.get(key)
            if link is None:
                link = cls._all[key] = cls(address, authkey, serializer)
            return link

    @classmethod
    def key_for(cls, address: Any) -> bytes | None:
        """Return the key that this process has for the server at an address, or None."""
        return next((link._authkey for link in cls._living() if link._address == address), None)

    @classmethod
    def end(cls, address: Any) -> None:
        """Close the connections to a server that has ended."""
        for link in cls._living():
            if link._address == address:
                link._begin()

    @classmethod
    def _living(cls) -> list[Link]:
        return [link for _key, link in util.living_items(cls._all)]

    @classmethod
    def _after_fork(cls) -> None:
        # Close the copies of the parent's connections: while they are open, the server cannot see
        # the parent's end.
        cls._mutex = RLock()
        for link in cls._living():
            link._connected = False
            link._begin()

    def channel(self) -> _Channel:
        """Return this thread's own channel."""
        channel = getattr(self.local, "connection", None)
        if channel is None or not channel.is_usable():
            # Close the old channel only after the new one is open, so that the session does not end
            # in between.
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
            # Never wait here: this may be a finalizer in the middle of another call of the same
            # thread.
            asking = self._asking  # `_begin` may replace it meanwhile
            if asking.acquire(blocking=False):
                try:
                    if self._asker is None or not self._asker.is_usable():
                        self._asker = self.open()
                    if self._asker.in_session:
                        return result_of(*self._asker.call((None, function, args, kwds)))
                    self._server_is_plain, self._asker = True, None
                finally:
                    asking.release()
            else:
                channel = self.open()
                try:
                    if channel.in_session:
                        return result_of(*channel.call((None, function, args, kwds)))
                finally:
                    channel.close()
        return call_once(self.client, self._address, self._authkey, function, args, kwds)

    def refer(self, ident: str) -> None:
        """Have the server count a reference to an object."""
        self.ask("incref", ident)
        util.debug("INCREF %r", ident)
        self.ids.add(ident)

    def open(self) -> _Channel:
        """Open a new connection for calls."""
        util.debug("making connection to manager")
        name = process.current_process().name
        if threading.current_thread().name != "MainThread":
            name += "|" + threading.current_thread().name
        conn = self.client(self._address, authkey=self._authkey)
        family = family_of_offer(dispatch(conn, None, "accept_connection", (name,)))
        if family is None:
            return _Channel(stream(conn), in_session=False)
        if family != family_id():
            dispatch(conn, None, "join_session", (self.session,))
            return _Channel(stream(conn), in_session=True)
        requests, replies = new_queue(), new_queue()
        dispatch(conn, None, "join_session", (self.session, requests, replies))
        return _Channel(AskingLine(conn, replies, requests), in_session=True)


class Locals(Mapping):
    """This process's links by server address: each thread's connection, and object ids."""

    def __getitem__(self, address: Any) -> tuple[threading.local, set[str]]:
        return self._found()[address]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())

    @staticmethod
    def _found() -> dict[Any, tuple[threading.local, set[str]]]:
        return {link._address: (link.local, link.ids) for link in Link._living()}


os.register_at_fork(after_in_child=Link._after_fork)
