"""What `ProcessPoolExecutor.map` returns."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

from .._pool.feed import feed_all
from .._pool.results import Asynchronous
from .._threads import Thread
from .errors import recognisable

__all__: list[str] = []

_T = TypeVar("_T")


class Results(Asynchronous, Generator[_T, None, None]):
    """The results of a `map`: a generator, as in the standard library, for event loops too."""

    def __init__(self, results: Generator[_T, None, None]) -> None:
        self._results = results

    def __iter__(self) -> Generator[_T, None, None]:
        return self._results  # saves a Python call for each result

    def send(self, value: None) -> _T:
        return self._results.send(value)

    def throw(self, *error: Any) -> _T:
        return self._results.throw(*error)

    def close(self) -> None:
        """Drop the remaining results."""
        self._results.close()


class Work:
    """The tasks of a `map`.

    They are apart from the iterator, so that a shutdown finds them without keeping it alive.
    """

    def __init__(self, job: Any) -> None:
        self.job = job
        self._feeder: Thread | None = None

    def feed_later(self, items: list[Any], size: int, engine: Any) -> None:
        """Let a thread queue the rest of the items."""
        job = self.job

        def feed(iterator: Iterator[Any], limit: int) -> bool:
            more = job.feed(iterator, size, limit)
            engine.keep_up()  # idle workers may have left
            return more

        args = (iter(items), job, feed, range(engine.most))
        feeder = Thread(feed_all, "ExecutorFeeder", args)
        feeder.start()
        self._feeder = feeder

    def end(self) -> None:
        """Take no more items. Those already taken are done."""
        if self._feeder is None:
            self.job.seal()


def noting(items: Iterator[_T], errors: list[Exception]) -> Iterator[_T]:
    """Yield the items, and note what their iterator raises: `map` raises it itself."""
    try:
        yield from items
    except Exception as error:
        errors.append(error)
        raise


def values(
    work: Work, refill: Callable[[], None] | None, end: float | None
) -> Generator[Any, None, None]:
    """Yield the value of each task as it is asked for, until the time `end`."""
    # No variable keeps a value after the caller has received it.
    try:
        while True:
            if refill is not None:
                refill()
            try:
                yield _value(work.job, end)
            except _Over:
                return
    finally:
        work.job.seal()
        work.job.cancel_pending()


class _Over(Exception):
    """There are no more results. No task raises this."""


def _value(job: Any, end: float | None) -> Any:
    try:
        result = job.next(None if end is None else max(0.0, end - time.monotonic()))
    except StopIteration:
        raise _Over from None
    if result is None:
        raise concurrent.futures.TimeoutError
    success, value = result
    if success:
        return value
    try:
        raise recognisable(value)
    finally:
        del result, value


def reported(
    results: Generator[Any, None, None], wanted: Any, iterables: tuple[Iterable[Any], ...]
) -> Generator[Any, None, None]:
    from .._pool.progress import progress

    known = iterables and all(hasattr(items, "__len__") for items in iterables)
    total = min(len(items) for items in iterables) if known else None  # type: ignore[arg-type]
    bar = progress(wanted, total)
    if bar is None:
        return results

    def reporting() -> Generator[Any, None, None]:
        done = 0
        try:
            for result in results:
                done += 1
                bar.report(done)
                yield result
        finally:
            bar.finish(done)

    return reporting()


def flattened(results: Generator[list[Any], None, None]) -> Generator[Any, None, None]:
    for chunk in results:
        chunk.reverse()
        while chunk:
            yield chunk.pop()


def recognised(results: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """Yield the results, with errors of the pool as users of `concurrent.futures` know them."""
    yield from map(_recognised, results)  # no variable keeps a result


def _recognised(result: Any) -> Any:
    return recognisable(result) if isinstance(result, BaseException) else result
