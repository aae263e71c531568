"""The proxy types of `SyncManager`, and the object types that the standard library lacks."""

from __future__ import annotations

import array
import sys
import time
import types
from collections.abc import MutableMapping, MutableSequence, MutableSet

from .._errors import Sealed
from .direct import DirectDict, DirectList, Elsewhere
from .proxies import BaseProxy, MakeProxyType

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = [
    "AcquirerProxy",
    "Array",
    "ArrayProxy",
    "BarrierProxy",
    "BaseListProxy",
    "BasePoolProxy",
    "ConditionProxy",
    "DictProxy",
    "EventProxy",
    "IteratorProxy",
    "ListProxy",
    "Namespace",
    "NamespaceProxy",
    "PoolProxy",
    "SetProxy",
    "Value",
    "ValueProxy",
    "_BaseDictProxy",
    "_BaseSetProxy",
]


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
    """A single object that can be replaced, through `value` or by `set`."""

    def __init__(self, typecode: Any, value: Any, lock: bool = True) -> None:
        self._typecode = typecode
        self._value = value

    def get(self) -> Any:
        """Return the value."""
        return self._value

    def set(self, value: Any) -> None:
        """Replace the value."""
        self._value = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._typecode!r}, {self._value!r})"

    value = property(get, set)


def Array(typecode: str, sequence: Any, lock: bool = True) -> array.array:
    """Return an `array.array`."""
    return array.array(typecode, sequence)


class IteratorProxy(BaseProxy):
    """A proxy for an iterator or generator."""

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
    """A proxy for a lock or semaphore; each thread's own connection identifies it as the holder."""

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
    """A proxy for a condition variable."""

    _exposed_ = ("acquire", "release", "locked", "wait", "notify", "notify_all")

    def wait(self, timeout: float | None = None) -> bool:
        return self._callmethod("wait", (timeout,))

    def notify(self, n: int = 1) -> None:
        return self._callmethod("notify", (n,))

    def notify_all(self) -> None:
        return self._callmethod("notify_all")

    def wait_for(self, predicate: Any, timeout: float | None = None) -> Any:
        """Wait until `predicate()`, called in this process, is true; return its last value.

        Waits at most `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result


class EventProxy(BaseProxy):
    """A proxy for an event."""

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
    """A proxy for a barrier."""

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
    """A proxy for a namespace.

    Attributes that begin with an underscore belong to the proxy itself.
    """

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
    """A proxy for a value."""

    _exposed_ = ("get", "set")

    def get(self) -> Any:
        return self._callmethod("get")

    def set(self, value: Any) -> None:
        return self._callmethod("set", (value,))

    value = property(get, set)

    __class_getitem__: Any = classmethod(types.GenericAlias)


def _forwarding(name: str, methods: str) -> Any:
    """Return a proxy type that forwards these methods to the object."""
    return MakeProxyType(name, methods.split())


def _in_place(name: str) -> Any:
    """Return an operator method that changes the object and returns the proxy."""

    def operate(self: BaseProxy, value: Any) -> Any:
        self._callmethod(name, (value,))
        return self

    operate.__name__ = operate.__qualname__ = name
    return operate


def _without_calls(direct: Any) -> Any:
    """Give a proxy type methods that use the object in shared memory while that is possible."""

    def decorate(proxytype: Any) -> Any:
        proxytype._memory = None  # not asked yet
        for name in direct.METHODS:
            setattr(proxytype, name, _without_call(proxytype, getattr(direct, name), name))
        return proxytype

    return decorate


def _without_call(proxytype: Any, function: Any, name: str) -> Any:
    by_server = getattr(proxytype, name)
    most = function.__code__.co_argcount - 1  # without `self`
    least = most - len(function.__defaults__ or ())

    def method(self: Any, /, *args: Any, **kwds: Any) -> Any:
        memory = self._memory
        if memory is None and type(self) is proxytype:
            # False: all calls go to the server.
            memory = self._memory = self._shared_object() or False
        if memory and not kwds and least <= len(args) <= most:
            if memory[1]():
                self._memory = False
            else:
                try:
                    return function(memory[0], *args)
                except Elsewhere:
                    pass
                except MemoryError as error:
                    if not error.args:  # the interpreter's own: shared memory is not full
                        raise
                    # The content moves first: that makes room for the call.
                    memory = self._memory = False
                    self._callmethod("__len__")
                except Sealed:
                    self._memory = False
        return by_server(self, *args, **kwds)

    method.__name__ = name
    method.__qualname__ = f"{proxytype.__name__}.{name}"
    return method


BaseListProxy: Any = _forwarding(
    "BaseListProxy",
    """
        __add__ __contains__ __delitem__ __getitem__ __imul__ __len__ __mul__ __reversed__
        __rmul__ __setitem__ append clear copy count extend index insert pop remove reverse sort
    """,
)


@_without_calls(DirectList)
class ListProxy(BaseListProxy):
    """A proxy for a list."""

    def __iadd__(self, value: Any) -> Any:
        ListProxy.extend(self, value)
        return self

    __imul__ = _in_place("__imul__")
    __class_getitem__: Any = classmethod(types.GenericAlias)


_BaseDictProxy: Any = _forwarding(
    "_BaseDictProxy",
    """
        __contains__ __delitem__ __getitem__ __ior__ __iter__ __len__ __or__ __reversed__
        __ror__ __setitem__ clear copy fromkeys get items keys pop popitem setdefault update
        values
    """,
)
_BaseDictProxy._method_to_typeid_ = {"__iter__": "Iterator"}


@_without_calls(DirectDict)
class DictProxy(_BaseDictProxy):
    """A proxy for a dict. `keys`, `values` and `items` return lists."""

    __ior__ = _in_place("__ior__")
    __class_getitem__: Any = classmethod(types.GenericAlias)


_BaseSetProxy: Any = _forwarding(
    "_BaseSetProxy",
    """
        __and__ __contains__ __ge__ __gt__ __iand__ __ior__ __isub__ __iter__ __ixor__ __le__
        __len__ __lt__ __or__ __rand__ __ror__ __rsub__ __rxor__ __sub__ __xor__ add clear copy
        difference difference_update discard intersection intersection_update isdisjoint
        issubset issuperset pop remove symmetric_difference symmetric_difference_update union
        update
    """,
)


class SetProxy(_BaseSetProxy):
    """A proxy for a set."""

    __iand__ = _in_place("__iand__")
    __ior__ = _in_place("__ior__")
    __isub__ = _in_place("__isub__")
    __ixor__ = _in_place("__ixor__")
    __class_getitem__: Any = classmethod(types.GenericAlias)


if sys.version_info >= (3, 14):
    MutableSequence.register(BaseListProxy)
    MutableMapping.register(_BaseDictProxy)
    MutableSet.register(_BaseSetProxy)


ArrayProxy: Any = MakeProxyType("ArrayProxy", ("__len__", "__getitem__", "__setitem__"))


BasePoolProxy: Any = _forwarding(
    "PoolProxy",
    """
        apply apply_async close imap imap_unordered join map map_async starmap starmap_async
        terminate
    """,
)
BasePoolProxy._method_to_typeid_ = {
    "apply_async": "AsyncResult",
    "map_async": "AsyncResult",
    "starmap_async": "AsyncResult",
    "imap": "Iterator",
    "imap_unordered": "Iterator",
}


class PoolProxy(BasePoolProxy):
    """A proxy for a pool. Its workers are the server's children."""

    def __enter__(self) -> PoolProxy:
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.terminate()


for _name in __all__:
    globals()[_name].__module__ = "procession.managers"
