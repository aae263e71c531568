"""Contexts: the package's functions, bound to one start method.

Each function loads only the module that it needs. The file is long because each is a method with
a signature and a docstring.
"""

from __future__ import annotations

import os
import sys
import threading
from _collections_abc import Callable, Iterable

from . import process
from ._errors import (
    AuthenticationError,
    BufferTooShort,
    ProcessError,
    TimeoutError,
    names_misspelt,
)


class _DeferredModule:
    """A module that annotations name: it is imported when they are evaluated."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> object:
        __import__(self._name)
        return getattr(sys.modules[self._name], name)


TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    import logging
    from typing import Any

    from . import _shared_dict, _shared_list, connection, managers, pool, queues, synchronize
    from . import reduction as reduction
else:
    Any = object  # what `typing.get_type_hints` finds
    _shared_dict = _DeferredModule(f"{__package__}._shared_dict")
    _shared_list = _DeferredModule(f"{__package__}._shared_list")
    connection = _DeferredModule(f"{__package__}.connection")
    logging = _DeferredModule("logging")
    managers = _DeferredModule(f"{__package__}.managers")
    pool = _DeferredModule(f"{__package__}.pool")
    queues = _DeferredModule(f"{__package__}.queues")
    synchronize = _DeferredModule(f"{__package__}.synchronize")

__all__ = ()


class BaseContext:
    """The functions that every context offers.

    The default context's bound methods are the package's public functions.
    """

    _name: str
    Process: type[process.BaseProcess]

    ProcessError = ProcessError
    BufferTooShort = BufferTooShort
    TimeoutError = TimeoutError
    AuthenticationError = AuthenticationError

    current_process = staticmethod(process.current_process)
    parent_process = staticmethod(process.parent_process)
    active_children = staticmethod(process.active_children)

    def cpu_count(self) -> int:
        """Return the number of processors of the machine."""
        count = os.cpu_count()
        if count is None:
            raise NotImplementedError("cannot determine number of cpus")
        return count

    def Manager(self) -> managers.SyncManager:
        """Return a started `SyncManager`: a server process that holds objects for others."""
        from .managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex: bool = True) -> tuple[connection.Connection, connection.Connection]:
        """Return the two ends of a pipe; if not `duplex`: (receiving, sending)."""
        from .connection import Pipe

        return Pipe(duplex)

    def Lock(self, *, recover: str = "error", name: str | None = None) -> synchronize.Lock:
        """Return a lock that any process may release.

        `recover`: "error" to raise `OwnerDied` in one waiter when the holder dies, "silent" to
        raise nothing. `name`: its name in errors and in what `procession` commands show.
        """
        from .synchronize import Lock

        return Lock(recover=recover, name=name, ctx=self.get_context())

    def RLock(self, *, recover: str = "error", name: str | None = None) -> synchronize.RLock:
        """Return a lock that its holder may acquire again.

        `recover`: "error" to raise `OwnerDied` in one waiter when the holder dies, "silent" to
        raise nothing. `name`: its name in errors and in what `procession` commands show.
        """
        from .synchronize import RLock

        return RLock(recover=recover, name=name, ctx=self.get_context())

    def Condition(self, lock: Any = None, *, name: str | None = None) -> synchronize.Condition:
        """Return a condition variable on `lock`, by default a new `RLock`.

        `name`: its name in what `procession` commands show.
        """
        from .synchronize import Condition

        return Condition(lock, name=name, ctx=self.get_context())

    def Semaphore(
        self, value: int = 1, *, recover: str | None = None, name: str | None = None
    ) -> synchronize.Semaphore:
        """Return a semaphore that starts at `value`.

        `recover`: "silent" to give back what a process had acquired when it died; None not to.
        `name`: its name in what `procession` commands show.
        """
        from .synchronize import Semaphore

        return Semaphore(value, recover=recover, name=name, ctx=self.get_context())

    def BoundedSemaphore(
        self, value: int = 1, *, recover: str | None = None, name: str | None = None
    ) -> synchronize.BoundedSemaphore:
        """Return a semaphore that may not be released above `value`.

        `recover`: "silent" to give back what a process had acquired when it died; None not to.
        `name`: its name in what `procession` commands show.
        """
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, recover=recover, name=name, ctx=self.get_context())

    def Event(self, *, name: str | None = None) -> synchronize.Event:
        """Return a flag that processes can wait for.

        `name`: its name in what `procession` commands show.
        """
        from .synchronize import Event

        return Event(name=name, ctx=self.get_context())

    def Barrier(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        name: str | None = None,
    ) -> synchronize.Barrier:
        """Return a barrier for `parties` processes.

        `name`: its name in what `procession` commands show.
        """
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, name=name, ctx=self.get_context())

    def Queue(self, maxsize: int = 0, *, name: str | None = None) -> queues.Queue:
        """Return a queue of at most `maxsize` items; 0: no limit.

        `name`: its name in what `procession` commands show.
        """
        from .queues import Queue

        return Queue(maxsize, name=name, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0, *, name: str | None = None) -> queues.JoinableQueue:
        """Return a queue that counts unfinished items.

        `name`: its name in what `procession` commands show.
        """
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, name=name, ctx=self.get_context())

    def SimpleQueue(self, *, name: str | None = None) -> queues.SimpleQueue:
        """Return a queue with only `put`, `get` and `empty`.

        `name`: its name in what `procession` commands show.
        """
        from .queues import SimpleQueue

        return SimpleQueue(name=name, ctx=self.get_context())

    def SharedDict(
        self, mapping_or_iterable: Any = (), /, **kwargs: Any
    ) -> _shared_dict.SharedDict:
        """Return a dictionary that all processes use at once."""
        from ._shared_dict import SharedDict

        return SharedDict(mapping_or_iterable, **kwargs)

    def SharedList(
        self, iterable: Iterable[Any] = (), /, *, name: str | None = None
    ) -> _shared_list.SharedList:
        """Return a list that all processes use at once.

        `name`: its name in what `procession` commands show.
        """
        from ._shared_list import SharedList

        return SharedList(iterable, name=name)

    @names_misspelt
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
        seed: int | None = None,
        threads_per_worker: int | None = None,
        name: str | None = None,
    ) -> pool.Pool:
        """Return a pool of `processes` workers; None: one for each processor this process may use.

        `pool.Pool` describes the options.
        """
        from .pool import Pool

        return Pool(
            processes,
            initializer,
            initargs,
            maxtasksperchild,
            self.get_context(),
            task_timeout=task_timeout,
            retries=retries,
            max_rss=max_rss,
            worker_exit=worker_exit,
            seed=seed,
            threads_per_worker=threads_per_worker,
            name=name,
        )

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """Return a shared ctypes object without a lock."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        """Return a shared ctypes array without a lock."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """Return a shared ctypes object with its lock."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        """Return a shared ctypes array with its lock."""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def freeze_support(self) -> None:
        """Run the child if this is a frozen executable that was started as one, then exit.

        Otherwise do nothing.
        """
        if getattr(sys, "frozen", False):
            from .spawn import freeze_support

            freeze_support()

    def get_logger(self) -> logging.Logger:
        """Return the package's logger."""
        from .util import get_logger

        return get_logger()

    def log_to_stderr(self, level: int | str | None = None) -> logging.Logger:
        """Make the package's logger print to standard error, from `level` on; return it."""
        from .util import log_to_stderr

        return log_to_stderr(level)

    def log_to_file(
        self, path: str | os.PathLike[str], level: int | str | None = None
    ) -> logging.Logger:
        """Make the package's logger append to the file `path`, here and in all future children.

        Each record is one write, so no line is lost or torn. Return the logger; raises OSError if
        the file cannot be opened.
        """
        from .util import log_to_file

        return log_to_file(path, level)

    def allow_connection_pickling(self) -> None:
        """Let connections and sockets be sent between processes."""
        from . import connection  # noqa: F401 - registers its reducers

    def set_executable(self, executable: Any) -> None:
        """Set the interpreter that spawn and forkserver start, for programs that embed Python."""
        from .spawn import set_executable

        set_executable(executable)

    def set_forkserver_preload(self, module_names: list[str], *, on_error: str = "ignore") -> None:
        """Set the modules that the fork server imports when it starts.

        `on_error`, for a module that cannot be imported: "ignore", "warn" or "fail".
        """
        from .forkserver import set_forkserver_preload

        set_forkserver_preload(module_names, on_error=on_error)

    def get_context(self, method: str | None = None, **options: Any) -> BaseContext:
        """Return the context of a start method; None: this one.

        Only the method "ray" has options. `address` and `runtime_env` are as `ray.init` takes them.
        `num_cpus` and `resources` are what a node must have for each process. `strategy` is
        "spread", or "pack" to fill this node first. `node_timeout` is the number of seconds (15)
        after which a node that does not answer is lost. There is one such context in a process;
        options given again replace its options. Raises ValueError if there is no such method, and ModuleNotFoundError if
        the method needs a package that is not installed.
        """
        if options:
            return _with_options(method, **options)
        return self if method is None else _context_of(method)

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """Return the name of the start method."""
        return self._name

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Set the start method. Only the default context allows it."""
        raise ValueError("cannot set start method of concrete context")

    @property
    def reducer(self):
        """The module that reduces objects to a form that can be sent to other processes."""
        return sys.modules[__name__].reduction

    @reducer.setter
    def reducer(self, reduction):
        globals()["reduction"] = reduction

    def _check_available(self) -> None:
        pass


def _context_of(method: str) -> BaseContext:
    context = _context_called(method)
    context._check_available()
    return context


def _context_called(method: str) -> BaseContext:
    context = _concrete_contexts.get(method)
    if context is None and method == "ray":
        from ._cluster.start import ray_context

        context = ray_context()
    if context is None:
        raise ValueError(f"cannot find context for {method!r}")
    return context


def _with_options(method: str | None, address: str | None = None, **options: Any) -> BaseContext:
    if method != "ray":
        raise TypeError(f"the start method {method!r} has no options: only 'ray' has")
    from ._cluster.start import ray_context

    context = ray_context()
    context.configure(address, options)
    return context


class Process(process.BaseProcess):
    """A process started by the default context's method."""

    _start_method = None

    @staticmethod
    def _Popen(process_obj):
        return _default_context.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork():
        return _default_context.get_context().Process._after_fork()


class DefaultContext(BaseContext):
    """The context behind the package's functions. Its start method can be set once."""

    Process = Process

    def __init__(self, context: BaseContext | None = None) -> None:
        self._default_context = context or _concrete_contexts[_DEFAULT_METHOD]
        self._actual_context: BaseContext | None = None

    def get_context(self, method: str | None = None, **options: Any) -> BaseContext:
        """Return the context of a start method.

        None: the one in use, which is fixed from now on. The options are those of "ray"; see
        `BaseContext.get_context`.
        """
        if method is not None or options:
            return super().get_context(method, **options)
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Set the start method. Raises RuntimeError if it is fixed already and not `force`."""
        if self._actual_context is not None and not force:
            if process.current_process()._inheriting:
                from ._start.main_module import check_not_importing

                check_not_importing()
            raise RuntimeError("context has already been set")
        self._actual_context = None if method is None and force else self.get_context(method)

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """Return the name of the start method and fix it.

        With `allow_none`, None if it is not fixed.
        """
        if self._actual_context is None and allow_none:
            return None
        return self.get_context()._name

    def get_all_start_methods(self) -> list[str]:
        """Return the start methods that this system supports, the default one first."""
        default = self._default_context._name
        return [default, *(name for name in _concrete_contexts if name != default)]


class ForkProcess(process.BaseProcess):
    """A process that begins as a copy of its parent."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj):
        from .popen_fork import Popen

        return Popen(process_obj)


class SpawnProcess(process.BaseProcess):
    """A process that starts a new interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj):
        from .popen_spawn_posix import Popen

        return Popen(process_obj)

    @staticmethod
    def _after_fork():
        pass  # nothing was inherited


class ForkServerProcess(process.BaseProcess):
    """A process that begins as a copy of the fork server."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj):
        from .popen_forkserver import Popen

        return Popen(process_obj)


class ForkContext(BaseContext):
    """The context of the start method fork."""

    _name = "fork"
    Process = ForkProcess


class SpawnContext(BaseContext):
    """The context of the start method spawn."""

    _name = "spawn"
    Process = SpawnProcess


class ForkServerContext(BaseContext):
    """The context of the start method forkserver."""

    _name = "forkserver"
    Process = ForkServerProcess


_concrete_contexts: dict[str, BaseContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
_DEFAULT_METHOD = "forkserver" if sys.version_info >= (3, 14) else "fork"
_default_context = DefaultContext()
#: What procession stands in for in this process, noted by `_compat.install`: "" for nothing,
#: "multiprocessing", or "executor" for the executor of `concurrent.futures` as well.
_stands_in = ""


def _force_start_method(method: str) -> None:
    # Whether the method is available was asked where it was set: in this process or an ancestor.
    _default_context._actual_context = _context_called(method)


def _change_default_method(method: str) -> None:
    """Set the start method of a program that sets none."""
    _default_context._default_context = _context_called(method)


def _note_stand_in(what: str) -> None:
    global _stands_in
    _stands_in = what


_spawning = threading.local()
_this = sys.modules[__name__]


def get_spawning_popen() -> Any:
    """Return the ``Popen`` that this thread is pickling a process for, or None."""
    return getattr(_spawning, "popen", None)


def set_spawning_popen(popen: Any) -> None:
    """Set or, with None, clear the ``Popen`` that this thread is pickling a process for."""
    _spawning.popen = popen
    if sys.modules.get("multiprocessing.context", _this) is not _this:
        from . import reduction

        reduction._pickle_for_neighbour(popen)


def assert_spawning(obj: object) -> None:
    """Raise RuntimeError unless this thread is pickling a process."""
    if get_spawning_popen() is None:
        raise RuntimeError(
            f"{type(obj).__name__} objects should only be shared between processes through inheritance"
        )


def __getattr__(name: str) -> Any:
    # `context.reduction` is a public name; the module is loaded on first use.
    if name == "reduction":
        from . import reduction

        return globals().setdefault("reduction", reduction)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
