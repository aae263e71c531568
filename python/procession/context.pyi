"""Types of the contexts, and so of the package's functions."""

import ctypes
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import _CData, _SimpleCData
from types import ModuleType
from typing import Any, ClassVar, Literal, TypeVar, overload

from . import (
    _errors,
    _shared_dict,
    _shared_list,
    connection,
    managers,
    pool,
    process,
    queues,
    synchronize,
)
from . import reduction as reduction
from ._cluster.start import RayContext
from ._errors import AuthenticationError as AuthenticationError
from ._errors import BufferTooShort as BufferTooShort
from ._errors import ProcessError as ProcessError
from ._errors import TimeoutError as TimeoutError
from .sharedctypes import (
    Synchronized,
    SynchronizedArray,
    SynchronizedBase,
    SynchronizedString,
    _Lock,
)

__all__ = ()

_K = TypeVar("_K")
_T = TypeVar("_T")
_C = TypeVar("_C", bound=_CData)

class BaseContext:
    Process: ClassVar[type[process.BaseProcess]]
    ProcessError: ClassVar[type[_errors.ProcessError]]
    BufferTooShort: ClassVar[type[_errors.BufferTooShort]]
    TimeoutError: ClassVar[type[_errors.TimeoutError]]
    AuthenticationError: ClassVar[type[_errors.AuthenticationError]]

    @staticmethod
    def current_process() -> process.BaseProcess: ...
    @staticmethod
    def parent_process() -> process.BaseProcess | None: ...
    @staticmethod
    def active_children() -> list[process.BaseProcess]: ...
    def cpu_count(self) -> int: ...
    def Manager(self) -> managers.SyncManager: ...
    def Pipe(self, duplex: bool = True) -> tuple[connection.Connection, connection.Connection]: ...
    def Lock(
        self, *, recover: Literal["error", "silent"] = "error", name: str | None = None
    ) -> synchronize.Lock: ...
    def RLock(
        self, *, recover: Literal["error", "silent"] = "error", name: str | None = None
    ) -> synchronize.RLock: ...
    def Condition(
        self, lock: _Lock | None = None, *, name: str | None = None
    ) -> synchronize.Condition: ...
    def Semaphore(
        self,
        value: int = 1,
        *,
        recover: Literal["silent"] | None = None,
        name: str | None = None,
    ) -> synchronize.Semaphore: ...
    def BoundedSemaphore(
        self,
        value: int = 1,
        *,
        recover: Literal["silent"] | None = None,
        name: str | None = None,
    ) -> synchronize.BoundedSemaphore: ...
    def Event(self, *, name: str | None = None) -> synchronize.Event: ...
    def Barrier(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        name: str | None = None,
    ) -> synchronize.Barrier: ...
    def Queue(self, maxsize: int = 0, *, name: str | None = None) -> queues.Queue[Any]: ...
    def JoinableQueue(
        self, maxsize: int = 0, *, name: str | None = None
    ) -> queues.JoinableQueue[Any]: ...
    def SimpleQueue(self, *, name: str | None = None) -> queues.SimpleQueue[Any]: ...
    @overload
    def SharedDict(self, **kwargs: _T) -> _shared_dict.SharedDict[str, _T]: ...
    @overload
    def SharedDict(
        self, mapping_or_iterable: Mapping[_K, _T] | Iterable[tuple[_K, _T]], /, **kwargs: _T
    ) -> _shared_dict.SharedDict[_K, _T]: ...
    def SharedList(
        self, iterable: Iterable[_T] = ..., /, *, name: str | None = None
    ) -> _shared_list.SharedList[_T]: ...
    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        max_rss: int | None = None,
        worker_exit: Callable[[], object] | None = None,
        seed: int | Literal[False] | None = None,
        threads_per_worker: int | None = None,
        name: str | None = None,
    ) -> pool.Pool: ...
    @overload
    def RawValue(self, typecode_or_type: type[_C], *args: Any) -> _C: ...
    @overload
    def RawValue(self, typecode_or_type: str, *args: Any) -> Any: ...
    @overload
    def RawArray(
        self, typecode_or_type: type[_C], size_or_initializer: int | Sequence[Any]
    ) -> ctypes.Array[_C]: ...
    @overload
    def RawArray(self, typecode_or_type: str, size_or_initializer: int | Sequence[Any]) -> Any: ...
    @overload
    def Value(self, typecode_or_type: type[_C], *args: Any, lock: Literal[False]) -> _C: ...
    @overload
    def Value(
        self,
        typecode_or_type: type[_SimpleCData[_T]],
        *args: Any,
        lock: Literal[True] | _Lock = True,
    ) -> Synchronized[_T]: ...
    @overload
    def Value(
        self, typecode_or_type: type[_C], *args: Any, lock: Literal[True] | _Lock = True
    ) -> SynchronizedBase[_C]: ...
    @overload
    def Value(
        self, typecode_or_type: str | type[_CData], *args: Any, lock: bool | _Lock = True
    ) -> Any: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[_C],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[False],
    ) -> ctypes.Array[_C]: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[ctypes.c_char],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | _Lock = True,
    ) -> SynchronizedString: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[_SimpleCData[_T]],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | _Lock = True,
    ) -> SynchronizedArray[_T]: ...
    @overload
    def Array(
        self,
        typecode_or_type: str | type[_CData],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: bool | _Lock = True,
    ) -> Any: ...
    def freeze_support(self) -> None: ...
    def get_logger(self) -> logging.Logger: ...
    def log_to_stderr(self, level: int | str | None = None) -> logging.Logger: ...
    def log_to_file(
        self, path: str | os.PathLike[str], level: int | str | None = None
    ) -> logging.Logger: ...
    def allow_connection_pickling(self) -> None: ...
    def set_executable(self, executable: str | bytes | os.PathLike[Any]) -> None: ...
    def set_forkserver_preload(
        self,
        module_names: list[str],
        *,
        on_error: Literal["ignore", "warn", "fail"] = "ignore",
    ) -> None: ...
    @overload
    def get_context(self, method: None = None) -> BaseContext: ...
    @overload
    def get_context(self, method: Literal["fork"]) -> ForkContext: ...
    @overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    @overload
    def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @overload
    def get_context(
        self,
        method: Literal["ray"],
        *,
        address: str | None = None,
        strategy: Literal["spread", "pack"] = "spread",
        num_cpus: float = 1,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        node_timeout: float | None = None,
    ) -> RayContext: ...
    @overload
    def get_context(self, method: str) -> BaseContext: ...
    def get_start_method(self, allow_none: bool = False) -> str | None: ...
    def set_start_method(self, method: str | None, force: bool = False) -> None: ...
    @property
    def reducer(self) -> ModuleType: ...
    @reducer.setter
    def reducer(self, reduction: ModuleType) -> None: ...
    def _check_available(self) -> None: ...

class Process(process.BaseProcess): ...

class DefaultContext(BaseContext):
    Process: ClassVar[type[process.BaseProcess]]
    _default_context: BaseContext
    _actual_context: BaseContext | None
    def __init__(self, context: BaseContext | None = None) -> None: ...
    def get_all_start_methods(self) -> list[str]: ...

class ForkProcess(process.BaseProcess): ...
class SpawnProcess(process.BaseProcess): ...
class ForkServerProcess(process.BaseProcess): ...
class ForkContext(BaseContext): ...
class SpawnContext(BaseContext): ...
class ForkServerContext(BaseContext): ...

class _DeferredModule:
    def __init__(self, name: str) -> None: ...
    def __getattr__(self, name: str) -> Any: ...

_concrete_contexts: dict[str, BaseContext]
_default_context: DefaultContext
_spawning: threading.local
_stands_in: str

def _change_default_method(method: str) -> None: ...
def _note_stand_in(what: str) -> None: ...
def get_spawning_popen() -> Any: ...
def set_spawning_popen(popen: Any) -> None: ...
def assert_spawning(obj: object) -> None: ...
def _force_start_method(method: str) -> None: ...
def _context_called(method: str) -> BaseContext: ...
