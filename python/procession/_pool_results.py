"""What a pool's asynchronous calls return."""

from __future__ import annotations

import threading
import time
import types
from collections import deque

from ._errors import TimeoutError
from ._threads import Event

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from ._progress import Progress

__all__: list[str] = []


class ApplyResult:
    """The result of `Pool.apply_async`: there at once, its value later."""

    # What most results never need is not made for each.
    _callback: Callable[[Any], object] | None = None
    _error_callback: Callable[[BaseException], object] | None = None
    #: Only when somebody is to be called before anybody hears of the value.
    _event: Event | None = None
    #: What is told how far it is while somebody waits.
    _progress: Progress | None = None

    def __init__(
        self,
        pool: Any,
        job: Any,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        # The pool lives as long as somebody waits for its results.
        self._pool = pool
        self._job = job
        if callback or error_callback:
            self._callback = callback
            self._error_callback = error_callback
            self._lock = threading.Lock()
            self._announce()

    def _announce(self) -> None:
        #: To be called when it has ended; None: it has, and they were.
        self._waiters: list[Callable[[], object]] | None = []
        self._event = Event()

    def _resolve(self, timeout: float | None = None) -> bool:
        """Wait for the value of the job. False: timed out."""
        job = self._job
        if job is not None:
            # The same for every thread that asks.
            outcome = job.outcome(timeout)
            if outcome is None:
                return False
            self._success, self._value = outcome
            self._job = self._pool = None
        return True

    def _deliver(self) -> None:
        """Run the callback; what it raises is reported, and stops nothing."""
        assert self._event is not None
        try:
            self._resolve()
            callback = self._callback if self._success else self._error_callback
            if callback:
                callback(self._value)
        except Exception as error:
            args = (type(error), error, error.__traceback__, threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(args))
        finally:
            self._tell()

    def _tell(self) -> None:
        """Let go who waits until callbacks were run, or never will be."""
        assert self._event is not None
        self._event.set()
        with self._lock:
            waiters, self._waiters = self._waiters or (), None
            self._announced_job = None
        for waiter in waiters:
            waiter()

    def _when_ended(self, waiter: Callable[[], object]) -> None:
        """Have it called when the call has ended, by another thread, or now."""
        # Whoever is the first to ask makes the lock.
        with self.__dict__.setdefault("_lock", threading.Lock()):
            pool, job = self._pool, self._job
            news = self._event is None and job is not None
            if news:
                # Or it could be dropped, by who gets the value, before it is announced.
                self._announced_job = job
                self._announce()
            waiting = self._event is not None and self._waiters is not None
            if waiting:
                self._waiters.append(waiter)  # type: ignore[union-attr]
        if not waiting:
            waiter()
        elif news:
            pool._announce_result(self, job)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the value without holding up the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def wake() -> None:
            if not ended.done():
                ended.set_result(None)

        def tell() -> None:
            try:
                loop.call_soon_threadsafe(wake)
            except RuntimeError:
                pass  # the loop was closed: nobody waits any more

        self._when_ended(tell)
        yield from ended
        return self.get()

    def cancel(self) -> bool:
        """Stop the call: what of it has not begun never will, what runs is stopped, with its worker. It then fails with `TaskCancelled`.

        Return whether there was anything to stop: False if it had ended.
        """
        job = self._job
        return job is not None and job.cancel() > 0

    def ready(self) -> bool:
        """Whether the call has ended, well or not."""
        if self._event is not None:
            return self._event.is_set()
        job = self._job
        return job is None or job.is_complete()

    def successful(self) -> bool:
        """Whether the call ended without an exception. ValueError if it has not ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        self._resolve()
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call has ended, at most `timeout` seconds."""
        self._wait(timeout)

    def _wait(self, timeout: float | None) -> bool:
        if self._event is not None:
            return self._event.wait(timeout)
        job = self._job
        return job is None or job.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return the value, or raise what the call raised. TimeoutError if it has not ended after `timeout` seconds."""
        told = self._event is None and self._progress is None
        if not (told or self._wait(timeout)) or not self._resolve(timeout):
            raise TimeoutError
        if self._success:
            return self._value
        raise self._value

    __class_getitem__: Any = classmethod(types.GenericAlias)


AsyncResult = ApplyResult


class MapResult(ApplyResult):
    """The result of `Pool.map_async` and `Pool.starmap_async`: a list, or the exception of the task that failed first."""

    #: How many items are done; for the progress, when the job may be gone.
    _items_finished: Callable[[], int]

    def _show(self, bar: Progress | None) -> None:
        """Have `bar` told how far it is. Before it is fed."""
        if bar is not None:
            self._progress = bar
            self._items_finished = self._job.items_finished
            self._job.count_items()

    def _wait(self, timeout: float | None) -> bool:
        bar = self._progress
        if bar is None:
            return super()._wait(timeout)
        from ._progress import INTERVAL

        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = INTERVAL if end is None else end - time.monotonic()
            if super()._wait(max(0.0, min(left, INTERVAL))):
                bar.finish(self._items_finished())
                return True
            bar.report(self._items_finished())
            if left <= 0:
                return False


class Asynchronous:
    """An iterator that an asynchronous program may ask too."""

    #: What was asked for by somebody who was cancelled is the next one's.
    _left: tuple[Any, ...] = ()

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        import asyncio

        if self._left:
            asked, self._left = self._left[0], self._left[1:]
        else:
            asked = asyncio.get_running_loop().run_in_executor(None, next, self, self)  # type: ignore[arg-type]
        try:
            value = await asyncio.shield(asked)
        except asyncio.CancelledError:
            self._left = (*self._left, asked)
            raise
        if value is self:
            raise StopAsyncIteration
        return value


class _Results(Asynchronous):
    """An iterator that can be asked with a timeout, and goes on after an exception."""

    _progress: Progress | None = None
    _items = 0

    def __iter__(self) -> _Results:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result, or raise what its task raised. TimeoutError if it is not there after `timeout` seconds."""
        if self._progress is None:
            return self._next(timeout)
        try:
            value = self._next(timeout)
        except StopIteration:
            self._progress.finish(self._items)
            raise
        except TimeoutError:
            self._progress.report(self._items)
            raise
        except Exception:
            self._items += 1
            self._progress.report(self._items)
            raise
        self._items += 1
        self._progress.report(self._items)
        return value

    def __next__(self, timeout: float | None = None) -> Any:
        return self.next(timeout)

    def _next(self, timeout: float | None) -> Any:
        raise NotImplementedError


class IMapIterator(_Results):
    """The results of `Pool.imap`, in the order of the arguments."""

    def __init__(self, pool: Any, job: Any = None) -> None:
        self._pool = pool
        self._job = pool._new_job(type(self)) if job is None else job
        #: Puts the given number of tasks in line, if that is left to whoever takes the results; False: there are no more.
        self._feed: Callable[[int], bool] | None = None
        self._ahead = 0
        self._taken = self._waiting = 0
        self._feeding, self._counting = threading.Lock(), threading.Lock()

    def _feed_ahead(self, feed: Callable[[int], bool], ahead: int) -> None:
        """Let there never be more than `ahead` tasks in line, at work, or done and not taken."""
        self._feed, self._ahead = feed, ahead
        self._refill()

    def _missing(self) -> int:
        return self._taken + self._ahead - self._job.progress()[0]

    def _refill(self) -> None:
        # Whoever is at it already, perhaps this very thread from within the iterable, looks again afterwards.
        while (
            self._feed is not None and self._missing() > 0 and self._feeding.acquire(blocking=False)
        ):
            try:
                missing = self._missing()
                if missing > 0 and self._feed is not None and not self._feed(missing):
                    self._feed = None
            finally:
                self._feeding.release()

    def _take(self, timeout: float | None) -> Any:
        """The next outcome, of a job that is fed as outcomes are taken."""
        with self._counting:
            self._waiting += 1
        item = None
        try:
            self._refill()
            item = self._job.next(timeout)
        finally:
            with self._counting:
                self._waiting -= 1
                self._taken += item is not None
        # Who began to wait before this one was taken put nothing in line for himself.
        if self._waiting:
            self._refill()
        return item

    def _set_length(self, length: int) -> None:
        """The number of tasks; the job knows it. See `_pool_feed.TaskLine`."""

    def cancel(self) -> bool:
        """Stop what is unfinished; see `AsyncResult.cancel`. The results of those tasks are then `TaskCancelled`."""
        return self._job.cancel() > 0

    def _next(self, timeout: float | None) -> Any:
        try:
            item = self._job.next(timeout) if self._feed is None else self._take(timeout)
        except StopIteration:
            self._pool = None
            raise
        if item is None:
            raise TimeoutError
        success, value = item
        if success:
            return value
        raise value


class IMapUnorderedIterator(IMapIterator):
    """The results of `Pool.imap_unordered`, as they arrive."""


class ChunkedResults(_Results):
    """The results of tasks of several items each, item by item."""

    def __init__(self, chunks: IMapIterator) -> None:
        self._chunks = chunks
        self._values: deque[Any] = deque()

    def cancel(self) -> bool:
        """Stop what is unfinished; see `IMapIterator.cancel`."""
        return self._chunks.cancel()

    def _next(self, timeout: float | None) -> Any:
        while True:
            try:
                return self._values.popleft()
            except IndexError:
                self._values.extend(self._chunks.next(timeout))


for _public in (ApplyResult, MapResult, IMapIterator, IMapUnorderedIterator):
    _public.__module__ = f"{__package__}.pool"
