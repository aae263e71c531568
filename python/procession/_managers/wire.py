"""The messages between a manager's server and its clients, and what they are sent over.

The messages are CPython's. A request is `(object's id, method, args, kwds)`, with id None for the
server's own functions. A reply is a kind, such as '#RETURN', and a value. Beyond that, a server of
this package answers `accept_connection` with an offer, which a plain client ignores; a plain server
answers None. A client that gets an offer joins a session. It may then call the server's own
functions over any of its connections, and the server gives back the session's references when its
last connection ends. If both belong to one family, calls go over two of the engine's queues.
"""

from __future__ import annotations

import os
from queue import Empty
from types import SimpleNamespace

from .. import connection
from .._errors import Catchable, counterpart
from .._procession import ObjectStream, Queue, family_id

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = [
    "AskingLine",
    "Line",
    "RemoteError",
    "Token",
    "call_once",
    "convert_to_error",
    "dispatch",
    "family_of_offer",
    "listener_client",
    "new_queue",
    "offer",
    "result_of",
    "stream",
]


class Token:
    """Identifies an object of a manager: registered type, server's address, and id there."""

    __slots__ = ("address", "id", "typeid")

    def __init__(self, typeid: str, address: Any, id: str) -> None:
        self.typeid, self.address, self.id = typeid, address, id

    def __getstate__(self) -> tuple[str, Any, str]:
        return self.typeid, self.address, self.id

    def __setstate__(self, state: tuple[str, Any, str]) -> None:
        self.typeid, self.address, self.id = state

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A token is also sent to programs without this package, which need only its attributes.
        return SimpleNamespace, (), {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def received(cls, token: Any) -> Token:
        """Return a token, in whatever form it arrived."""
        return token if isinstance(token, cls) else cls(token.typeid, token.address, token.id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(typeid={self.typeid!r}, address={self.address!r}, id={self.id!r})"


@counterpart("managers")
class RemoteError(Catchable):
    """Raised for an error in the manager's process; the argument is the traceback from there."""

    def __str__(self) -> str:
        return "\n" + "-" * 75 + "\n" + str(self.args[0]) + "-" * 75


def dispatch(c: Any, id: str | None, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 - only sent
    """Call a function of the server over a connection. Raises what it raised."""
    c.send((id, methodname, args, kwds))
    return result_of(*c.recv())


def call_once(
    client: Any,
    address: Any,
    authkey: bytes,
    function: str,
    args: Any = (),
    kwds: Any = {},  # noqa: B006 - only sent
) -> Any:
    """Call a function of the server over a connection that is opened for this call."""
    conn = client(address, authkey=authkey)
    try:
        return dispatch(conn, None, function, args, kwds)
    finally:
        conn.close()


def result_of(kind: str, result: Any) -> Any:
    """Return the value of a reply, or raise the error that it stands for."""
    if kind == "#RETURN":
        return result
    try:
        raise convert_to_error(kind, result)
    finally:
        del result  # the error's frame would keep the value, and the value the error


def convert_to_error(kind: str, result: Any) -> BaseException:
    """Return the exception that a reply other than '#RETURN' stands for."""
    if kind == "#ERROR":
        return result
    if kind not in ("#TRACEBACK", "#UNSERIALIZABLE"):
        return ValueError(f"Unrecognized message type {kind!r}")
    if not isinstance(result, str):
        raise TypeError(f"Result {result!r} (kind '{kind}') type is {type(result)}, not str")
    return RemoteError(result if kind == "#TRACEBACK" else f"Unserializable message: {result}\n")


# Listener and client of each serializer.
listener_client: dict[str, tuple[Any, Any]] = {
    "pickle": (connection.Listener, connection.Client),
    "xmlrpclib": (connection.XmlListener, connection.XmlClient),
}


def offer() -> tuple[str, int, bytes]:
    """Return the server's answer to a client that may use this package.

    It is the version of the offer, and the server's family.
    """
    return "procession", 1, family_id()


def family_of_offer(answer: Any) -> bytes | None:
    """Return the family of the server that gave this answer.

    None without an offer of a known version.
    """
    if isinstance(answer, tuple) and len(answer) == 3 and answer[:2] == ("procession", 1):
        return answer[2]
    return None


class _Queue(Queue):
    def _put_failed(self, error: Exception, obj: object) -> None:
        raise error


def new_queue() -> _Queue:
    """Return a queue for one direction of a line."""
    queue = _Queue()
    queue._create(0)
    return queue


def stream(conn: Any) -> Any:
    """Return what to send and receive over, if the ends of the connection take turns."""
    return ObjectStream(conn) if type(conn) is connection.Connection else conn


class Line:
    """The server's end of two queues that replace a connection.

    The connection stays open, and its end tells that the peer is gone. Messages are numbered, and
    a reply has the number of its request. So a client that was interrupted skips the replies that
    it did not wait for.
    """

    # Seconds between two looks at the connection while no message arrives: at first, and at most.
    _FIRST_LOOK, _LAST_LOOK = 0.05, 1.0

    # For an object with an interrupted `__init__`.
    _conn: Any = None

    def __init__(self, conn: Any, incoming: _Queue, outgoing: _Queue) -> None:
        self._get = incoming.get
        self._put = outgoing.put
        self._number: int | None = 0
        self._pid = os.getpid()
        self._conn = conn

    def send(self, obj: Any) -> None:
        """Reply to the last message received."""
        self._put((self._number, obj))

    def recv(self) -> Any:
        """Return the next message.

        Raises EOFError at most about a second after the peer is gone.
        """
        self._number = None  # if unpickling fails, the reply to that has no number
        self._number, obj = self._next()
        if obj is None:
            raise EOFError
        return obj

    def _next(self) -> tuple[int | None, Any]:
        timeout = self._FIRST_LOOK
        while True:
            try:
                return self._get(True, timeout)
            except Empty:
                pass
            if connection.wait([self._conn], 0):
                try:
                    return self._get(False)
                except Empty:
                    raise EOFError("the other end of a manager's connection has gone") from None
            timeout = min(timeout * 2, self._LAST_LOOK)

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()


class AskingLine(Line):
    """The client's end of a line."""

    # Seconds that the server may still take for an interrupted call.
    _CATCH_UP = 0.1

    # A request was sent whose reply was not received.
    is_due = False

    def __del__(self) -> None:
        # `os` is None while the interpreter shuts down; the connection ends with the interpreter.
        if self._conn is not None and os is not None:
            self.close()

    def close(self) -> None:
        """Close the connection and tell the server at once.

        A child of fork only closes its copy.
        """
        if not self._conn.closed and os.getpid() == self._pid:
            self._put((0, None))
        super().close()

    def send(self, obj: Any) -> None:
        """Send a request."""
        self._number += 1  # type: ignore[operator]
        self._put((self._number, obj))
        self.is_due = True

    def recv(self) -> Any:
        """Return the reply to the last request sent."""
        while True:
            number, obj = self._next()
            if number is None or number == self._number:
                self.is_due = False
                return obj

    def catch_up(self) -> bool:
        """Return whether the server has finished the last request, or finishes it within a moment.

        The call was interrupted, so its reply may have been taken from the queue and lost. This
        sends another request: its reply comes after that one.
        """
        try:
            self.send((None, "dummy", (), {}))
            while True:
                number, _obj = self._get(True, self._CATCH_UP)
                if number == self._number:
                    self.is_due = False
                    return True
        except Empty:
            return False


for _name in ("RemoteError", "Token", "convert_to_error", "dispatch"):
    # The defining module is private: pickles and tracebacks name `managers`, as the standard
    # library's do.
    globals()[_name].__module__ = "procession.managers"
