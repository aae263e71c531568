"""The calls of an executor: `submit` and `map`, and both with options of their own."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, ParamSpec, TypeVar, overload

from .._pool.randomness import numbered
from .._pool.worker import (
    CHUNK,
    EACH_OF_CHUNK,
    EACH_OF_STARRED_CHUNK,
    ITEM,
    STARRED_CHUNK,
)
from .engine import Engine
from .futures import Future
from .map import Results, Work, flattened, noting, recognised, reported, values

__all__: list[str] = []

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: Number of items of a `map` queued before other threads get a turn.
_FEED = 64


class Calls:
    """The calls of an executor."""

    #: Time limit, retries, priority and name of these calls, if they are not the executor's.
    _own: tuple[float | None, int, int, str | None] | None = None

    def _start(self) -> Engine:
        """Return the engine; its workers start with the first call."""
        raise NotImplementedError

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Schedule `fn(*args, **kwargs)` to be called in a worker and return the call's future.

        Raises:
            RuntimeError: the executor was shut down, or belongs to another process.
            procession.BrokenPool: its workers cannot start.
        """
        engine = self._start()
        if (seeds := engine.pool._options.seeds) is not None:
            fn, args, kwargs = seeds.function(fn), ((0, args, kwargs),), {}  # type: ignore[assignment]
        future: Future[_T] = Future()
        future._stream = engine.stream
        number = engine.stream.submit(future, fn, args, kwargs, self._own)
        if number is None:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future._number = number
        if engine.started < engine.most:
            engine.grow(engine.unfinished())
        return future

    @overload
    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Any = False,
        return_exceptions: Literal[False] = False,
    ) -> Results[_T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Any = False,
        return_exceptions: bool,
    ) -> Results[_T | BaseException]: ...
    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Any = False,
        return_exceptions: bool = False,
    ) -> Results[Any]:
        """Return an iterator over `fn` applied to the items of all iterables, in their order.

        An asynchronous program may use `async for`.

        Args:
            timeout: seconds from now within which all results must be ready.
            chunksize: number of items that make one task.
            buffersize: number of tasks that may be under way or waiting to be taken; None: all
                items are taken at once.
            progress: True for a bar on standard error if that is a terminal, "always" for one
                wherever standard error goes, or a callable that gets the number of items with
                results that were taken and the number of all items (None if not known).
            return_exceptions: return the exceptions of items in the place of results. Only an error
                of the call itself is raised. If a worker dies, the items of its chunk have errors.

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
        plain = single and chunksize == 1 and not return_exceptions
        if return_exceptions:
            mode = EACH_OF_CHUNK if single else EACH_OF_STARRED_CHUNK
        else:
            mode = ITEM if plain else CHUNK if single else STARRED_CHUNK
        own = self._own or engine.pool._options.for_tasks
        job = engine.pool._core.job(fn, mode, False, *own)
        size = 0 if plain else chunksize
        work = Work(job)
        engine.maps.add(work)
        if buffersize is None:
            job.bound(engine.most, None)
        while job.feed(source, size, buffersize or _FEED):
            engine.grow_to(max(job.progress()[0], engine.unfinished()))
            if buffersize is not None:
                break
            if job.is_full():
                # All items are taken now, but only as many are sent as keep the workers busy.
                work.feed_later(list(source), size, engine)
                break
        engine.grow_to(max(job.progress()[0], engine.unfinished()))
        if errors:
            raise errors.pop()
        # It keeps the executor, which accepts tasks as long as results are taken.
        refill = None if buffersize is None else lambda: self._refill(engine, job, source, size)
        results = values(work, refill, end)
        if not plain:
            results = flattened(results)
        if return_exceptions:
            results = recognised(results)
        return Results(reported(results, progress, iterables) if progress else results)

    def _refill(self, engine: Engine, job: Any, source: Iterator[Any], size: int) -> None:
        """Queue one more task, in place of a task after its results were taken."""
        more = job.feed(source, size, 1)
        if engine.started < engine.most:
            engine.grow_to(engine.unfinished())  # idle workers may have left
        if not more and engine.closed and next(source, source) is not source:
            raise RuntimeError("cannot schedule new futures after shutdown")


# Python's own errors for wrong arguments name the method by this.
for _method in (Calls.submit, Calls.map):
    _method.__qualname__ = f"ProcessPoolExecutor.{_method.__name__}"


class LimitedCalls(Calls, concurrent.futures.Executor):
    """The calls of an executor with options of their own; see `ProcessPoolExecutor.options`.

    Event loops take it as an executor. Its `shutdown` does nothing: that is the executor's.
    """

    def __init__(self, executor: Calls, own: tuple[float | None, int, int, str | None]) -> None:
        self._executor = executor
        self._own = own

    def _start(self) -> Engine:
        return self._executor._start()
