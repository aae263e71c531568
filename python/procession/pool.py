"""Pools of worker processes, and of threads.

The engine passes tasks to the workers and results to the callers. This module is the interface:
what calls mean and how their arguments become tasks. `_pool.workers` manages the
workers, `_pool.results` has the results of asynchronous calls, and `_pool.errors` the exceptions.

The file is long because `Pool` is one class, whose methods programs override, with a docstring each.
"""

from __future__ import annotations

import itertools
import os
import threading
import warnings
from _collections_abc import Callable, Iterable, Iterator, Mapping

from . import util
from ._errors import names_misspelt
from ._pool.errors import ExceptionWithTraceback as ExceptionWithTraceback
from ._pool.errors import MaybeEncodingError as MaybeEncodingError
from ._pool.errors import RemoteTraceback as RemoteTraceback
from ._pool.errors import _foreign
from ._pool.errors import rebuild_exc as rebuild_exc
from ._pool.feed import Numbered, TaskQueue, calls, feed_all, iterator_of, perform
from ._pool.feed import mapstar as mapstar
from ._pool.feed import starmapstar as starmapstar
from ._pool.options import UNCHANGED, Options, Priority
from ._pool.results import (
    ApplyResult,
    ChunkedResults,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
)
from ._pool.results import AsyncResult as AsyncResult
from ._pool.worker import (
    CHUNK,
    EACH_OF_CHUNK,
    EACH_OF_STARRED_CHUNK,
    ITEM,
    STARRED_CHUNK,
)
from ._pool.workers import CLOSE, INIT, RUN, TERMINATE, Workers, workers_now
from ._procession import PoolCore, usable_cpus
from ._threads import Thread
from .context import TimeoutError as TimeoutError
from .context import _default_context, _DeferredModule

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

    from ._pool import stats as _stats
else:
    _stats = _DeferredModule(f"{__package__}._pool.stats")
    Any = object  # what `typing.get_type_hints` finds

get_context = _default_context.get_context

__all__ = ["Pool", "ThreadPool"]

#: The numbers in the names of pools.
_numbers = itertools.count(1)
#: Tasks that a call queues itself; a thread adds the rest.
_AT_ONCE = 4096
#: Items of an `imap` that may at first be taken from a generator and unfinished, beyond one for
#: each worker.
_AHEAD = 4


class Pool:
    """A pool of worker processes that apply functions to arguments.

    If a worker dies, the task that it ran fails with `WorkerDied`. The worker is replaced, and all
    other tasks go on.

    Args:
        processes: number of workers; None: one for each processor that this process may use.
        initializer: called with `initargs` in each worker when it starts. If it raises in every
            worker, calls fail with `BrokenPool`.
        maxtasksperchild: number of tasks after which a worker is replaced; None: never.
        context: the context that starts the workers; None: the default context.
        task_timeout: seconds that a task may take (of a chunk: each item). After that the task's
            worker is stopped (SIGTERM, and SIGKILL a second later), the task fails with
            `TaskTimeout`, and the worker is replaced. None: no limit.
        retries: how many more times a task whose worker dies is done by another worker, before it
            fails with `WorkerDied`. The part of the task that was done when its worker died is then
            done twice.
        max_rss: bytes of memory; a worker that has more of its own (resident and not shared) after
            a task is replaced. None: no limit.
        worker_exit: called without arguments in each worker that ends normally, so not in one that
            is killed, or that runs a task when the pool is terminated. The worker is replaced when
            it has returned.
        seed: a number: before each item the global generators of `random` and numpy (if it is
            loaded) are seeded with it, the number of the call and the number of the item. The same
            calls of functions of a module then give the same results, whatever the workers. None:
            each worker has its own random numbers, no two alike. False: workers begin with the
            state of a new process; forked ones then share the state of numpy's global generator.
        threads_per_worker: how many threads OpenMP, OpenBLAS, MKL and similar libraries use in a
            worker. None: what they choose, mostly one for each processor, in each worker.
        name: the pool's name, which `current_worker` tells its tasks and `procession` commands
            show; None: a numbered one, and the commands show the line that made it.
    """

    #: Whether `_is_changed_inside` applies to this class.
    _can_be_changed = True
    #: Whether SystemExit and KeyboardInterrupt of a task are its outcome, as in an executor.
    _outlives_exits = False
    #: Whether tasks' exceptions carry their traceback in a pool with the subclass's queues.
    _wrap_exception = True
    _state = INIT

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Make, but not start, a worker's process."""
        return ctx.Process(*args, **kwds)

    @names_misspelt
    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        max_rss: int | None = None,
        worker_exit: Callable[[], object] | None = None,
        seed: int | None = None,
        threads_per_worker: int | None = None,
        name: str | None = None,
    ) -> None:
        self._pool: list[Any] = []
        self._state = INIT
        self._ctx = context or get_context()
        # By the class: a context may be any object, such as a mock that has every attribute.
        has_nodes = hasattr(type(self._ctx), "_pool_on_nodes") and not isinstance(self, ThreadPool)
        on_nodes = self._ctx._pool_on_nodes if has_nodes else None
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = initargs
        if processes is None:
            processes = _usable_cpus() if on_nodes is None else self._ctx.cpu_count()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._options = Options(
            task_timeout=task_timeout,
            retries=retries,
            max_rss=max_rss,
            worker_exit=worker_exit,
            seed=seed,
            threads_per_worker=threads_per_worker,
            name=name,
        )
        self._called = name or f"Pool-{next(_numbers)}"
        self._processes = processes
        self._pid = os.getpid()
        #: Results with callbacks still to be run, by their job's key.
        self._cache: dict[int, ApplyResult] = {}
        self._announcer: Thread | None = None
        make, ctx = self.Process, self._ctx
        start = lambda **kwds: make(ctx, **kwds)  # noqa: E731
        arguments = (initializer, initargs, maxtasksperchild)
        of_worker = {**self._options.of_worker(), "name": self._called}
        if self._outlives_exits:
            of_worker["outlives_exits"] = True
        if self._can_be_changed and _is_changed_inside(type(self)):
            if on_nodes is not None:
                raise NotImplementedError("a pool with queues of its own stays on one node")
            if self._options.have_effect:
                raise ValueError("a pool with queues of its own takes none of procession's options")
            self._core, self._pool_workers = self._make_queued(start, arguments)
        elif on_nodes is not None:
            self._core, self._pool_workers = on_nodes(processes, arguments, of_worker)
        else:
            self._core = self._new_core(name)
            self._pool_workers = self._new_workers(
                self._core, start, processes, arguments, of_worker
            )
        self._pool = self._pool_workers.workers
        try:
            self._repopulate_pool()
            self._pool_workers.watch()
            self._terminate = util.Finalize(self, self._pool_workers.stop, exitpriority=15)
            self._state = RUN
        except BaseException:
            self._state = TERMINATE
            self._pool_workers.abandon()
            raise

    @staticmethod
    def _new_core(name: str | None) -> Any:
        return PoolCore(name)

    @staticmethod
    def _new_workers(
        core: Any,
        start: Callable[..., Any],
        size: int,
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        return Workers(core, start, size, arguments, options)

    def _make_queued(self, start: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Return scheduler and workers of a pool with its tasks in `_inqueue` and `_outqueue`."""
        from ._pool import queued

        self._setup_queues()
        core = queued.QueuedCore()
        target = _worker()
        arguments = (self._inqueue, self._outqueue, *arguments, self._wrap_exception)
        quick = (self._quick_put, self._quick_get)
        workers = queued.QueuedWorkers(core, start, self._processes, target, arguments, quick)
        return core, workers

    @staticmethod
    def _repopulate_pool_static(
        ctx: Any, Process: Any, processes: int, pool: list[Any], *arguments: Any
    ) -> None:
        """Start workers up to the number `processes`, for subclasses that choose the arguments."""
        from ._pool.queued import start_workers

        start = lambda **kwds: Process(ctx, **kwds)  # noqa: E731
        start_workers(start, processes, pool, _worker(), arguments)

    def _setup_queues(self) -> None:
        """Make the queues for tasks and results.

        Called only where a subclass or the program has changed the pool's internals.
        """
        self._inqueue = self._ctx.SimpleQueue()
        self._outqueue = self._ctx.SimpleQueue()
        self._quick_put = self._inqueue.put
        self._quick_get = self._outqueue.get

    # The defaults are bound early: at interpreter shutdown this module's globals may be gone.
    def __del__(self, _warn: Any = warnings.warn, RUN: str = RUN) -> None:
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        cls = type(self)
        size = workers_now(self._pool)
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={size}>"

    @property
    def name(self) -> str:
        """The pool's name, or what a subclass has set."""
        return self.__dict__.get("name", self._called)  # type: ignore[no-any-return]

    @name.setter
    def name(self, value: str) -> None:
        self.__dict__["name"] = value

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _repopulate_pool(self) -> None:
        self._pool_workers.repopulate()

    @property
    def _taskqueue(self) -> TaskQueue:
        return TaskQueue(self)

    def _worker_count(self) -> int:
        """Return how many workers there are, or will be if none is known yet."""
        return workers_now(self._pool) or self._processes

    def _new_job(self, kind: type[IMapIterator]) -> Any:
        """Return a job of tasks that bring their functions."""
        by_time = issubclass(kind, IMapUnorderedIterator)
        job = self._core.job(perform, ITEM, by_time, *self._options.for_tasks)
        job.bound(self._worker_count(), _AHEAD)
        return job

    @staticmethod
    def _get_tasks(func: Any, iterable: Iterable[Any], size: int) -> Iterator[tuple[Any, Any]]:
        """Yield the arguments of `mapstar` and `starmapstar`: function and chunk of items."""
        iterator = iter(iterable)
        while chunk := tuple(itertools.islice(iterator, size)):
            yield func, chunk

    def _guarded_task_generation(
        self, job: Any, func: Any, iterable: Iterable[Any]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield a task for each item.

        If the iterable raises, the last task raises the same error.
        """
        for number, (function, item) in enumerate(calls(func, iterable)):
            yield job, number, function, (item,), {}

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")
        if self._pid != os.getpid():
            raise _foreign(self._pid)
        if self._pool_workers.broken is not None:
            raise self._pool_workers.broken()

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},  # noqa: B006
    ) -> Any:
        """Return `func(*args, **kwds)`, called in a worker."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},  # noqa: B006
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult:
        """Schedule `func(*args, **kwds)` to be called in a worker, and return its result object.

        When the call ends, `callback` is called with the value or `error_callback` with the
        exception.
        """
        # The core itself checks that the pool belongs to this process.
        if self._state != RUN or self._pool_workers.broken is not None:
            self._check_running()
        options = self._options
        if options.seeds is not None:
            func, args, kwds = options.seeds.function(func), ((0, tuple(args), dict(kwds)),), {}
        job = self._core.call(func, args, kwds, *options.for_tasks)
        result = ApplyResult(self, job, callback, error_callback)
        if callback or error_callback:
            self._announce_result(result, job)
        return result

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        progress: Any = False,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Return the list of `func(item)` for all items, in their order.

        `chunksize` is the number of items that make one task; None: chosen by the time that items
        take. `progress`: True for a bar on standard error if that is a terminal, "always" for one
        wherever standard error goes, or a callable that gets the number of items done and the
        number of all items (None if not known).

        `return_exceptions`: the list has an exception in the place of each item without a result,
        and none is raised but an error of the call itself (the function cannot be pickled, the
        iterable raises). Unless `chunksize` is given, each item is then a task of its own, so that
        a worker that dies costs one item; otherwise the items of its chunk.
        """
        return self._map_async(
            func,
            iterable,
            CHUNK,
            chunksize,
            progress=progress,
            return_exceptions=return_exceptions,
        ).get()

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        progress: Any = False,
        return_exceptions: bool = False,
    ) -> MapResult:
        """Do what `map` does, but return the result object at once.

        The callback gets the whole list.
        """
        return self._map_async(
            func,
            iterable,
            CHUNK,
            chunksize,
            callback,
            error_callback,
            progress,
            return_exceptions,
        )

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: Any = False,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Do what `map` does, but with items that each hold the arguments of one call."""
        return self._map_async(
            func,
            iterable,
            STARRED_CHUNK,
            chunksize,
            progress=progress,
            return_exceptions=return_exceptions,
        ).get()

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        progress: Any = False,
        return_exceptions: bool = False,
    ) -> MapResult:
        """Do what `starmap` does, but return the result object at once.

        The callback gets the whole list.
        """
        return self._map_async(
            func,
            iterable,
            STARRED_CHUNK,
            chunksize,
            callback,
            error_callback,
            progress,
            return_exceptions,
        )

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        progress: Any = False,
        return_exceptions: bool = False,
    ) -> Any:
        """Return an iterator over the results of `func(item)`, in the order of the items.

        Each result is returned as soon as it is ready.

        With `buffersize`, items are taken from `iterable` only as results are taken, and at most
        that many are under way, so `iterable` may be endless. None: a thread takes items as the
        workers progress, whether or not results are taken. At a time it takes no more than keeps
        the workers busy, and no more than some megabytes.

        `return_exceptions`: exceptions of items are returned in the place of results; see `map`.
        """
        refusal = "Chunksize must be 1+, not {0:n}"
        return self._imap(
            func,
            iterable,
            chunksize,
            buffersize,
            IMapIterator,
            refusal,
            progress,
            return_exceptions,
        )

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        progress: Any = False,
        return_exceptions: bool = False,
    ) -> Any:
        """Do what `imap` does, but with the results in the order in which they are done."""
        refusal = "Chunksize must be 1+, not {0!r}"
        return self._imap(
            func,
            iterable,
            chunksize,
            buffersize,
            IMapUnorderedIterator,
            refusal,
            progress,
            return_exceptions,
        )

    def _imap(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int,
        buffersize: int | None,
        kind: type[IMapIterator],
        refusal: str,
        progress: Any,
        return_exceptions: bool,
    ) -> Any:
        self._check_running()
        if chunksize < 1:
            raise ValueError(refusal.format(chunksize))
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or 1+")
        by_time = kind is IMapUnorderedIterator
        total = len(iterable) if hasattr(iterable, "__len__") else None
        if (seeds := self._options.seeds) is not None:
            func, iterable = seeds.function(func), Numbered(iterable)
        plain = chunksize == 1 and not return_exceptions
        mode = ITEM if plain else EACH_OF_CHUNK if return_exceptions else CHUNK
        job = self._core.job(func, mode, by_time, *self._options.for_tasks)
        result = kind(self, job)
        results = result if plain else ChunkedResults(result)
        if progress:
            results._progress = _progress(progress, total)
        size = 0 if plain else chunksize
        if buffersize is not None:
            if (iterator := iterator_of(iterable, job)) is not None:
                ahead = max(1, buffersize // chunksize)
                result._feed_ahead(lambda limit: job.feed(iterator, size, limit), ahead)
        else:
            # A list yields its items at once. A generator may take its time, and may need its own
            # results first.
            at_once = _AT_ONCE if type(iterable) in (list, tuple, range) else 0
            job.bound(self._worker_count(), at_once or _AHEAD)
            self._feed(iterable, job, lambda it, limit: job.feed(it, size, limit), at_once)
        return results

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mode: int,
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        progress: Any = False,
        return_exceptions: bool = False,
    ) -> MapResult:
        self._check_running()
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        length = len(iterable)  # type: ignore[arg-type]
        if length == 0:
            callback = error_callback = None
        if (seeds := self._options.seeds) is not None:
            func, iterable = seeds.function(func), Numbered(iterable, mode == STARRED_CHUNK)
            mode = CHUNK
        if return_exceptions:
            mode = EACH_OF_CHUNK if mode == CHUNK else EACH_OF_STARRED_CHUNK
            chunksize = chunksize or 1
        job = self._core.job(func, mode, False, *self._options.for_tasks)
        if return_exceptions:
            job.expect(length)
        result = MapResult(self, job, callback, error_callback)
        if result._event is not None:
            self._announce_result(result, job)
        if progress:
            result._show(_progress(progress, length))
        if chunksize is None:
            workers = self._worker_count()
            feed = lambda iterator, limit: job.feed_map(iterator, length, workers, limit)  # noqa: E731
        else:
            size = max(chunksize, 1)
            feed = lambda iterator, limit: job.feed(iterator, size, limit)  # noqa: E731
        job.bound(self._worker_count(), None)
        self._feed(iterable, job, feed, _AT_ONCE)
        return result

    def _feed(
        self, iterable: Iterable[Any], job: Any, feed: Callable[[Any, int], bool], at_once: int
    ) -> None:
        """Queue a job's tasks: `at_once` of them here, the rest in a thread."""
        iterator = iterator_of(iterable, job)
        if iterator is None:
            return
        if not at_once or feed(iterator, at_once):
            args = (iterator, job, feed, self._pool)
            Thread(feed_all, "PoolFeeder", args).start()

    def _announce_result(self, result: ApplyResult, job: Any) -> None:
        """Run the result's callbacks when its call has ended."""
        self._cache[job.key] = result
        job.announce()
        if self._announcer is None:
            args = (self._core, self._cache)
            self._announcer = Thread(_announce, "PoolCallbacks", args)
            self._announcer.start()

    def options(
        self,
        *,
        timeout: float | None = UNCHANGED,
        retries: int = UNCHANGED,
        priority: Priority = "normal",
        name: str | None = None,
    ) -> PoolCalls:
        """Return an object with the calls of this pool (`apply`, `map`, `imap` and their kin).

        They have these options in place of the pool's: `timeout` and `retries` as `task_timeout`
        and `retries` of the pool, unchanged if they are not given, `priority` ("high", "normal" or
        "low": a worker takes a task only if none of a higher priority is queued), and `name` of the
        function in errors (None: its own). They are those of `Pool`: methods that a subclass
        overrides are not called.
        """
        if not getattr(self._core, "takes_options", True):
            raise ValueError("a pool with queues of its own takes none of procession's options")
        return PoolCalls(self, self._options.changed(timeout, retries, priority, name))

    def resize(self, processes: int) -> None:
        """Change the number of workers. Surplus workers leave when their current task is done."""
        self._check_running()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        self._processes = processes
        self._pool_workers.resize(processes)

    def stats(self) -> _stats.PoolStats:
        """Return the figures of the pool."""
        from ._pool.stats import stats_of

        return stats_of(self._core, self._pool)

    def close(self) -> None:
        """Accept no more work; the workers end when all tasks are done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._pool_workers.close()

    def terminate(self) -> None:
        """End the workers at once. Calls under way fail with `ProcessError`."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Wait for the workers to end.

        Raises ValueError unless `close` or `terminate` was called before.
        """
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._pool_workers.join()
        if self._announcer is not None and self._announcer is not threading.current_thread():
            self._announcer.join()
        # Nothing is left to end. In a finalizer run by the garbage collector an interrupt would be
        # lost.
        self._terminate.cancel()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.terminate()


class PoolCalls:
    """The calls of a pool with options of their own; see `Pool.options`."""

    _called_pool: Any = None  # for an object with an interrupted `__init__`

    def __init__(self, pool: Any, options: Options) -> None:
        self._called_pool = pool
        self._options = options

    def __getattr__(self, name: str) -> Any:
        # All that the methods below use, but the options, is the pool's.
        if not name.startswith("_"):
            raise AttributeError(f"the calls of a pool have no attribute {name!r}")
        return getattr(self._called_pool, name)

    apply = Pool.apply
    apply_async = Pool.apply_async
    map = Pool.map
    map_async = Pool.map_async
    starmap = Pool.starmap
    starmap_async = Pool.starmap_async
    imap = Pool.imap
    imap_unordered = Pool.imap_unordered
    _map_async = Pool._map_async
    _imap = Pool._imap


#: The methods that a program overrides to make tasks reach workers in its own way. It may also replace the
#: function `worker`.
_INSIDE = {
    "_setup_queues": Pool._setup_queues,
    "_repopulate_pool": Pool._repopulate_pool,
}


def _is_changed_inside(cls: type[Pool]) -> bool:
    """Return whether a pool of this class uses the standard library's internals.

    See `_pool.queued`.
    """
    if any(getattr(cls, name) is not own for name, own in _INSIDE.items()):
        return True
    replaced = globals().get("worker")
    return replaced is not None and replaced.__module__ != f"{__package__}._pool.queued"


def _worker() -> Callable[..., object]:
    """Return the function that workers of a pool with the subclass's queues run.

    The program may have replaced it.
    """
    return globals().get("worker") or __getattr__("worker")


def __getattr__(name: str) -> Any:
    if name == "worker":
        from ._pool.queued import worker

        return worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _progress(wanted: Any, total: int | None) -> Any:
    from ._pool.progress import progress

    return progress(wanted, total)


def _usable_cpus() -> int:
    """Return how many workers can run at once.

    This is the number that the user gave the interpreter, else what affinity and control groups
    allow.
    """
    told = getattr(os, "process_cpu_count", lambda: None)()
    if told and told != len(os.sched_getaffinity(0)):
        return told
    return usable_cpus()


def _announce(core: Any, cache: dict[int, ApplyResult]) -> None:
    """Run the callbacks of completed calls until the pool has ended."""
    while (key := core.next_completed()) is not None:
        result = cache.pop(key, None)
        if result is not None:
            result._deliver()
        result = None
    # The pool was terminated: no more callbacks run, but waiters are woken.
    while cache:
        cache.popitem()[1]._tell()


class ThreadPool(Pool):
    """A pool of threads of this process.

    Arguments and results are not pickled, and no task can be stopped.
    """

    _can_be_changed = False

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Make, but not start, a worker's thread."""
        from .dummy import Process

        return Process(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        super().__init__(processes, initializer, initargs)

    @staticmethod
    def _new_core(name: str | None) -> Any:
        from ._pool.thread_core import ThreadCore

        return ThreadCore()

    @staticmethod
    def _new_workers(
        core: Any,
        start: Callable[..., Any],
        size: int,
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        from ._pool.thread_core import ThreadWorkers

        return ThreadWorkers(core, start, size, arguments, options)

    def options(
        self,
        *,
        timeout: float | None = UNCHANGED,
        retries: int = UNCHANGED,
        priority: Priority = "normal",
        name: str | None = None,
    ) -> PoolCalls:
        """Raise NotImplementedError: no thread can be stopped or tried again."""
        raise NotImplementedError("the calls of a pool of threads have no options")

    def resize(self, processes: int) -> None:
        """Raise NotImplementedError: a pool of threads keeps its size."""
        raise NotImplementedError("a pool of threads keeps its size")

    def stats(self) -> _stats.PoolStats:
        """Raise NotImplementedError: a pool of threads keeps no figures."""
        raise NotImplementedError("a pool of threads keeps no figures")

    def _feed(
        self, iterable: Iterable[Any], job: Any, feed: Callable[[Any, int], bool], at_once: int
    ) -> None:
        # Always from a thread: `terminate` right after a call must find the tasks not yet begun,
        # since it could not stop them.
        iterator = iterator_of(iterable, job)
        if iterator is None:
            return
        workers = self._pool
        self._core.feed_later(lambda: feed_all(iterator, job, feed, workers))
