"""Connections between nodes, and pickles that may leave their family.

Every connection is over TCP, and both ends prove that they know the cluster's key.
"""

from __future__ import annotations

import errno
import pickle
import socket
import threading
from collections.abc import Callable

from .. import context, reduction, util
from .._connections import framing
from .._errors import AuthenticationError
from .._pickling import rebuild
from .._threads import Thread
from ..connection import Listener, answer_challenge, deliver_challenge

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _T = TypeVar("_T")
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Seconds until a connection to a machine that does not answer any more counts as broken, unless the
#: context has the option `node_timeout`.
SILENCE = 15.0
#: Seconds within which a connection must be made.
_CONNECT = 10
#: Seconds within which a question must be answered whose answer waits for no other process.
ANSWER = 60.0

#: The errors of a machine that has no descriptors or memory left, and the seconds until the next try.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE = 0.1

#: The errors of a connection whose peer is gone for certain, since its kernel has said so.
_ENDED = (errno.ECONNRESET, errno.EPIPE)


class Refers(BaseException):
    """Raised where a pickle would get a reference, in `trial`."""


class _Mode(threading.local):
    abroad = False
    #: Whether a pickle for abroad may be loaded at home instead: what cannot leave the node is
    #: pickled as for its own family.
    anywhere = False
    #: Whether a reference raises `Refers`.
    trial = False
    #: What is noted of a pickle; see `noting_dumps`.
    notes: list[Any] | None = None
    #: Whether the pickle may be loaded more than once.
    again = False


mode = _Mode()


def dumps(obj: object) -> memoryview:
    """Return a pickle for another node: shared objects in it become references."""
    return abroad(reduction.ForkingPickler.dumps, obj)


def dumps_bytes(obj: object) -> bytes:
    """Return a pickle for another node as bytes, without a copy if it is that already."""
    view = dumps(obj)
    return view.obj if type(view.obj) is bytes else bytes(view)


def noting_dumps(obj: object, again: bool = False) -> tuple[bytes, list[Any]]:
    """Return a pickle for another node, and notes of it.

    These have its tickets of this home (`bytes`), to be redeemed once the receiver has ended: it may
    not have come to that. If the pickle may be loaded more than once (`again`), they also have the
    shared objects in it: the first receiver redeems the tickets, and the notes keep the objects
    alive for the next. Ends of pipes raise ValueError then.
    """
    before = mode.notes, mode.again
    mode.notes, mode.again = [], again
    try:
        return dumps_bytes(obj), mode.notes
    finally:
        mode.notes, mode.again = before


# A mode holds while a function is called, and not in a `with` block: a signal handler may raise before
# the first line of an `__exit__`, and the thread would keep the mode. Between a call and what follows
# it in `finally`, none runs; nor is there one between assignments.


def abroad(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function; all pickles that it makes are for other nodes."""
    return _in_mode(False, False, function, *args)


def anywhere(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function; all pickles that it makes are for processes of any node, this one included."""
    return _in_mode(True, False, function, *args)


def without_references(function: Callable[..., _T], *args: Any) -> _T:
    """Like `anywhere`, but raise `Refers` instead of making a reference."""
    return _in_mode(True, True, function, *args)


def _in_mode(anywhere: bool, trial: bool, function: Callable[..., _T], *args: Any) -> _T:
    before = mode.abroad, mode.anywhere, mode.trial
    mode.abroad, mode.anywhere, mode.trial = True, anywhere, trial
    try:
        return function(*args)
    finally:
        mode.abroad, mode.anywhere, mode.trial = before


def at_home(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function; its pickles are for running processes of the own family.

    So are they if a pickle for elsewhere is being made.
    """
    spawning = context.get_spawning_popen()
    before, mode.abroad = mode.abroad, False
    try:
        context.set_spawning_popen(None)
        return function(*args)
    finally:
        mode.abroad, context._spawning.popen = before, spawning
        context.set_spawning_popen(spawning)  # for the standard library's context, too


def note_reference(obj: object) -> None:
    """Take note of a reference to an object, which is about to be made."""
    if mode.trial:
        raise Refers
    if mode.again and mode.notes is not None:
        mode.notes.append(obj)


def loads(data: Any) -> Any:
    """Load a pickle of another node. Functions in it are of this program."""
    before, rebuild.sender.is_own = rebuild.sender.is_own, True
    try:
        return pickle.loads(data)
    finally:
        rebuild.sender.is_own = before


def send(conn: Any, obj: object) -> None:
    """Send an object to another node."""
    conn.send_bytes(dumps(obj))


def recv(conn: Any) -> Any:
    """Receive an object from another node. Raises EOFError or OSError when the peer is gone."""
    return loads(conn.recv_bytes())


def recv_prompt(conn: Any) -> bytes:
    """Receive the bytes that a new peer sends at once. Raises OSError also if it has not in time."""
    return _Prompt(conn).recv_bytes(256)


def recv_answer(conn: Any) -> Any:
    """Receive what another node answers at once. Raises OSError also if it has not in time."""
    return loads(_Prompt(conn, ANSWER).recv_bytes())


class _Prompt:
    """A connection whose peer has to answer soon."""

    def __init__(self, conn: Any, seconds: float = _CONNECT) -> None:
        self._conn, self.send_bytes, self._seconds = conn, conn.send_bytes, seconds

    def recv_bytes(self, most: int | None = None) -> bytes:
        """Receive a message. Raises OSError if none comes."""
        if not self._conn.poll(self._seconds):
            raise OSError(errno.ETIMEDOUT, f"no answer for {self._seconds:g} s")
        return self._conn.recv_bytes(most)


def connect(address: tuple[str, int], key: bytes) -> Any:
    """Return a connection to a listener. Raises OSError, EOFError or AuthenticationError."""
    with socket.create_connection(address, _CONNECT) as connected:
        connected.settimeout(None)
        _watch(connected)
        conn = framing.over_socket(connected)
    try:
        answer_challenge(_Prompt(conn), key)
        deliver_challenge(_Prompt(conn), key)
    except BaseException:
        conn.close()
        raise
    return conn


def listen(host: str, key: bytes) -> Listener:
    """Return a listener at a free port of `host` for peers that know the key."""
    listener = Listener((host, 0), "AF_INET", backlog=128, authkey=key)
    listener._grace = 0  # only one thread accepts, and it never stops
    return listener


def serve(listener: Listener, admit: Callable[[Any], object]) -> None:
    """Call `admit` in a thread of its own for each peer that proves the key, for ever."""
    pause = threading.Event()
    while True:
        try:
            conn = listener.accept()
            with reduction._socket_of(conn, socket.AF_INET) as copy:
                _watch(copy)
            Thread(admit, "ClusterPeer", (conn,)).start()
        except (AuthenticationError, EOFError, OSError, RuntimeError) as error:
            util.info("refused a connection: %s", error)
            if listener._listener is None:
                return
            if isinstance(error, RuntimeError) or getattr(error, "errno", None) in _EXHAUSTED:
                pause.wait(_PAUSE)  # until others have ended


def ask(address: tuple[str, int], key: bytes, *request: Any) -> Any:
    """Ask a home's server one thing over a connection of its own. Raises what went wrong there."""
    conn = connect(address, key)
    try:
        send(conn, request)
        error, value = recv_answer(conn)
    finally:
        conn.close()
    if error is not None:
        raise error
    return value


_silence = SILENCE


def silence() -> float:
    """Return after how many seconds without an answer a connection counts as broken."""
    return _silence


def set_silence(seconds: float) -> None:
    """Set after which time without an answer connections made from now on count as broken."""
    global _silence
    _silence = seconds


def _watch(connected: socket.socket) -> None:
    """Have the kernel break the connection when the peer's machine is silent too long."""
    tcp = socket.IPPROTO_TCP
    # The first question after a third of the time, then four more.
    idle, pause = max(1, round(_silence / 3)), max(1, round(_silence / 6))
    connected.setsockopt(tcp, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(tcp, socket.TCP_KEEPIDLE, idle)
    connected.setsockopt(tcp, socket.TCP_KEEPINTVL, pause)
    connected.setsockopt(tcp, socket.TCP_KEEPCNT, 4)


def limit(conn: Any) -> None:
    """Break a connection also if what was sent is not taken in time, as by a stopped process.

    For connections that carry little.
    """
    with reduction._socket_of(conn, socket.AF_INET) as copy:
        limit_ms = max(1000, round(_silence * 1000))
        copy.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)


def shut(conn: Any) -> None:
    """End a connection for all threads that use it."""
    try:
        with reduction._socket_of(conn, socket.AF_INET) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended


def has_ended(error: BaseException) -> bool:
    """Return whether an error of a connection says that the peer's end is closed.

    Otherwise the network is cut, and the peer may live.
    """
    return isinstance(error, EOFError) or getattr(error, "errno", None) in _ENDED
