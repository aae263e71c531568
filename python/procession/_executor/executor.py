"""`ProcessPoolExecutor`: the pool in the shape of `concurrent.futures`.

The pool runs the workers and tasks. `engine` has the thread that completes futures as results
arrive, and `calls` what a call means.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Literal

from .. import pool as _pool_face
from .. import util
from .._errors import names_misspelt
from .._pool.options import UNCHANGED, Options, Priority
from .._pool.stats import PoolStats
from .._threads import RLock
from ..context import BaseContext, _default_context
from .calls import Calls, LimitedCalls
from .engine import Engine, is_exiting
from .errors import BrokenPool, TaskCancelled, WorkerDied, recognisable
from .futures import Future

__all__ = ["BrokenPool", "Future", "ProcessPoolExecutor", "TaskCancelled", "WorkerDied"]

#: Typed as Any for its private names: the stub shows only the public ones.
_pools: Any = _pool_face


class ProcessPoolExecutor(Calls, concurrent.futures.Executor):
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
        task_timeout, retries, max_rss, worker_exit, seed, threads_per_worker, name: see
            `procession.pool.Pool`.
        idle_timeout: seconds after which an idle worker leaves; it takes up to twice as long until
            that is noticed. Workers start again as they are needed. None: workers stay.
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
        retries: int = 0,
        max_rss: int | None = None,
        worker_exit: Callable[[], object] | None = None,
        seed: int | Literal[False] | None = None,
        threads_per_worker: int | None = None,
        name: str | None = None,
        idle_timeout: float | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "task_timeout": task_timeout,
            "retries": retries,
            "max_rss": max_rss,
            "worker_exit": worker_exit,
            "seed": seed,
            "threads_per_worker": threads_per_worker,
            "name": name,
        }
        self._checked = Options(**self._options)  # raises for wrong values
        if idle_timeout is not None and not idle_timeout > 0:
            raise ValueError("idle_timeout must be a positive number of seconds or None")
        self._idle_timeout = idle_timeout
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        self._mp_context = _context(mp_context, "spawn" if max_tasks_per_child else None)
        self._on_nodes = getattr(self._mp_context, "_name", None) == "ray"
        if self._on_nodes and idle_timeout is not None:
            raise NotImplementedError("the workers on several nodes stay: give no idle_timeout")
        usable = self._mp_context.cpu_count if self._on_nodes else _pools._usable_cpus
        self._max_workers = max_workers or usable()
        self._arguments = (initializer, initargs, max_tasks_per_child)
        self._engine: Engine | None = None
        self._lock = util.free_in_child(RLock())
        self._closed = False

    def _start(self) -> Engine:
        """Return the engine; its workers start with the first call."""
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if is_exiting():
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._engine is None:
                # Spawned interpreters start as they are needed, forks at once, before there are
                # threads, and those on several nodes at once, too.
                forks = self._mp_context.get_start_method() == "fork"
                size = self._max_workers if forks or self._on_nodes else 1
                pool = Engine.pool_of(size, *self._arguments, self._mp_context, **self._options)
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
            self._engine = engine = Engine(pool, self._max_workers, self._idle_timeout)
        except BaseException:
            pool.terminate()  # no thread could be started
            raise
        # An executor dropped without a shutdown finishes the calls that it was given.
        self._dropped = weakref.ref(self, engine.close)

    def options(
        self,
        *,
        timeout: float | None = UNCHANGED,
        retries: int = UNCHANGED,
        priority: Priority = "normal",
        name: str | None = None,
    ) -> LimitedCalls:
        """Return an object with the calls of this executor, `submit` and `map`, for other options.

        Args:
            timeout, retries: as `task_timeout` and `retries` of the executor; unchanged if they are
                not given.
            priority: "high", "normal" or "low". A worker takes a call only if none of a higher
                priority is queued.
            name: the name of the function in errors; None: its own.
        """
        return LimitedCalls(self, self._checked.of_calls(timeout, retries, priority, name))

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
        try:
            if cancel_futures:
                engine.cancel_pending()
        finally:
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
                self._engine.resize(max_workers)

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
        try:
            self.shutdown(wait=False, cancel_futures=True)
        finally:
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
