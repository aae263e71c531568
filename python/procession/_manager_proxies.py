"""Stand-ins for a manager's objects in other processes, and the types that `SyncManager` offers.

A proxy has one connection to the server for each of its process's threads, shared with that thread's other proxies of the same
server, and counts as one reference there as long as it lives. The other side is `_manager_server`.
"""

from __future__ import annotations

import array
import threading
import time
import types
from collections.abc import MutableMapping, MutableSequence, MutableSet

from . import process, util
from ._manager_server import Token, convert_to_error, dispatch, listener_client
from .context import get_spawning_popen

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

__all__ = ["AutoProxy", "BaseProxy", "MakeProxyType", "RebuildProxy", "State"]


class State:
    """Where a manager is in its life, in one mutable place that finalizers share."""

    __slots__ = ["value"]
    value: int
    INITIAL = 0
    STARTED = 1
    SHUTDOWN = 2


class ProcessLocalSet(set):
    """A set that is empty in every child of fork, and when unpickled."""

    def __init__(self) -> None:
        util.register_after_fork(self, lambda obj: obj.clear())

    def __reduce__(self) -> Any:
        return type(self), ()


class BaseProxy:
    """Base of all proxies: `_callmethod` calls a method of the object, `_getvalue` fetches a copy of it."""

    # server's address -> (each thread's connection, ids of the objects this process refers to)
    _address_to_local: dict[Any, tuple[Any, ProcessLocalSet]] = {}
    _mutex = util.ForkAwareThreadLock()
    _tls: Any

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
        with BaseProxy._mutex:
            local = BaseProxy._address_to_local.get(token.address)
            if local is None:
                local = BaseProxy._address_to_local[token.address] = (
                    util.ForkAwareLocal(),
                    ProcessLocalSet(),
                )
        self._tls, self._idset = local
        self._token = Token.received(token)
        self._id = self._token.id
        self._manager = manager
        self._serializer = serializer
        self._Client = listener_client[serializer][1]
        # In the server's own process, inside another of its objects: holds no reference, `RebuildProxy` says why.
        self._owned_by_manager = manager_owned
        if authkey is not None:
            self._authkey = process.AuthenticationString(authkey)
        elif manager is not None:
            self._authkey = manager._authkey
        else:
            self._authkey = process.current_process().authkey
        if incref:
            self._incref()
        util.register_after_fork(self, BaseProxy._after_fork)

    def _connect(self) -> None:
        util.debug("making connection to manager")
        name = process.current_process().name
        if threading.current_thread().name != "MainThread":
            name += "|" + threading.current_thread().name
        conn = self._Client(self._token.address, authkey=self._authkey)
        dispatch(conn, None, "accept_connection", (name,))
        self._tls.connection = conn

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 - only sent
        """Call a method of the object and return a copy of its result, or a proxy where the type is registered so.

        Raises what the method raised; RemoteError when the server cannot call it or cannot send its result.
        """
        try:
            conn = self._tls.connection
        except AttributeError:
            util.debug("thread %r does not own a connection", threading.current_thread().name)
            self._connect()
            conn = self._tls.connection
        conn.send((self._id, methodname, args, kwds))
        kind, result = conn.recv()
        if kind == "#RETURN":
            return result
        if kind == "#PROXY":
            return self._proxy_of_result(*result)
        try:
            raise convert_to_error(kind, result)
        finally:
            del result  # the error's frame would keep it, and it the error

    def _proxy_of_result(self, exposed: Any, token: Any) -> Any:
        assert self._manager is not None, (
            "this proxy has no manager, whose registry knows the result's type"
        )
        proxytype = self._manager._registry[token.typeid][-1]
        # The server may know itself by another address than the one by which it was found.
        token.address = self._token.address
        proxy = proxytype(
            Token.received(token),
            self._serializer,
            manager=self._manager,
            authkey=self._authkey,
            exposed=exposed,
        )
        _call_once(self._Client, token, self._authkey, "decref")
        return proxy

    def _getvalue(self) -> Any:
        """A copy of the object."""
        return self._callmethod("#GETVALUE")

    def _incref(self) -> None:
        if self._owned_by_manager:
            util.debug("owned_by_manager skipped INCREF of %r", self._token.id)
            return
        _call_once(self._Client, self._token, self._authkey, "incref")
        util.debug("INCREF %r", self._token.id)
        self._idset.add(self._id)
        state = self._manager and self._manager._state
        self._close = util.Finalize(
            self,
            BaseProxy._decref,
            args=(self._token, self._authkey, state, self._tls, self._idset, self._Client),
            exitpriority=10,
        )

    @staticmethod
    def _decref(
        token: Token, authkey: bytes, state: Any, tls: Any, idset: Any, _Client: Any
    ) -> None:
        idset.discard(token.id)
        if state is None or state.value == State.STARTED:
            try:
                util.debug("DECREF %r", token.id)
                _call_once(_Client, token, authkey, "decref")
            except Exception as error:
                util.debug(
                    "... decref failed %s", error
                )  # the server has gone, and the object with it
        else:
            util.debug("DECREF %r -- manager already shutdown", token.id)
        if not idset and hasattr(tls, "connection"):
            util.debug(
                "thread %r has no more proxies so closing conn", threading.current_thread().name
            )
            tls.connection.close()
            del tls.connection

    def _after_fork(self) -> None:
        self._manager = None
        try:
            self._incref()
        except Exception as error:
            util.info("incref failed: %s", error)  # the manager may have been shut down

    def __reduce__(self) -> Any:
        kwds: dict[str, Any] = {}
        if get_spawning_popen() is not None:
            kwds["authkey"] = self._authkey
        if getattr(self, "_isauto", False):
            kwds["exposed"] = self._exposed_  # type: ignore[attr-defined]
            return RebuildProxy, (AutoProxy, self._token, self._serializer, kwds)
        return RebuildProxy, (type(self), self._token, self._serializer, kwds)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._token.typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        """The object's repr(); the proxy's own if the server cannot be asked."""
        try:
            return self._callmethod("__repr__")
        except Exception:
            return repr(self)[:-1] + "; '__str__()' failed>"


def _call_once(_Client: Any, token: Any, authkey: bytes, function: str) -> None:
    """Call a function of the server about an object, over a connection for this call alone."""
    conn = _Client(token.address, authkey=authkey)
    try:
        dispatch(conn, None, function, (token.id,))
    finally:
        conn.close()


def RebuildProxy(func: Any, token: Any, serializer: str, kwds: dict[str, Any]) -> Any:
    """For the unpickler: a proxy anew.

    In the very server that has the object, it is inside another object there: a counted reference would keep both for ever. It holds the
    object itself, in `id_to_local_proxy_obj`.
    """
    server = getattr(process.current_process(), "_manager_server", None)
    if server and server.address == token.address:
        util.debug("Rebuild a proxy owned by manager, token=%r", token)
        kwds["manager_owned"] = True
        if token.id not in server.id_to_local_proxy_obj:
            server.id_to_local_proxy_obj[token.id] = server.id_to_obj[token.id]
    incref = kwds.pop("incref", True) and not getattr(
        process.current_process(), "_inheriting", False
    )
    return func(Token.received(token), serializer, incref=incref, **kwds)


def _forwarded(name: str) -> Any:
    def method(self: BaseProxy, /, *args: Any, **kwds: Any) -> Any:
        return self._callmethod(name, args, kwds)

    method.__name__ = method.__qualname__ = name
    return method


def MakeProxyType(name: str, exposed: Any, _cache: dict[Any, type] = {}) -> type:  # noqa: B006 - the cache
    """A proxy type called `name` whose methods are those named in `exposed`; the same one for the same arguments."""
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
    """A proxy with the methods that the server exposes; it is asked for them unless they are given."""
    if authkey is None:
        authkey = manager._authkey if manager is not None else process.current_process().authkey
    if exposed is None:
        conn = listener_client[serializer][1](token.address, authkey=authkey)
        try:
            exposed = dispatch(conn, None, "get_methods", (token,))
        finally:
            conn.close()
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


class Namespace:
    """An object for attributes."""

    def __init__(self, /, **kwds: Any) -> None:
        self.__dict__.update(kwds)

    def __repr__(self) -> str:
        items = sorted(
            f"{name}={value!r}" for name, value in self.__dict__.items() if not name.startswith("_")
        )
        return f"{type(self).__name__}({', '.join(items)})"


class Value:
    """One object that can be replaced, as `value` or by `set`."""

    def __init__(self, typecode: Any, value: Any, lock: bool = True) -> None:
        self._typecode = typecode
        self._value = value

    def get(self) -> Any:
        """The value."""
        return self._value

    def set(self, value: Any) -> None:
        """Replace the value."""
        self._value = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._typecode!r}, {self._value!r})"

    value = property(get, set)


def Array(typecode: str, sequence: Any, lock: bool = True) -> array.array[Any]:
    """An `array.array`."""
    return array.array(typecode, sequence)


class IteratorProxy(BaseProxy):
    """An iterator or generator."""

    _exposed_ = ("__next__", "send", "throw", "close")

    def __iter__(self) -> IteratorProxy:
        return self

    def __next__(self, *args: Any) -> Any:
        return self._callmethod("__next__", args)

    def send(self, *args: Any) -> Any:
        return self._callmethod("send", args)

    def throw(self, *args: Any) -> Any:
        return self._callmethod("throw", args)

    def close(self, *args: Any) -> Any:
        return self._callmethod("close", args)


class AcquirerProxy(BaseProxy):
    """A lock or semaphore; which thread holds it is told apart by the threads' connections."""

    _exposed_: tuple[str, ...] = ("acquire", "release", "locked")

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        return self._callmethod("acquire", (blocking,) if timeout is None else (blocking, timeout))

    def release(self) -> None:
        return self._callmethod("release")

    def locked(self) -> bool:
        return self._callmethod("locked")

    def __enter__(self) -> bool:
        return self._callmethod("acquire")

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        return self._callmethod("release")


class ConditionProxy(AcquirerProxy):
    """A condition variable."""

    _exposed_ = ("acquire", "release", "locked", "wait", "notify", "notify_all")

    def wait(self, timeout: float | None = None) -> bool:
        return self._callmethod("wait", (timeout,))

    def notify(self, n: int = 1) -> None:
        return self._callmethod("notify", (n,))

    def notify_all(self) -> None:
        return self._callmethod("notify_all")

    def wait_for(self, predicate: Any, timeout: float | None = None) -> Any:
        """Wait until `predicate()`, called here, is true, at most `timeout` seconds; its last value."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result


class EventProxy(BaseProxy):
    """An event."""

    _exposed_ = ("is_set", "set", "clear", "wait")

    def is_set(self) -> bool:
        return self._callmethod("is_set")

    def set(self) -> None:
        return self._callmethod("set")

    def clear(self) -> None:
        return self._callmethod("clear")

    def wait(self, timeout: float | None = None) -> bool:
        return self._callmethod("wait", (timeout,))


class BarrierProxy(BaseProxy):
    """A barrier."""

    _exposed_ = ("__getattribute__", "wait", "abort", "reset")

    def wait(self, timeout: float | None = None) -> int:
        return self._callmethod("wait", (timeout,))

    def abort(self) -> None:
        return self._callmethod("abort")

    def reset(self) -> None:
        return self._callmethod("reset")

    @property
    def parties(self) -> int:
        return self._callmethod("__getattribute__", ("parties",))

    @property
    def n_waiting(self) -> int:
        return self._callmethod("__getattribute__", ("n_waiting",))

    @property
    def broken(self) -> bool:
        return self._callmethod("__getattribute__", ("broken",))


class NamespaceProxy(BaseProxy):
    """A namespace. Attributes that begin with an underscore are the proxy's own."""

    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__")

    def __getattr__(self, key: str) -> Any:
        if key[0] == "_":
            return object.__getattribute__(self, key)
        return object.__getattribute__(self, "_callmethod")("__getattribute__", (key,))

    def __setattr__(self, key: str, value: Any) -> None:
        if key[0] == "_":
            object.__setattr__(self, key, value)
        else:
            object.__getattribute__(self, "_callmethod")("__setattr__", (key, value))

    def __delattr__(self, key: str) -> None:
        if key[0] == "_":
            object.__delattr__(self, key)
        else:
            object.__getattribute__(self, "_callmethod")("__delattr__", (key,))


class ValueProxy(BaseProxy):
    """A value."""

    _exposed_ = ("get", "set")

    def get(self) -> Any:
        return self._callmethod("get")

    def set(self, value: Any) -> None:
        return self._callmethod("set", (value,))

    value = property(get, set)

    __class_getitem__: Any = classmethod(types.GenericAlias)


BaseListProxy: Any = MakeProxyType(
    "BaseListProxy",
    ["__add__", "__contains__", "__delitem__", "__getitem__", "__imul__", "__len__", "__mul__", "__reversed__", "__rmul__", "__setitem__", "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"],
)


class ListProxy(BaseListProxy):
    """A list."""

    def __iadd__(self, value: Any) -> ListProxy:
        self._callmethod("extend", (value,))
        return self

    def __imul__(self, value: Any) -> ListProxy:
        self._callmethod("__imul__", (value,))
        return self

    __class_getitem__: Any = classmethod(types.GenericAlias)


_BaseDictProxy: Any = MakeProxyType(
    "_BaseDictProxy",
    ["__contains__", "__delitem__", "__getitem__", "__ior__", "__iter__", "__len__", "__or__", "__reversed__", "__ror__", "__setitem__", "clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"],
)
_BaseDictProxy._method_to_typeid_ = {"__iter__": "Iterator"}


class DictProxy(_BaseDictProxy):
    """A dict. `keys`, `values` and `items` are lists."""

    def __ior__(self, value: Any) -> DictProxy:
        self._callmethod("__ior__", (value,))
        return self

    __class_getitem__: Any = classmethod(types.GenericAlias)


_BaseSetProxy: Any = MakeProxyType(
    "_BaseSetProxy",
    ["__and__", "__contains__", "__ge__", "__gt__", "__iand__", "__ior__", "__isub__", "__iter__", "__ixor__", "__le__", "__len__", "__lt__", "__or__", "__rand__", "__ror__", "__rsub__", "__rxor__", "__sub__", "__xor__", "add", "clear", "copy", "difference", "difference_update", "discard", "intersection", "intersection_update", "isdisjoint", "issubset", "issuperset", "pop", "remove", "symmetric_difference", "symmetric_difference_update", "union", "update"],
)


class SetProxy(_BaseSetProxy):
    """A set."""

    def __iand__(self, value: Any) -> SetProxy:
        self._callmethod("__iand__", (value,))
        return self

    def __ior__(self, value: Any) -> SetProxy:
        self._callmethod("__ior__", (value,))
        return self

    def __isub__(self, value: Any) -> SetProxy:
        self._callmethod("__isub__", (value,))
        return self

    def __ixor__(self, value: Any) -> SetProxy:
        self._callmethod("__ixor__", (value,))
        return self

    __class_getitem__: Any = classmethod(types.GenericAlias)


MutableSequence.register(BaseListProxy)
MutableMapping.register(_BaseDictProxy)
MutableSet.register(_BaseSetProxy)


ArrayProxy: Any = MakeProxyType("ArrayProxy", ("__len__", "__getitem__", "__setitem__"))


BasePoolProxy: Any = MakeProxyType(
    "PoolProxy",
    ["apply", "apply_async", "close", "imap", "imap_unordered", "join", "map", "map_async", "starmap", "starmap_async", "terminate"],
)
BasePoolProxy._method_to_typeid_ = {
    "apply_async": "AsyncResult",
    "map_async": "AsyncResult",
    "starmap_async": "AsyncResult",
    "imap": "Iterator",
    "imap_unordered": "Iterator",
}


class PoolProxy(BasePoolProxy):
    """A pool whose workers are the server's children."""

    def __enter__(self) -> PoolProxy:
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.terminate()
