"""ctypes objects in shared memory, bare or with a lock around each access.

They can be arguments of a process, items of a queue or parts of a pool's tasks: a reference to the
memory is sent.
"""

from __future__ import annotations

import ctypes
import weakref

from . import heap
from ._procession import GuardedArray, GuardedValue
from ._procession import Lock as _PlainLock
from ._procession import RLock as _PlainRLock
from .context import _default_context, reduction
from .context import assert_spawning as assert_spawning

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

get_context = _default_context.get_context

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

_ForkingPickler = reduction.ForkingPickler

typecode_to_type: dict[str, Any] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}


def _new_value(type_: Any) -> Any:
    try:
        size = ctypes.sizeof(type_)
    except TypeError:
        codes = ", ".join(typecode_to_type)
        raise TypeError(f"bad typecode (must be a ctypes type or one of {codes})") from None
    return rebuild_ctype(type_, heap.BufferWrapper(size), None)


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """Return a ctypes object in shared memory, made as `type(*args)`.

    The type is a ctypes type or a type code of `array`. Nothing prevents two processes from
    changing the object at once. Raises MemoryError when no memory is left.
    """
    obj = _new_value(typecode_to_type.get(typecode_or_type, typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """Return a ctypes array in shared memory: of `size` zeros, or of the initializer's items.

    Like `RawValue`, it has no lock.
    """
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new_value(type_ * size_or_initializer)
    result = _new_value(type_ * len(size_or_initializer))
    result.__init__(*size_or_initializer)
    return result


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """Return a `RawValue` with a lock around each access.

    Operations of more than one access, such as `v.value += 1`, need `get_lock()`. `lock`: True for
    a new recursive lock, False for none (a bare `RawValue`), or the lock to use.
    """
    return _locked(RawValue(typecode_or_type, *args), lock, ctx)


def Array(
    typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None
) -> Any:
    """Return a `RawArray` with a lock around each access.

    The arguments are those of `RawArray` and `Value`.
    """
    return _locked(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def _locked(obj: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return obj
    given = None if lock is True else lock
    if given is not None and not hasattr(given, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, given, ctx)


def copy(obj: Any) -> Any:
    """Return a bare copy of a ctypes object, in shared memory."""
    new_obj = _new_value(type(obj))
    ctypes.pointer(new_obj)[0] = obj
    return new_obj


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Return a ctypes object with a lock around each access; by default a new recursive lock."""
    assert not isinstance(obj, SynchronizedBase), "object already synchronized"
    return _wrapper_of(obj)(obj, lock, ctx)


def _wrapper_of(obj: Any) -> type[SynchronizedBase]:
    if isinstance(obj, ctypes.Array):
        return SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray
    kind = type(obj)
    wrapper = Synchronized if isinstance(obj, ctypes._SimpleCData) else class_cache.get(kind)
    if wrapper is None:
        fields = {field[0]: make_property(field[0]) for field in _all_fields(kind)}
        wrapper = class_cache[kind] = type(
            f"Synchronized{kind.__name__}", (SynchronizedBase,), fields
        )
    return wrapper


def _synchronized_again(rebuild: Any, args: tuple[Any, ...], lock: Any) -> Any:
    return synchronized(rebuild(*args), lock)


def _all_fields(cls: Any) -> list[Any]:
    """Return the fields of a structure or union, including those of its bases."""
    return [field for base in reversed(cls.__mro__) for field in base.__dict__.get("_fields_", ())]


def reduce_ctype(obj: Any) -> Any:
    """Reduce a ctypes object for the pickler: shared memory to a reference, others as usual."""
    elsewhere = _reduce_elsewhere and _reduce_elsewhere(obj)
    if elsewhere:
        return elsewhere
    wrapper = getattr(obj, "_wrapper", None)
    if wrapper is None:
        return obj.__reduce_ex__(2)
    if isinstance(obj, ctypes.Array):
        return rebuild_ctype, (obj._type_, wrapper.shared, obj._length_)
    return rebuild_ctype, (type(obj), wrapper.shared, None)


def rebuild_ctype(type_: Any, wrapper: Any, length: int | None) -> Any:
    """Return the ctypes object over a `BufferWrapper`; with a `length`, an array."""
    whole = type_ if length is None else type_ * length
    _ForkingPickler._extra_reducers.setdefault(whole, reduce_ctype)
    obj = whole.from_buffer(wrapper.create_memoryview())
    obj._wrapper = _Memory(wrapper)
    return obj


class _Memory:
    """Keeps the memory of a bare object alive.

    A pickler without `reduce_ctype` reaches this object and would make a copy that is not shared.
    So it refuses to be pickled.
    """

    __slots__ = ("shared",)

    def __init__(self, wrapper: heap.BufferWrapper) -> None:
        self.shared = wrapper

    def __reduce__(self) -> Any:
        raise TypeError(
            "a bare ctypes object in shared memory can be pickled by ForkingPickler only"
        )


def make_property(name: str) -> property:
    """Return a property for the ctypes object's attribute `name`, accessed under the lock."""
    if name not in prop_cache:

        def read(self: SynchronizedBase) -> Any:
            self.acquire()
            try:
                return getattr(self._obj, name)
            finally:
                self.release()

        def write(self: SynchronizedBase, value: Any) -> None:
            self.acquire()
            try:
                setattr(self._obj, name, value)
            finally:
                self.release()

        prop_cache[name] = property(read, write)
    return prop_cache[name]


#: How shared objects are reduced in a pickle for another node; set where there is a cluster.
_reduce_elsewhere: Any = None
prop_cache: dict[str, property] = {}
class_cache: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


class SynchronizedBase:
    """A ctypes object and its lock; as a context manager, the lock."""

    def __init__(self, obj: Any, lock: Any = None, ctx: Any = None) -> None:
        self._obj = obj
        self._lock = lock if lock else (ctx or get_context()).RLock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *args: Any) -> Any:
        return self._lock.__exit__(*args)

    def __reduce__(self) -> Any:
        elsewhere = _reduce_elsewhere and _reduce_elsewhere(self)
        if elsewhere:
            return elsewhere
        # Any pickler sends a reference to the memory.
        rebuild, args = reduce_ctype(self._obj)[:2]
        return _synchronized_again, (rebuild, args, self._lock)

    def get_obj(self) -> Any:
        """Return the bare ctypes object."""
        return self._obj

    def get_lock(self) -> Any:
        """Return the lock."""
        return self._lock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} wrapper for {self._obj}>"


class Synchronized(GuardedValue, SynchronizedBase):
    """A number or character with a lock: `value` reads and writes it, `add(n)` adds to it."""

    def __init__(self, obj: Any, lock: Any = None, ctx: Any = None) -> None:
        super().__init__(obj, lock, ctx)
        if type(obj) in _simple_types:
            _bind(self, obj._type_, 1)


class SynchronizedArray(GuardedArray, SynchronizedBase):
    """An array with a lock: items and slices are read and written, `add(i, n)` adds to an item."""

    def __init__(self, obj: Any, lock: Any = None, ctx: Any = None) -> None:
        super().__init__(obj, lock, ctx)
        item = getattr(obj, "_type_", None)
        if item in _simple_types and type(obj) is item * obj._length_:
            _bind(self, item._type_, obj._length_)

    def __getslice__(self, start: int, stop: int) -> Any:
        return self[start:stop]

    def __setslice__(self, start: int, stop: int, values: Any) -> None:
        self[start:stop] = values


class SynchronizedString(SynchronizedArray):
    """An array of characters: `value` ends at the first null, `raw` is all of it."""

    value = make_property("value")
    raw = make_property("raw")


_simple_types = {*typecode_to_type.values(), ctypes.c_bool}


def _bind(wrapper: Any, code: str, length: int) -> None:
    """Have the extension access a wrapper's memory, unless that could make a difference.

    The object must be as `rebuild_ctype` made it, and `acquire` and `release` the extension's own.
    """
    memory, lock = getattr(wrapper._obj, "_wrapper", None), wrapper._lock
    own = next((kind for kind in (_PlainRLock, _PlainLock) if isinstance(lock, kind)), None)
    if type(memory) is not _Memory or own is None:
        return
    methods = own.acquire.__get__(lock), own.release.__get__(lock)
    if (wrapper.acquire, wrapper.release) == methods:
        wrapper._bind(memory.shared._memory, code, length, lock)
