"""Types of the shared ctypes objects: the result follows from the ctypes type and from `lock`."""

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from ctypes import _CData, _SimpleCData
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

from ._procession import GuardedArray, GuardedValue
from .context import BaseContext

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

_T = TypeVar("_T")
_C = TypeVar("_C", bound=_CData)

class _Lock(AbstractContextManager[bool, None], Protocol):
    """The type of `lock`: any object that is acquired and released like a lock."""

    def acquire(self, block: bool = ..., timeout: float | None = ..., /) -> bool: ...
    def release(self) -> Any: ...

typecode_to_type: dict[str, type[_CData]]

@overload
def RawValue(typecode_or_type: type[_C], *args: Any) -> _C: ...
@overload
def RawValue(typecode_or_type: str, *args: Any) -> Any: ...
@overload
def RawArray(
    typecode_or_type: type[_C], size_or_initializer: int | Sequence[Any]
) -> ctypes.Array[_C]: ...
@overload
def RawArray(typecode_or_type: str, size_or_initializer: int | Sequence[Any]) -> Any: ...
@overload
def Value(
    typecode_or_type: type[_C],
    *args: Any,
    lock: Literal[False],
    ctx: BaseContext | None = None,
) -> _C: ...
@overload
def Value(
    typecode_or_type: type[_SimpleCData[_T]],
    *args: Any,
    lock: Literal[True] | _Lock = True,
    ctx: BaseContext | None = None,
) -> Synchronized[_T]: ...
@overload
def Value(
    typecode_or_type: type[_C],
    *args: Any,
    lock: Literal[True] | _Lock = True,
    ctx: BaseContext | None = None,
) -> SynchronizedBase[_C]: ...
@overload
def Value(
    typecode_or_type: str | type[_CData],
    *args: Any,
    lock: bool | _Lock = True,
    ctx: BaseContext | None = None,
) -> Any: ...
@overload
def Array(
    typecode_or_type: type[_C],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[False],
    ctx: BaseContext | None = None,
) -> ctypes.Array[_C]: ...
@overload
def Array(
    typecode_or_type: type[ctypes.c_char],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[True] | _Lock = True,
    ctx: BaseContext | None = None,
) -> SynchronizedString: ...
@overload
def Array(
    typecode_or_type: type[_SimpleCData[_T]],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[True] | _Lock = True,
    ctx: BaseContext | None = None,
) -> SynchronizedArray[_T]: ...
@overload
def Array(
    typecode_or_type: str | type[_CData],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: bool | _Lock = True,
    ctx: BaseContext | None = None,
) -> Any: ...
def copy(obj: _C) -> _C: ...
@overload
def synchronized(
    obj: _SimpleCData[_T], lock: _Lock | None = None, ctx: BaseContext | None = None
) -> Synchronized[_T]: ...
@overload
def synchronized(
    obj: ctypes.Array[ctypes.c_char], lock: _Lock | None = None, ctx: BaseContext | None = None
) -> SynchronizedString: ...
@overload
def synchronized(
    obj: ctypes.Array[_SimpleCData[_T]], lock: _Lock | None = None, ctx: BaseContext | None = None
) -> SynchronizedArray[_T]: ...
@overload
def synchronized(
    obj: _C, lock: _Lock | None = None, ctx: BaseContext | None = None
) -> SynchronizedBase[_C]: ...
def reduce_ctype(obj: _CData) -> tuple[Callable[..., Any], tuple[Any, ...]]: ...
def rebuild_ctype(type_: type[_CData], wrapper: Any, length: int | None) -> _CData: ...
def make_property(name: str) -> property: ...

class_cache: Any

class SynchronizedBase(Generic[_C]):
    def __init__(
        self, obj: Any, lock: _Lock | None = None, ctx: BaseContext | None = None
    ) -> None: ...
    acquire: Callable[..., bool]
    release: Callable[[], None]
    def __enter__(self) -> bool: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]: ...
    def get_obj(self) -> _C: ...
    def get_lock(self) -> Any: ...

class Synchronized(GuardedValue, SynchronizedBase[_SimpleCData[_T]]):
    value: _T
    def add(self, n: _T, /) -> _T: ...

class SynchronizedArray(GuardedArray, SynchronizedBase[ctypes.Array[_SimpleCData[_T]]]):
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T]: ...
    @overload
    def __getitem__(self, key: int, /) -> _T: ...
    @overload
    def __getitem__(self, key: slice, /) -> list[_T]: ...
    @overload
    def __setitem__(self, key: int, value: _T, /) -> None: ...
    @overload
    def __setitem__(self, key: slice, value: Iterable[_T], /) -> None: ...
    def add(self, i: int, n: _T, /) -> _T: ...
    def __getslice__(self, start: int, stop: int) -> list[_T]: ...
    def __setslice__(self, start: int, stop: int, values: Iterable[_T]) -> None: ...

class SynchronizedString(SynchronizedArray[bytes]):
    value: bytes
    raw: bytes
