"""Types of the pools: the result type of a call follows from its function."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import GenericAlias, TracebackType
from typing import Any, Final, Generic, Literal, TypeVar, overload

from typing_extensions import Self

from ._pool.stats import PoolStats
from .context import BaseContext

__all__ = ["Pool", "ThreadPool"]

_R = TypeVar("_R")
_A = TypeVar("_A")

_Progress = bool | Literal["always"] | Callable[[int, int | None], object]

INIT: Final = "INIT"
RUN: Final = "RUN"
CLOSE: Final = "CLOSE"
TERMINATE: Final = "TERMINATE"

class RemoteTraceback(Exception):
    def __init__(self, tb: str) -> None: ...
    tb: str

class MaybeEncodingError(Exception):
    def __init__(self, exc: object, value: object) -> None: ...
    exc: str
    value: str

class ApplyResult(Generic[_R]):
    def __init__(
        self,
        pool: Any,
        job: Any,
        callback: Callable[[_R], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None: ...
    def cancel(self) -> bool: ...
    def ready(self) -> bool: ...
    def successful(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> None: ...
    def get(self, timeout: float | None = None) -> _R: ...
    def __await__(self) -> Generator[Any, None, _R]: ...
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

AsyncResult = ApplyResult

class MapResult(ApplyResult[list[_R]]): ...

class _Results(Iterator[_R]):
    def __iter__(self) -> Self: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> _R: ...
    def next(self, timeout: float | None = None) -> _R: ...
    def __next__(self, timeout: float | None = None) -> _R: ...

class IMapIterator(_Results[_R]):
    def __init__(self, pool: Any, job: Any = None) -> None: ...
    def cancel(self) -> bool: ...

class ChunkedResults(_Results[_R]):
    def __init__(self, chunks: IMapIterator[Any]) -> None: ...
    def cancel(self) -> bool: ...

class IMapUnorderedIterator(IMapIterator[_R]): ...

class _Calls:
    def apply(
        self,
        func: Callable[..., _R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
    ) -> _R: ...
    def apply_async(
        self,
        func: Callable[..., _R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[_R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult[_R]: ...
    @overload
    def map(
        self,
        func: Callable[[_A], _R],
        iterable: Iterable[_A],
        chunksize: int | None = None,
        *,
        progress: _Progress = False,
        return_exceptions: Literal[False] = False,
    ) -> list[_R]: ...
    @overload
    def map(
        self,
        func: Callable[[_A], _R],
        iterable: Iterable[_A],
        chunksize: int | None = None,
        *,
        progress: _Progress = False,
        return_exceptions: bool,
    ) -> list[_R | BaseException]: ...
    @overload
    def map_async(
        self,
        func: Callable[[_A], _R],
        iterable: Iterable[_A],
        chunksize: int | None = None,
        callback: Callable[[list[_R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        progress: _Progress = False,
        return_exceptions: Literal[False] = False,
    ) -> MapResult[_R]: ...
    @overload
    def map_async(
        self,
        func: Callable[[_A], _R],
        iterable: Iterable[_A],
        chunksize: int | None = None,
        callback: Callable[[list[_R | BaseException]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        progress: _Progress = False,
        return_exceptions: bool,
    ) -> MapResult[_R | BaseException]: ...
    @overload
    def starmap(
        self,
        func: Callable[..., _R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: _Progress = False,
        return_exceptions: Literal[False] = False,
    ) -> list[_R]: ...
    @overload
    def starmap(
        self,
        func: Callable[..., _R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: _Progress = False,
        return_exceptions: bool,
    ) -> list[_R | BaseException]: ...
    @overload
    def starmap_async(
        self,
        func: Callable[..., _R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[_R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        progress: _Progress = False,
        return_exceptions: Literal[False] = False,
    ) -> MapResult[_R]: ...
    @overload
    def starmap_async(
        self,
        func: Callable[..., _R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[_R | BaseException]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        progress: _Progress = False,
        return_exceptions: bool,
    ) -> MapResult[_R | BaseException]: ...
    @overload
    def imap(
        self,
        func: Callable[[_A], _R],
        iterable: Iterable[_A],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        progress: _Progress = False,
        return_exceptions: Literal[False] = False,
    ) -> IMapIterator[_R] | ChunkedResults[_R]: ...
    @overload
    def imap(
        self,
        func: Callable[[_A], _R],
        iterable: Iterable[_A],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        progress: _Progress = False,
        return_exceptions: bool,
    ) -> IMapIterator[_R | BaseException] | ChunkedResults[_R | BaseException]: ...
    @overload
    def imap_unordered(
        self,
        func: Callable[[_A], _R],
        iterable: Iterable[_A],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        progress: _Progress = False,
        return_exceptions: Literal[False] = False,
    ) -> IMapIterator[_R] | ChunkedResults[_R]: ...
    @overload
    def imap_unordered(
        self,
        func: Callable[[_A], _R],
        iterable: Iterable[_A],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        progress: _Progress = False,
        return_exceptions: bool,
    ) -> IMapIterator[_R | BaseException] | ChunkedResults[_R | BaseException]: ...

class PoolCalls(_Calls):
    def __init__(self, pool: Any, options: Any) -> None: ...

class Pool(_Calls):
    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any: ...
    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        max_rss: int | None = None,
        worker_exit: Callable[[], object] | None = None,
        seed: int | Literal[False] | None = None,
        threads_per_worker: int | None = None,
        name: str | None = None,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @name.setter
    def name(self, value: str) -> None: ...
    def options(
        self,
        *,
        timeout: float | None = ...,
        retries: int = ...,
        name: str | None = None,
    ) -> PoolCalls: ...
    def resize(self, processes: int) -> None: ...
    def stats(self) -> PoolStats: ...
    def close(self) -> None: ...
    def terminate(self) -> None: ...
    def join(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None: ...
    def __del__(self, _warn: Callable[..., object] = ..., RUN: str = "RUN") -> None: ...
    def __reduce__(self) -> Any: ...

class ThreadPool(Pool):
    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None: ...
