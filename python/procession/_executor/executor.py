"""`ProcessPoolExecutor`: the pool in the shape of `concurrent.futures`.

The pool runs the workers and tasks. This module has the futures, which one thread completes as
results arrive.
"""

from __future__ import annotations

import concurrent.futures
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import InvalidStateError
from typing import Any, Literal, ParamSpec, TypeVar

from .. import pool as _pool_face
from .. import util
from .._errors import names_misspelt
from .._pool.options import Options
from .._pool.randomness import numbered
from .._pool.stats import PoolStats
from .._pool.worker import CHUNK, ITEM, STARRED_CHUNK
from .._procession import PoolStream
from .._threads import Condition, Thread
from ..context import BaseContext, _default_context
from .errors import BrokenPool, TaskCancelled, WorkerDied, recognisable, terminated
from .map import Results, Work, flattened, noting, reported, values

__all__ = ["BrokenPool", "Future", "ProcessPoolExecutor", "TaskCancelled", "WorkerDied"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: Typed as Any for its private names: the stub shows only the public ones.
_pools: Any = _pool_face
#: Number of results that the collecting thread takes at a time.
_BATCH = 256
#: Number of items of a `map` queued before other threads get a turn.
_FEED = 64


class Future(concurrent.futures.Future):
    """The result of a call that was given to an executor."""

    #: Stops the call, while it has not ended.
    _stream: PoolStream | None = None
    _number = 0

    def __init__(self) -> None:
        super().__init__()
        # Its wait may be interrupted; its lock is still held then.
        self._condition.__class__ = Condition

    def cancel(self) -> bool:
        """Cancel the call, also if it is running: its worker is then stopped and replaced.

        Return whether the call is cancelled; False if it had already ended.
        """
        stream = self._stream
        if stream is not None and stream.cancel(self._number):
            self._be_cancelled()
        return self.cancelled()

    def _be_cancelled(self) -> None:
        super().cancel()
        self.set_running_or_notify_cancel()

    def running(self) -> bool:
        """Return whether a worker is running the call."""
        stream = self._stream
        return not self.done() and stream is not None and stream.is_running(self._number)


class _Pool(_pools.Pool):
    """A pool of the engine, even if a program has changed the pool's module."""

    _can_be_changed = False


class _Engine:
    """What outlives a dropped executor: its pool, the calls under way and the collecting thread."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.stream = PoolStream(pool._core, *pool._options.for_tasks)
        #: Maps with results that may still be taken.
        self.maps: weakref.WeakSet[Work] = weakref.WeakSet()
        self._stopping = False
        self.thread = Thread(self._collect, "ExecutorResults")
        self.thread.start()
        _engines.add(self)

    def _collect(self) -> None:
        while results := self.stream.take(_BATCH):
            while results:
                _complete(*results.pop())
        if self._stopping:
            self.pool.terminate()
        else:
            self.pool.close()
        self.pool.join()
        _engines.discard(self)

    def close(self, _executor: object = None) -> None:
        """Accept no more calls; those under way run to their end."""
        if self.pool._pid == os.getpid():
            self.stream.close()
            for work in util.living(self.maps):
                work.end()
            self.pool.close()

    def cancel_pending(self) -> None:
        """Cancel the calls that no worker has begun."""
        for future in self.stream.cancel_pending():
            future._be_cancelled()
        for work in util.living(self.maps):
            work.job.cancel_pending()

    def stop(self, signal_worker: Callable[[Any], None]) -> None:
        """End the workers at once."""
        if self.pool._pid != os.getpid():
            return
        self._stopping = True
        self.stream.close()
        self.pool._core.terminate(terminated)
        for process in list(self.pool._pool):
            if process.exitcode is None:
                signal_worker(process)


#: The engines at work. The interpreter waits for them before it ends.
_engines: set[_Engine] = set()
_exiting = False


def _at_exit() -> None:
    global _exiting
    _exiting = True
    engines = list(_engines)
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    for engine in engines:
        if interrupted:
            engine.stop(lambda process: process.terminate())
        else:
            engine.close()
    for engine in engines:
        engine.thread.join()


# Run before the interpreter joins its threads; functions given to `atexit` run after that.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
# A forked child has neither the threads nor the workers.
os.register_at_fork(after_in_child=_engines.clear)


def _complete(future: Future, success: bool, value: Any) -> None:
    future._stream = None
    try:
        if success:
            future.set_result(value)
        else:
            future.set_exception(recognisable(value))
    except InvalidStateError:
        pass  # cancelled
    except BaseException as error:
        # Raised by a callback of this future; the other futures still complete.
        args = (type(error), error, error.__traceback__, threading.current_thread())
        threading.excepthook(threading.ExceptHookArgs(args))


class ProcessPoolExecutor(concurrent.futures.Executor):
    """An executor that runs calls in worker processes.

    If a worker dies, the call that it ran fails with `WorkerDied`, which is a `BrokenProcessPool`.
    The worker is replaced, and all other calls go on.

    Args:
        max_workers: number of workers; None: one for each processor that this process may use.
        mp_context: the context that starts the workers; None: the default context, or with
            `max_tasks_per_child` that of spawn.
        initializer: called with `initargs` in each worker when it starts. If it raises in every
            worker, calls fail with `BrokenPool`.
        max_tasks_per_child: number of calls after which a worker is replaced; None: never.
        task_timeout, on_death, retries, max_rss, worker_exit, seed, threads_per_worker: see
            `procession.pool.Pool`.
    """

    @names_misspelt
    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        task_timeout: float | None = None,
        on_death: Literal["raise", "retry"] = "raise",
        retries: int = 2,
        max_rss: int | None = None,
        worker_exit: Callable[[], object] | None = None,
        seed: int | Literal[False] | None = None,
        threads_per_worker: int | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "task_timeout": task_timeout,
            "on_death": on_death,
            "retries": retries,
            "max_rss": max_rss,
            "worker_exit": worker_exit,
            "seed": seed,
            "threads_per_worker": threads_per_worker,
        }
        Options(**self._options)  # raises for wrong values
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        self._max_workers = max_workers or _pools._usable_cpus()
        self._mp_context = _context(mp_context, "spawn" if max_tasks_per_child else None)
        self._arguments = (initializer, initargs, max_tasks_per_child)
        self._engine: _Engine | None = None
        self._lock = util.free_in_child(threading.RLock())
        self._closed = False

    def _start(self) -> _Engine:
        """Return the engine; its workers start with the first call."""
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if _exiting:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._engine is None:
                # Spawned interpreters start as they are needed, forks at once, before there are
                # threads.
                forks = self._mp_context.get_start_method() == "fork"
                self._started = self._max_workers if forks else 1
                pool = _Pool(self._started, *self._arguments, self._mp_context, **self._options)
                # A signal handler or finalizer in this thread may have made an engine meanwhile, or
                # shut the executor down.
                if self._engine is not None or self._closed:
                    pool.terminate()
                else:
                    self._adopt(pool)
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            engine: Any = self._engine
        pool = engine.pool
        if pool._pid != os.getpid():
            raise RuntimeError(
                f"this executor belongs to process {pool._pid}: a child of it cannot use it, but can make its own"
            )
        if pool._pool_workers.broken is not None:
            raise recognisable(pool._pool_workers.broken())
        return engine

    def _adopt(self, pool: Any) -> None:
        """Make the engine from this pool; terminate the pool if that fails."""
        try:
            self._engine = engine = _Engine(pool)
        except BaseException:
            pool.terminate()  # no thread could be started
            raise
        # An executor dropped without a shutdown finishes the calls that it was given.
        self._dropped = weakref.ref(self, engine.close)

    def submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> concurrent.futures.Future[_T]:
        """Schedule `fn(*args, **kwargs)` to be called in a worker and return the call's future.

        Raises:
            RuntimeError: the executor was shut down, or belongs to another process.
            BrokenPool: its workers cannot start.
        """
        engine = self._start()
        if (seeds := engine.pool._options.seeds) is not None:
            fn, args, kwargs = seeds.function(fn), ((0, args, kwargs),), {}  # type: ignore[assignment]
        future = Future()
        future._stream = engine.stream
        number = engine.stream.submit(future, fn, args, kwargs)
        if number is None:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future._number = number
        if self._started < self._max_workers:
            self._grow(engine.stream.pending())
        return future

    def _grow(self, wanted: int) -> None:
        """Start one more worker if there is work for it."""
        with self._lock:
            if self._started < min(wanted, self._max_workers) and not self._closed:
                self._started += 1
                self._engine.pool.resize(self._started)  # type: ignore[union-attr]

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Any = False,
    ) -> Results[_T]:
        """Return an iterator over `fn` applied to the items of all iterables, in their order.

        An asynchronous program may use `async for`.

        Args:
            timeout: seconds from now within which all results must be ready.
            chunksize: number of items that make one task.
            buffersize: number of tasks that may be under way or waiting to be taken; None: all
                items are taken at once.
            progress: True for a bar on the terminal, or a callable that gets the number of items
                with results that were taken and the number of all items; see
                `procession._pool.progress.progress`.

        Raises:
            TimeoutError: from the iterator: a result was not ready in time.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else time.monotonic() + timeout
        engine = self._start()
        single = len(iterables) == 1
        items = iter(iterables[0]) if single else zip(*iterables)  # noqa: B905
        errors: list[Exception] = []
        if (seeds := engine.pool._options.seeds) is not None:
            fn, items = seeds.function(fn), numbered(items, not single)
            single = True
        source = noting(items, errors)
        plain = single and chunksize == 1
        mode = ITEM if plain else CHUNK if single else STARRED_CHUNK
        job = engine.pool._core.job(fn, mode, False, *engine.pool._options.for_tasks)
        size = 0 if plain else chunksize
        work = Work(job)
        engine.maps.add(work)
        if buffersize is None:
            job.bound(self._max_workers, None)
        while job.feed(source, size, buffersize or _FEED):
            while self._started < min(job.progress()[0], self._max_workers):
                self._grow(self._max_workers)
            if buffersize is not None:
                break
            if job.is_full():
                # All items are taken now, but only as many are sent as keep the workers busy.
                work.feed_later(list(source), size, self._max_workers)
                break
        if errors:
            raise errors.pop()
        refill = None if buffersize is None else lambda: self._refill(job, source, size)
        results = values(work, refill, end)
        if not plain:
            results = flattened(results)
        return Results(reported(results, progress, iterables) if progress else results)

    def _refill(self, job: Any, source: Iterator[Any], size: int) -> None:
        """Queue one more task, in place of a task after its results were taken."""
        if not job.feed(source, size, 1) and self._closed and next(source, source) is not source:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls.

        Args:
            wait: return only when all calls and the workers have ended. A signal handler or finalizer
                that interrupts the start of a worker does not wait.
            cancel_futures: cancel the calls that no worker has begun.
        """
        with self._lock:
            self._closed = True
            engine = self._engine
        if engine is None:
            return
        if cancel_futures:
            engine.cancel_pending()
        engine.close()
        # A signal handler or finalizer in the middle of starting a worker cannot wait for the
        # engine, which waits for that start.
        at_work = engine.pool._pool_workers.is_at_work()
        if wait and engine.thread is not threading.current_thread() and not at_work:
            engine.thread.join()

    def resize(self, max_workers: int) -> None:
        """Change the number of workers. Surplus workers leave when their current task is done."""
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        with self._lock:
            self._max_workers = max_workers
            if self._engine is not None:
                self._started = max_workers
                self._engine.pool.resize(max_workers)

    def stats(self) -> PoolStats:
        """Return the figures of the executor."""
        return self._start().pool.stats()

    def terminate_workers(self) -> None:
        """Shut down and end the workers at once, by SIGTERM.

        Running calls fail with `BrokenPool`, waiting ones are cancelled.
        """
        self._stop(lambda process: process.terminate())

    def kill_workers(self) -> None:
        """Shut down and end the workers at once, by SIGKILL; otherwise as `terminate_workers`."""
        self._stop(lambda process: process.kill())

    def _stop(self, signal_worker: Callable[[Any], None]) -> None:
        self.shutdown(wait=False, cancel_futures=True)
        if self._engine is not None:
            self._engine.stop(signal_worker)

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        if exc_type is KeyboardInterrupt:
            self.terminate_workers()
        self.shutdown(wait=True)

    # Attributes for programs that look inside the standard library's executor.

    @property
    def _processes(self) -> dict[int, Any] | None:
        if self._closed:
            return None
        return {process.pid: process for process in self._engine.pool._pool} if self._engine else {}

    @property
    def _broken(self) -> bool:
        return self._engine is not None and self._engine.pool._pool_workers.broken is not None


def _context(context: Any, method: str | None) -> BaseContext:
    if context is None:
        return _default_context.get_context(method)
    if isinstance(context, BaseContext):
        return context
    return _default_context.get_context(context.get_start_method())  # the standard library's
