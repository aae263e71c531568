"""The process that holds a manager's objects, counts references to them and serves calls.

The format of the messages is in `_managers.wire`, the clients' side in `_managers.link` and
`_managers.proxies`. The file is long because it is one class, whose methods programs override.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections import Counter, deque
from contextlib import closing, suppress
from traceback import format_exc

from .. import connection, process, util
from .._threads import Event
from ..context import AuthenticationError
from .direct import InMemory
from .types import DictProxy, ListProxy
from .wire import Line, Token, listener_client, offer, stream

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["Server", "all_methods", "public_methods"]


def all_methods(obj: object) -> list[str]:
    """Return the names of all callable attributes of `obj`."""
    return [name for name in dir(obj) if callable(getattr(obj, name))]


def public_methods(obj: object) -> list[str]:
    """Return the names of the callable attributes of `obj` that do not begin with an underscore."""
    return [name for name in all_methods(obj) if name[0] != "_"]


def _the_object(*args: Any, **kwds: Any) -> Any:
    """Return the argument of `create`, for a type without a callable."""
    if kwds or len(args) != 1:
        raise ValueError("Without callable, must have one non-keyword argument")
    return args[0]


def _checked(returned: Any) -> dict[str, str]:
    """Return a registered `method_to_typeid` as a dict. Raises TypeError if it is none."""
    if returned is None:
        return {}
    if not isinstance(returned, dict):
        raise TypeError(f"Method_to_typeid {returned!r}: type {type(returned)!s}, not dict")
    return returned


def _begin(target: Any, *args: Any) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()


def _restore_streams() -> None:
    """Restore standard output and standard error if an object replaced standard output."""
    if sys.stdout != sys.__stdout__:
        util.debug("resetting stdout, stderr")
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def _entry(kind: type, proxy: Any) -> tuple[Any, ...]:
    """Return what a registry has for a type."""
    return kind, proxy._exposed_, getattr(proxy, "_method_to_typeid_", None), proxy


#: The entries of a registry whose objects may lie in shared memory.
_SHARED = [_entry(dict, DictProxy), _entry(list, ListProxy)]

_NOT_THE_PEERS_FAULT = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EBADF}
)


class _Session:
    """A client process: the number of its connections, and the references it took over them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connections = 0
        #: Whether the process is of the server's family.
        self.is_of_family = False
        self.references: Counter[str] = Counter()


class _Change:
    """A change of a server's tables."""

    error: Exception | None = None

    def __init__(self, make: Any, args: tuple[Any, ...]) -> None:
        self.make, self.args = make, args


class Server:
    """A manager's objects and the threads that serve them, one for each connection.

    A registry entry is `(callable, exposed names, method -> type id of what it returns, proxy
    type)`.
    """

    #: Whether dicts and lists may lie in shared memory. The server has a process of its own then,
    #: which ends when it ends.
    _may_share = False

    public = [
        "shutdown",
        "create",
        "accept_connection",
        "get_methods",
        "debug_info",
        "number_of_objects",
        "dummy",
        "incref",
        "decref",
    ]

    def __init__(
        self, registry: dict[str, Any], address: Any, authkey: bytes, serializer: str
    ) -> None:
        if not isinstance(authkey, bytes):
            raise TypeError(f"Authkey {authkey!r} is type {type(authkey)!s}, not bytes")
        self.registry = registry
        self.authkey = process.AuthenticationString(authkey)
        self._listen(address, serializer)
        # id -> (object, exposed names, method -> type id); '0' is the server itself.
        self.id_to_obj: dict[str, Any] = {"0": (None, ())}
        # id -> number of proxies that refer to it, in all processes.
        self.id_to_refcount: dict[str, int] = {}
        # Like id_to_obj, for objects that other objects of this server refer to by proxies.
        self.id_to_local_proxy_obj: dict[str, Any] = {}
        # The sessions, by name and by connection.
        self._sessions: dict[str, _Session] = {}
        self._session_of: dict[Any, _Session] = {}
        # Lines that the threads of these connections change to after their reply.
        self._new_lines: dict[Any, Line] = {}
        # Held to change these tables, except for `_new_lines`; see `_change`.
        self.mutex = threading.Lock()
        self._changes: deque[_Change] = deque()
        self.stop_event = Event()

    def _listen(self, address: Any, serializer: str) -> None:
        listener_of, _client_of = listener_client[serializer]
        # Peers prove the key inside accept(), any number at once: only proved peers get a thread.
        self.listener = listener_of(address=address, backlog=128, authkey=self.authkey)
        self.listener._grace = 0  # only `accepter` accepts, and it never stops
        self.address = self.listener.address

    def serve_forever(self) -> None:
        """Serve until `shutdown` is called, then leave the process by `sys.exit(0)`."""
        self.stop_event.clear()
        process.current_process()._manager_server = self  # type: ignore[attr-defined]
        try:
            _begin(self.accepter)
            self.stop_event.wait()
        finally:
            self._end_sharing()
            _restore_streams()
            sys.exit(0)

    def _end_sharing(self) -> None:
        objects = [*self.id_to_obj.copy().values(), *self.id_to_local_proxy_obj.copy().values()]
        for obj, *_rest in objects:
            if type(obj) is InMemory:
                try:
                    obj.seal()
                except MemoryError as error:
                    util.info("a client may use an object until this process has ended: %s", error)

    def accepter(self) -> None:
        """Start a thread for each peer that proved the key, forever."""
        while True:
            try:
                conn = self.listener.accept()
            except (AuthenticationError, EOFError, OSError) as error:
                util.info("refused a connection: %s", error)
                # Out of descriptors or memory, or the listener is closed: trying again at once
                # changes nothing.
                closed = self.listener._listener is None
                ours = closed or getattr(error, "errno", None) in _NOT_THE_PEERS_FAULT
                if ours and self.stop_event.wait(0.1):
                    return
                continue
            _begin(self.handle_request, conn)

    def handle_request(self, conn: Any) -> None:
        """Serve a connection to its end."""
        # `serve_client` exits when the peer is gone.
        with closing(conn), suppress(SystemExit):
            self._handle_request(conn)

    def _handle_request(self, c: Any) -> None:
        request = None
        try:
            request = c.recv()
            _ignored, funcname, args, kwds = request
            assert funcname in self.public, f"{funcname!r} unrecognized"
            msg = "#RETURN", getattr(self, funcname)(c, *args, **kwds)
        except EOFError:
            return
        except Exception:
            msg = "#TRACEBACK", format_exc()
        try:
            try:
                c.send(msg)
            except Exception:
                c.send(("#TRACEBACK", format_exc()))
        except Exception as error:
            self._log_unsent(msg, error)

    @staticmethod
    def _log_unsent(msg: Any, error: Exception) -> None:
        util.info("exception in thread serving %r", threading.current_thread().name)
        util.info(" ... message was %r", msg)
        util.info(" ... exception was %r", error)

    def serve_client(self, conn: Any) -> None:
        """Serve the calls that arrive over one connection."""
        util.debug("starting server thread to service %r", threading.current_thread().name)
        line = stream(conn)
        try:
            while not self.stop_event.is_set():
                try:
                    request = line.recv()
                except (EOFError, ConnectionError):
                    util.debug("the client of thread %r has gone", threading.current_thread().name)
                    sys.exit(0)
                except Exception:
                    msg = "#TRACEBACK", format_exc()
                else:
                    msg = self._call(conn, request)
                    # The request may hold the last reference to a proxy: drop it before waiting for
                    # the next one.
                    request = None
                try:
                    try:
                        line.send(msg)
                    except Exception:
                        line.send(("#UNSERIALIZABLE", format_exc()))
                except Exception as error:
                    self._log_unsent(msg, error)
                    conn.close()
                    sys.exit(1)
                if not getattr(conn, "_readable", True):
                    util.debug("a message of thread %r has no end", threading.current_thread().name)
                    sys.exit(1)
                msg = None  # type: ignore[assignment]
                if self._new_lines:
                    line = self._new_lines.pop(conn, line)
        finally:
            self._leave_session(conn)

    def _call(self, conn: Any, request: Any) -> tuple[str, Any]:
        """Call a method of an object and return the reply."""
        try:
            ident, methodname, args, kwds = request
            if ident is None:
                assert methodname in self.public or methodname == "join_session", methodname
                return "#RETURN", getattr(self, methodname)(conn, *args, **kwds)
            try:
                obj, exposed, gettypeid = self.id_to_obj[ident]
            except KeyError:
                if ident not in self.id_to_local_proxy_obj:
                    raise
                obj, exposed, gettypeid = self.id_to_local_proxy_obj[ident]
            if type(obj) is InMemory:
                if methodname == "#MEMORY":
                    return "#RETURN", obj.offer()
                try:
                    obj = obj.now() if methodname in InMemory.READING else obj.content()
                except MemoryError as error:  # shared memory is full
                    return "#ERROR", error
            function = getattr(obj, methodname, None) if methodname in exposed else None
            if function is None:
                fallback = self.fallback_mapping.get(methodname)
                if fallback is None:
                    raise AttributeError(
                        f"method {methodname!r} of {type(obj)!r} object is not in exposed={exposed!r}"
                    )
                return "#RETURN", fallback(self, conn, ident, obj, *args, **kwds)
        except Exception:
            return "#TRACEBACK", format_exc()
        try:
            result = function(*args, **kwds)
        except Exception as error:
            return "#ERROR", error
        try:
            typeid = gettypeid and gettypeid.get(methodname)
            if not typeid:
                return "#RETURN", result
            rident, rexposed = self.create(conn, typeid, result)
            return "#PROXY", (rexposed, Token(typeid, self.address, rident))
        except Exception:
            return "#TRACEBACK", format_exc()

    def fallback_memory(self, conn: Any, ident: str, obj: Any) -> None:
        """Return None: the object is not in shared memory."""

    def fallback_getvalue(self, conn: Any, ident: str, obj: Any) -> Any:
        """Return the object itself, to be pickled."""
        return obj

    def fallback_str(self, conn: Any, ident: str, obj: Any) -> str:
        """Return the object's str()."""
        return str(obj)

    def fallback_repr(self, conn: Any, ident: str, obj: Any) -> str:
        """Return the object's repr()."""
        return repr(obj)

    # Methods that every proxy may call, exposed or not.
    fallback_mapping = {
        "__str__": fallback_str,
        "__repr__": fallback_repr,
        "#GETVALUE": fallback_getvalue,
        "#MEMORY": fallback_memory,
    }

    def dummy(self, c: Any) -> None:
        """Do nothing: a successful call proves that the client is connected."""

    def debug_info(self, c: Any) -> str:
        """Return the objects and how many proxies refer to each, as readable text."""
        self._make_changes(waits=True)
        counts, objects = self.id_to_refcount.copy(), self.id_to_obj.copy()
        return "\n".join(
            f"  {ident}:       refcount={count}\n    {str(objects[ident][0])[:75]}"
            for ident, count in sorted(counts.items())
            if ident != "0" and ident in objects
        )

    def number_of_objects(self, c: Any) -> int:
        """Return the number of objects that proxies refer to."""
        self._make_changes(waits=True)
        return len(self.id_to_refcount)

    def shutdown(self, c: Any) -> None:
        """End `serve_forever`."""
        try:
            util.debug("manager received shutdown message")
            c.send(("#RETURN", None))
        finally:
            self.stop_event.set()

    def create(
        self, c: Any, typeid: str, /, *args: Any, **kwds: Any
    ) -> tuple[str, tuple[str, ...]]:
        """Create an object of a registered type, with one reference to it.

        Return its id and its exposed names. For a type without a callable, the argument is the
        object itself.
        """
        make, exposed, returned, _proxytype = self.registry[typeid]
        obj = (_the_object if make is None else make)(*args, **kwds)
        names = [*(public_methods(obj) if exposed is None else exposed), *_checked(returned)]
        if self._may_share and self._is_shared(c, typeid):
            obj = InMemory.of(obj)
        # A string, because XML-RPC has no 64-bit integers.
        ident = f"{id(obj):x}"
        util.debug("%r callable returned object with id %r", typeid, ident)
        self._change(self._enter, c, ident, (obj, set(names), returned), waits=True)
        return ident, tuple(names)

    def _is_shared(self, c: Any, typeid: str) -> bool:
        """Return whether objects of this type lie in shared memory, for the client of a connection."""
        session = self._session_of.get(c)
        return session is not None and session.is_of_family and self.registry[typeid] in _SHARED

    def _change(self, make: Any, *args: Any, waits: bool = False) -> None:
        """Change the tables by `make(dropped, *args)`, which adds to `dropped` what it removes.

        If another thread is changing them, that thread also makes this change, and this one waits
        only if `waits` is true. In the other thread the collector may be running a finalizer that
        calls this server and waits for the reply, such as that of a proxy.
        """
        change = _Change(make, args)
        self._changes.append(change)
        self._make_changes(waits)
        if change.error is not None:
            raise change.error

    def _make_changes(self, waits: bool) -> None:
        # Freed on return, without the mutex: an object may hold proxies, and their own decref calls
        # this server again.
        dropped: list[Any] = []
        held = self.mutex.acquire(blocking=waits)
        while held:
            try:
                while self._changes:
                    change = self._changes.popleft()
                    try:
                        change.make(dropped, *change.args)
                    except Exception as error:
                        change.error = error
            finally:
                self.mutex.release()
            # A thread that found the mutex taken has left its change to this one.
            held = bool(self._changes) and self.mutex.acquire(blocking=False)

    def _enter(self, dropped: list[Any], c: Any, ident: str, entry: tuple[Any, ...]) -> None:
        self.id_to_obj[ident] = entry
        self.id_to_refcount[ident] = self.id_to_refcount.get(ident, 0) + 1
        self._note(c, ident, 1)

    def get_methods(self, c: Any, token: Any) -> tuple[str, ...]:
        """Return the exposed names of an object."""
        return tuple(self.id_to_obj[token.id][1])

    def accept_connection(self, c: Any, name: str) -> None:
        """Let the connection carry method calls from now on.

        `name` is that of the client's thread, for logs.
        """
        threading.current_thread().name = name
        c.send(("#RETURN", offer() if isinstance(c, connection.Connection) else None))
        self.serve_client(c)

    def join_session(self, c: Any, name: str, requests: Any = None, replies: Any = None) -> None:
        """Add the connection to the client process's session `name`.

        Its further calls come over the given queues.
        """
        self._change(self._join, c, name, requests is not None)
        if requests is not None:
            self._new_lines[c] = Line(c, requests, replies)

    def _join(self, dropped: list[Any], c: Any, name: str, is_of_family: bool) -> None:
        session = self._session_of[c] = self._sessions.setdefault(name, _Session(name))
        session.connections += 1
        session.is_of_family = is_of_family

    def _leave_session(self, c: Any) -> None:
        """Remove an ended connection from its session.

        The session's references end with its last one.
        """
        self._change(self._leave, c)

    def _leave(self, dropped: list[Any], c: Any) -> None:
        session = self._session_of.pop(c, None)
        if session is None:
            return
        session.connections -= 1
        if session.connections:
            return
        del self._sessions[session.name]
        for ident in session.references.elements():
            util.debug("giving back a reference to %r of a client that has gone", ident)
            try:
                self._drop(dropped, c, ident)
            except KeyError:
                pass  # another client gave back more references than it had

    def _note(self, c: Any, ident: str, change: int) -> None:
        session = self._session_of.get(c)
        if session is not None:
            session.references[ident] += change
            if not session.references[ident]:
                del session.references[ident]

    def keep_for_its_own(self, token: Any) -> None:
        """Keep an object of this server that another of its objects refers to by a proxy."""
        util.debug("Rebuild a proxy owned by manager, token=%r", token)
        if token.id not in self.id_to_local_proxy_obj:
            self.id_to_local_proxy_obj[token.id] = self.id_to_obj[token.id]

    def incref(self, c: Any, ident: str) -> None:
        """Count another proxy that refers to the object."""
        self._change(self._count, c, ident, waits=True)

    def _count(self, dropped: list[Any], c: Any, ident: str) -> None:
        if ident in self.id_to_refcount:
            self.id_to_refcount[ident] += 1
        else:
            # No outside proxy referred to it any more, but one of this server's own objects did,
            # and that proxy was passed on.
            self.id_to_obj[ident] = self.id_to_local_proxy_obj[ident]
            self.id_to_refcount[ident] = 1
            util.debug("Server re-enabled tracking & INCREF %r", ident)
        self._note(c, ident, 1)

    def decref(self, c: Any, ident: str) -> None:
        """Count one proxy less that refers to the object; without any the object is dropped."""
        self._change(self._drop, c, ident)

    def _drop(self, dropped: list[Any], c: Any, ident: str) -> None:
        if ident not in self.id_to_refcount and ident in self.id_to_local_proxy_obj:
            util.debug("Server DECREF skipping %r", ident)
            return
        self.id_to_refcount[ident] -= 1
        self._note(c, ident, -1)
        if self.id_to_refcount[ident] > 0:
            return
        del self.id_to_refcount[ident]
        util.debug("disposing of obj with id %r", ident)
        dropped.append(self.id_to_obj.pop(ident))


for _public in (Server, all_methods, public_methods):
    _public.__module__ = "procession.managers"
