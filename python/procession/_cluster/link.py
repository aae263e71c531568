"""A process's link to its deputy at another home: a connection for each thread, and one for its life.

While the connection for its life (the *session*) is open, the deputy exists. See the package's
docstring for what deputies are.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque

from .. import process, util
from .._errors import NodeLost
from .._threads import RLock
from . import place, wire

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: What a caller sends besides requests. The deputy answers a cancellation by the same bytes.
ACKNOWLEDGED, CANCEL = b"a", b"c"
#: What stands before a deputy's replies: the caller is to run its barrier's action; the result is
#: taken back unless it is acknowledged; the call is done.
ACTION, KEPT, DONE = b"?", b"!", b"."
#: A reply of more bytes follows in a message of its own, so that it need not be copied behind that.
APART = 1 << 16

_BROKEN = (EOFError, OSError)


class Renewed(Exception):
    """The session is over, and with it the numbers of objects in it: nothing was sent."""


class _Channel:
    """The connection of one thread, over which it makes one call at a time."""

    def __init__(self, link: Link, conn: Any) -> None:
        self._link, self._conn = link, conn
        #: The session in which it was made.
        self.session = link.session
        #: A call waits for its result.
        self.is_busy = False

    @property
    def is_broken(self) -> bool:
        """Whether the connection has ended."""
        return self._conn.closed

    def call(self, request: tuple[Any, ...], action: Any, kept: list[_Channel] | None) -> Any:
        """Send a request, and return its result or raise its error.

        If the deputy can take the result back after this, the channel is added to `kept`, and stays
        busy until that is settled.
        """
        drops = self._link.take_drops()
        try:
            data = wire.dumps((drops, *request))
        except BaseException:
            self._link.drops.extend(drops)
            raise
        sent = False
        self.is_busy = True
        try:
            self._conn.send_bytes(data)
            sent = True
            what, reply = self._reply(action)
            if what == KEPT:
                # Acknowledged as late as possible: until then an interrupt gives the item back.
                # References in it make their calls over another channel.
                how, value = _unpickled(reply)
                if kept is not None and how != "error":
                    kept.append(self)
                self._conn.send_bytes(ACKNOWLEDGED)
        except _BROKEN as error:
            if kept:
                kept.clear()
            self._conn.close()
            raise self._link.lost(error) from error
        except BaseException:
            # A signal handler has interrupted the call.
            if kept:
                kept.clear()
            if not (sent and self._cancelled()):
                self._conn.close()
            raise
        finally:
            self.is_busy = bool(kept)
        if what != KEPT:
            how, value = wire.loads(reply)
        if how == "error":
            try:
                raise value
            finally:
                del value  # the error's traceback refers to this frame
        return value

    def _reply(self, action: Any) -> tuple[bytes, Any]:
        """Return what stands before the reply, and the reply."""
        while True:
            reply = self._conn.recv_bytes()
            what = reply[:1]
            if what != ACTION:
                return what, memoryview(reply)[1:] if len(reply) > 1 else self._conn.recv_bytes()
            wire.send(self._conn, _outcome(action))

    def _cancelled(self) -> bool:
        """Cancel the call; return whether the channel can be used again."""
        try:
            self._conn.send_bytes(CANCEL)
            while self._conn.recv_bytes() != CANCEL:
                pass
        except BaseException:
            # Broken, or interrupted again: the deputy cancels the call at the connection's end.
            return False
        return True

    def give_back(self) -> None:
        """Undo the last call, whose result was acknowledged: its caller will not have it."""
        try:
            if not self._cancelled():
                self._conn.close()
        finally:
            self.is_busy = False

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()


def _unpickled(data: memoryview) -> tuple[str, Any]:
    """Return a result, or the error of an item that cannot be unpickled: it is gone, as on one machine.

    Raises what a signal handler raised meanwhile.
    """
    try:
        return wire.loads(data)
    except Exception as error:
        try:
            wire.loads(data)
        except Exception:
            return "error", error
        raise  # not the item's error, which comes again


def _outcome(action: Any) -> tuple[bool, Any]:
    try:
        action()
    except Exception as error:
        return False, error
    return True, None


class Link:
    """The connections of this process to its deputy at one home."""

    _all: dict[Any, Link] = {}
    # Reentrant: a signal handler may take it in the thread that holds it.
    _mutex = RLock()

    def __init__(self, address: tuple[str, int], node: str) -> None:
        self._address, self.node = address, node
        self._begin()

    def _begin(self) -> None:
        self._opening = RLock()
        self._local = threading.local()
        self._channels: weakref.WeakSet[_Channel] = weakref.WeakSet()
        self._session: Any = None
        self._deputy: Any = None
        #: Numbers of objects that this process needs no longer, told with the next request.
        self.drops: deque[int] = deque()

    @classmethod
    def to(cls, address: tuple[str, int], node: str) -> Link:
        """Return the link of this process to a home."""
        with cls._mutex:
            if address not in cls._all:
                cls._all[address] = cls(address, node)
            return cls._all[address]

    @classmethod
    def _after_fork(cls) -> None:
        # A copy of the parent's connection must not hide the parent's end from its deputy.
        cls._mutex = RLock()
        for link in cls._all.values():
            for channel in util.living(link._channels):
                channel.close()
            if link._session is not None:
                link._session.close()
            link._begin()

    @property
    def session(self) -> Any:
        """What numbers of objects belong to: another object once the deputy is another."""
        return self._session

    def attach(self, local: bytes, ticket: bytes | None) -> tuple[Any, int]:
        """Have the deputy keep an object; return the session and the object's number in it."""
        return self._call(None, ("attach", local, ticket), None, None)

    def call(self, session: Any, *request: Any, action: Any = None, kept: Any = None) -> Any:
        """Have the deputy carry out a request; return its result or raise its error.

        For `kept` see `_Channel.call`. Raises `Renewed` if the session is over, and NodeLost if the
        home is gone.
        """
        return self._call(session, request, action, kept)[1]

    def _call(
        self, session: Any, request: tuple[Any, ...], action: Any, kept: Any
    ) -> tuple[Any, Any]:
        channel, temporary = self._usable_channel()
        try:
            if session is not None and channel.session is not session:
                raise Renewed
            return channel.session, channel.call(request, action, kept)
        finally:
            if temporary and not kept:  # else it is closed with the last reference to it
                channel.close()

    def _usable_channel(self) -> tuple[_Channel, bool]:
        """Return this thread's channel, or a temporary one, and whether it is that."""
        # In the middle of a call of the same thread, a signal handler, a finalizer or a reference in
        # an item use another.
        for name in "channel", "inner_channel":
            channel = getattr(self._local, name, None)
            if channel is None or channel.is_broken or channel.session is not self._session:
                channel = self._channel()
                setattr(self._local, name, channel)
            if not channel.is_busy:
                return channel, False
        return self._channel(), True

    def take_drops(self) -> list[int]:
        """Return the numbers that the deputy has not been told yet."""
        drops: list[int] = []
        try:
            while True:
                drops.append(self.drops.popleft())
        except IndexError:
            return drops

    def lost(self, cause: BaseException) -> NodeLost:
        """Return the error for a connection that broke."""
        return NodeLost(
            f"the connection to node {self.node} broke; the call may have been carried out there ({cause or type(cause).__name__})",
            self.node,
        )

    def _channel(self) -> _Channel:
        """Return a new channel; the first one begins the session."""
        key = _key()
        try:
            with self._opening:
                conn = self._connected(key)
                channel = _Channel(self, conn)
            wire.limit(conn)
            wire.send(conn, "calls")
        except _BROKEN as error:
            raise NodeLost(
                f"node {self.node} does not answer at {self._address}: {error or type(error).__name__}",
                self.node,
            ) from error
        self._channels.add(channel)
        return channel

    def _connected(self, key: bytes) -> Any:
        """Return a connection to the deputy, which is a new one if the session has ended.

        Proxies of the old session stay given up (`proxies`); those that arrive from now on work.
        """
        if self._session is not None and not self._session.poll(0):
            try:
                return wire.connect(self._deputy, key)
            except ConnectionError as error:
                util.info("the deputy on node %s has ended: %s", self.node, error)
        if self._session is not None:
            self._session.close()
            self._session = None
        self._begin_session(key)
        self.drops.clear()
        return wire.connect(self._deputy, key)

    def _begin_session(self, key: bytes) -> None:
        here = place.here()
        assert here is not None
        client = process.current_process().name, os.getpid(), here.node
        self._deputy = wire.ask(self._address, key, "deputy", client)
        session = wire.connect(self._deputy, key)
        wire.limit(session)
        wire.send(session, "session")
        wire.recv_answer(session)
        self._session = session


def _key() -> bytes:
    here = place.here()
    if here is None:
        raise ValueError(
            "this process was not started by the context 'ray', and cannot use objects of its nodes"
        )
    return here.key


os.register_at_fork(after_in_child=Link._after_fork)
