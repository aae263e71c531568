"""The backend "procession" for joblib, and so for scikit-learn and others that build on joblib.

`register` makes the name known; then `joblib.parallel_config("procession")` chooses it. Needs
joblib 1.5 or newer.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy
from joblib import cpu_count, register_parallel_backend
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from .. import util
from .._executor.executor import ProcessPoolExecutor
from .._procession import SharedBytes
from .._threads import RLock
from ..context import _default_context
from ..process import current_process

__all__ = ["ProcessionBackend", "register"]


def register(make_default: bool = False) -> None:
    """Make the backend "procession" known to joblib, in this process.

    With `make_default`, joblib uses it wherever a program names no backend.
    """
    register_parallel_backend("procession", ProcessionBackend, make_default=make_default)


class ProcessionBackend(AutoBatchingMixin, ParallelBackendBase):
    """Runs the calls of `joblib.Parallel` in an executor, whose workers stay for later calls.

    An array of `max_nbytes` and more that is an argument of a call goes into shared memory once in
    a `Parallel` call; all calls with this array see the same memory, read-only unless `mmap_mode`
    is "r+" or "w+". With `mmap_mode` None or "c", each call has its own copy.

    Args:
        start_method: how workers start. "forkserver" and "spawn" import the main module again, which
            must guard what it runs by ``if __name__ == "__main__":``; "fork" does not, and is safe
            as long as this process uses no threads, those of OpenMP included.
        inner_max_num_threads: number of threads that numerical libraries start in a worker; None:
            the workers share the processors.
        options: those of `procession.ProcessPoolExecutor`, such as `retries`, `task_timeout`.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        start_method: str = "forkserver",
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._context = _default_context.get_context(start_method)
        self._options = options
        self._workers: _Workers | None = None
        self._arrays = _Arrays()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return the number of workers for this `n_jobs`; -1 means one for each processor."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs == 1 or current_process().daemon:
            return 1  # a worker has no workers of its own
        above = None
        if multiprocessing.current_process().daemon:
            above = "in a daemonic process"
        elif self.nesting_level != 0 and not self.in_main_thread():
            above = "below threads"
        if above is not None:
            text = f"procession-backed parallel loops cannot be nested {above}, setting n_jobs=1"
            warnings.warn(text, stacklevel=3)
            return 1
        return max(cpu_count() + 1 + n_jobs, 1) if n_jobs < 0 else n_jobs

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        max_nbytes: int | None = None,
        mmap_mode: str | None = "r",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **_of_other_backends: Any,
    ) -> int:
        """Take the workers for a call and return their number.

        Workers with an initializer stay for calls with the same one and equal `initargs`.
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._arrays = _Arrays(None if mmap_mode in (None, "c") else max_nbytes, mmap_mode != "r")
        threads = self.inner_max_num_threads or max(cpu_count() // n_jobs, 1)
        options = {"threads_per_worker": threads, **self._options}
        if initializer is not None:
            options.update(initializer=initializer, initargs=initargs)
        self._workers = _take(n_jobs, self._context, options)
        return n_jobs

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> Any:
        """Schedule a batch of calls and return its future."""
        assert self._workers is not None  # joblib submits between `configure` and `terminate`
        func.items = [
            (
                function,
                tuple(map(self._arrays.lend, args)),
                {name: self._arrays.lend(value) for name, value in kwargs.items()},
            )
            for function, args, kwargs in func.items
        ]
        future = self._workers.executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return the results of a batch, or raise its error."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop what runs. Workers that another call uses as well go on."""
        workers, self._workers = self._workers, None
        if workers is not None:
            _give_back(workers, kill=True)
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel, **self.parallel._backend_kwargs)

    def terminate(self) -> None:
        """End the call. Its workers stay for the next one."""
        workers, self._workers = self._workers, None
        if workers is not None:
            _give_back(workers)
        self._arrays = _Arrays()
        self.reset_batch_stats()


class _Workers:
    """An executor and the number of calls that use it."""

    def __init__(self, key: Any, executor: ProcessPoolExecutor) -> None:
        self.key = key
        self.executor = executor
        self.users = 0


#: The workers that stay. A forked child makes its own.
_kept: _Workers | None = None
_lock = util.free_in_child(RLock())


def _in_child() -> None:
    global _kept
    _kept = None


os.register_at_fork(after_in_child=_in_child)


def _take(n_jobs: int, context: Any, options: dict[str, Any]) -> _Workers:
    """Return the workers that stay if they are of this kind; otherwise new ones in their place."""
    global _kept
    key = (context.get_start_method(), n_jobs, sorted(options.items(), key=lambda item: item[0]))
    with _lock:
        if _kept is None or _kept.key != key or _kept.executor._broken:
            old, _kept = _kept, _Workers(key, ProcessPoolExecutor(n_jobs, context, **options))
            if old is not None and not old.users:
                old.executor.shutdown(wait=False)
        _kept.users += 1
        return _kept


def _give_back(workers: _Workers, kill: bool = False) -> None:
    """End a call's use of the workers. With `kill`, they end at once if no other call uses them."""
    global _kept
    with _lock:
        workers.users -= 1
        if workers.users or not (kill or workers is not _kept):
            return
        if workers is _kept:
            _kept = None
    if kill:
        workers.executor.kill_workers()
    else:
        workers.executor.shutdown(wait=False)


class _Arrays:
    """The arrays of a call that are in shared memory, as long as the originals live."""

    def __init__(self, least: int | None = None, writable: bool = False) -> None:
        self._least = least
        self._writable = writable
        self._lent: dict[int, tuple[weakref.ref[Any], _Lent]] = {}

    def lend(self, value: Any) -> Any:
        """Return what to send instead of a large array; any other value itself."""
        if self._least is None or not isinstance(value, numpy.ndarray):
            return value
        if type(value) not in (numpy.ndarray, numpy.memmap) or value.dtype.hasobject:
            return value
        if value.nbytes < max(self._least, 1):
            return value
        key = id(value)
        known = self._lent.get(key)
        if known is not None and known[0]() is value:
            return known[1]
        lent = _Lent(value, self._writable)
        # The memory goes with the original: a generator may yield more arrays than fit at once.
        self._lent[key] = weakref.ref(value, lambda _: self._lent.pop(key, None)), lent
        return lent


class _Lent:
    """An array in shared memory. Its pickle becomes an array over the same memory."""

    def __init__(self, array: Any, writable: bool) -> None:
        memory = SharedBytes(array.nbytes)
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        self._parts = (memory, array.dtype, array.shape, order, writable)
        numpy.copyto(_view(memory, array.dtype, array.shape, order, True), array)

    def __reduce__(self) -> Any:
        return _view, self._parts


def _view(memory: Any, dtype: Any, shape: Any, order: Any, writable: bool) -> Any:
    array = numpy.ndarray(shape, dtype, memory, order=order)
    array.flags.writeable = writable
    return array
