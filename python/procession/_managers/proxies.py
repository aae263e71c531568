"""Proxies: objects that stand for a manager's objects in other processes.

A proxy counts as one reference to its object while it lives. It makes its calls over the process's
link to the server (`_managers.link`). The proxies of particular types are in `_managers.types`.
"""

from __future__ import annotations

from .. import process, util
from ..context import get_spawning_popen
from .direct import direct
from .link import Link, Locals
from .wire import Token, result_of

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["AutoProxy", "BaseProxy", "MakeProxyType", "ProcessLocalSet", "RebuildProxy", "State"]


class State:
    """The state of a manager, in one mutable place that finalizers share."""

    __slots__ = ["value"]
    INITIAL = 0
    STARTED = 1
    SHUTDOWN = 2

    def __init__(self) -> None:
        self.value = State.INITIAL


class ProcessLocalSet(set):
    """A set that is empty in every child of fork, and when unpickled."""

    def __init__(self) -> None:
        util.register_after_fork(self, lambda obj: obj.clear())

    def __reduce__(self) -> Any:
        return type(self), ()


class BaseProxy:
    """The base of all proxies.

    `_callmethod` calls a method of the object, `_getvalue` fetches a copy of it.
    """

    def __init__(
        self,
        token: Any,
        serializer: str,
        manager: Any = None,
        authkey: bytes | None = None,
        exposed: Any = None,
        incref: bool = True,
        manager_owned: bool = False,
    ) -> None:
        self._token = Token.received(token)
        self._id = self._token.id
        self._manager = manager
        self._serializer = serializer
        # True in the server's own process, inside another of its objects. The proxy then holds no
        # reference; see `RebuildProxy` for the reason.
        self._owned_by_manager = manager_owned
        self._authkey = _key(authkey, manager, self._token)
        self._link = Link.to(self._token.address, self._authkey, serializer)
        if incref:
            self._incref()
        util.register_after_fork(self, BaseProxy._after_fork)

    # Whether `AutoProxy` made it.
    _isauto = False

    # Attributes that programs look for in the standard library's proxies.
    _mutex = util.ForkAwareThreadLock()
    _address_to_local = Locals()

    @property
    def _tls(self) -> Any:
        """Hold this thread's connection to the server as `connection`, after its first call.

        If the attribute is deleted, the next call opens a new connection.
        """
        return self._link.local

    @property
    def _idset(self) -> set[str]:
        """The ids of the server's objects that this process has proxies of."""
        return self._link.ids

    @property
    def _Client(self) -> Any:
        return self._link.client

    def _connect(self) -> None:
        """Open a new connection for this thread."""
        self._link.local.connection = self._link.open()

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 - only sent
        """Call a method of the object.

        Return a copy of its result, or a proxy if the method is registered to return one. Raises
        what the method raised, or RemoteError when the server cannot call it or cannot send its
        result.
        """
        reply = self._link.channel().call((self._id, methodname, args, kwds))
        try:
            if reply[0] == "#PROXY":
                return self._proxy_of_result(*reply[1])
            return result_of(*reply)
        finally:
            del reply  # the frame of an error would keep the reply, and the reply the error

    def _shared_object(self) -> Any:
        """Return the object in shared memory as `direct` does, or None."""
        channel = self._link.channel()
        if not channel.is_of_family:
            return None
        kind, offer = channel.call((self._id, "#MEMORY", (), {}))
        return direct(offer) if kind == "#RETURN" else None

    def _proxy_of_result(self, exposed: Any, token: Any) -> Any:
        assert self._manager is not None, (
            "this proxy has no manager, whose registry knows the result's type"
        )
        proxytype = self._manager._registry[token.typeid][-1]
        # The server may know itself by an address other than the one by which this process reached
        # it.
        token.address = self._token.address
        received = Token.received(token)
        return first_proxy(proxytype, received, exposed, self, self._manager, self._link.ask)

    def _getvalue(self) -> Any:
        """Return a copy of the object."""
        return self._callmethod("#GETVALUE")

    def _incref(self) -> None:
        if self._owned_by_manager:
            util.debug("owned_by_manager skipped INCREF of %r", self._token.id)
            return
        self._link.refer(self._id)
        state = self._manager and self._manager._state
        given_back = self._token, state, self._link, self._link.session
        self._close = util.Finalize(self, BaseProxy._decref, given_back, exitpriority=10)

    @staticmethod
    def _decref(token: Token, state: Any, link: Link, session: str) -> None:
        link.ids.discard(token.id)
        # A new session or server may have another object of the same id.
        if (state is not None and state.value != State.STARTED) or link.session != session:
            util.debug("DECREF %r -- manager already shutdown", token.id)
            return
        try:
            util.debug("DECREF %r", token.id)
            link.ask("decref", token.id)
        except Exception as error:
            # The server is gone, and the object with it.
            util.debug("... decref failed %s", error)

    def _after_fork(self) -> None:
        self._manager = None
        try:
            self._incref()
        except Exception as error:
            util.info("incref failed: %s", error)  # the manager may have been shut down

    def __reduce__(self) -> Any:
        maker: Any = type(self)
        kwds: dict[str, Any] = {}
        if self._isauto:
            maker, kwds = AutoProxy, {"exposed": self._exposed_}  # type: ignore[attr-defined]
        if get_spawning_popen() is not None:
            kwds["authkey"] = self._authkey
        return RebuildProxy, (maker, self._token, self._serializer, kwds)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._token.typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        """Return the object's repr(), or the proxy's own if the server cannot be asked."""
        try:
            return self._callmethod("__repr__")
        except Exception:
            return repr(self)[:-1] + "; '__str__()' failed>"


def key_or_own(authkey: bytes | None) -> bytes:
    """Return the key, by default this process's, as an `AuthenticationString`."""
    if authkey is None:
        authkey = process.current_process().authkey
    return process.AuthenticationString(authkey)


def _key(authkey: bytes | None, manager: Any, token: Any) -> bytes:
    """Return the key for an object's server.

    A proxy that arrived inside another object brings no key, but then this process knows its
    server.
    """
    if authkey is None:
        authkey = manager._authkey if manager is not None else Link.key_for(token.address)
    return key_or_own(authkey)


def first_proxy(
    proxytype: Any, token: Token, exposed: Any, creator: Any, manager: Any, ask: Any
) -> Any:
    """Return a proxy of an object that the server has just made for a manager or another proxy.

    `creator` is that manager or proxy, and `ask` calls the server.
    """
    proxy = proxytype(
        token, creator._serializer, manager=manager, authkey=creator._authkey, exposed=exposed
    )
    # The server counted the creation as a reference. The proxy now has its own.
    ask("decref", token.id)
    return proxy


def RebuildProxy(func: Any, token: Any, serializer: str, kwds: dict[str, Any]) -> Any:
    """Make a proxy again when it is unpickled.

    In the server that holds the object, the proxy is part of another object there, and a counted
    reference would keep both forever. So the server keeps the object itself.
    """
    here = process.current_process()
    counted = kwds.pop("incref", True) and not here._inheriting
    server = getattr(here, "_manager_server", None)
    if server and server.address == token.address:
        server.keep_for_its_own(token)
        kwds = {"authkey": server.authkey, **kwds, "manager_owned": True}
    return func(Token.received(token), serializer, incref=counted, **kwds)


def _forwarded(name: str) -> Any:
    def method(self: BaseProxy, /, *args: Any, **kwds: Any) -> Any:
        return self._callmethod(name, args, kwds)

    method.__name__ = method.__qualname__ = name
    return method


def MakeProxyType(name: str, exposed: Any, _cache: dict[Any, type] = {}) -> type:  # noqa: B006 - the cache
    """Return the proxy type `name` with the methods in `exposed`.

    The same arguments return the same type.
    """
    exposed = tuple(exposed)
    if (name, exposed) not in _cache:
        methods = {method: _forwarded(method) for method in exposed}
        _cache[name, exposed] = type(name, (BaseProxy,), {**methods, "_exposed_": exposed})
    return _cache[name, exposed]


def AutoProxy(
    token: Any,
    serializer: str,
    manager: Any = None,
    authkey: bytes | None = None,
    exposed: Any = None,
    incref: bool = True,
    manager_owned: bool = False,
) -> Any:
    """Return a proxy with the methods in `exposed`, by default those that the server exposes."""
    authkey = _key(authkey, manager, token)
    if exposed is None:
        exposed = Link.to(token.address, authkey, serializer).ask("get_methods", token)
    proxytype = MakeProxyType(f"AutoProxy[{token.typeid}]", exposed)
    proxy = proxytype(
        token,
        serializer,
        manager=manager,
        authkey=authkey,
        incref=incref,
        manager_owned=manager_owned,
    )
    proxy._isauto = True
    return proxy


for _name in __all__:
    # The defining module is private: pickles and tracebacks name `managers`, as the standard
    # library's do.
    globals()[_name].__module__ = "procession.managers"
