"""The results that a pool's asynchronous calls return."""

from __future__ import annotations

import threading
import time
import types
from _collections_abc import Callable, Generator
from collections import deque

from .._errors import TimeoutError
from .._procession import Feeding
from .._threads import Event, Thread, report
from .workers import is_of_exit

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

    from .progress import Progress
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


def _rest_at_exit(error: BaseException) -> None:
    """Sleep for ever in a daemonic thread whose pool was ended by the end of this process.

    The standard library's exit functions leave such a thread waiting for a result that never comes. So does
    this: the program did not terminate the pool, and nobody awaits the thread. What a task raised is raised.
    The main thread runs the exit functions, which may wait for the package's own threads; threads that are
    not daemonic are waited for, too: all these get the error.
    """
    if is_of_exit(error):
        thread = threading.current_thread()
        own = isinstance(thread, Thread) or thread is threading.main_thread()
        if thread.daemon and not own:
            never = threading.Lock()
            never.acquire()
            never.acquire()


class ApplyResult:
    """The result of `Pool.apply_async`. The object is returned at once; its value arrives later."""

    # Class attributes for what most results never need. Types in comments are of names that
    # `procession.pool`, where `typing.get_type_hints` looks for this class's names, does not have.
    _callback: Callable[[Any], object] | None = None
    _error_callback: Callable[[BaseException], object] | None = None
    #: Set only if callbacks or waiters must run before the value is announced.
    _event = None  # type: Event | None
    #: Shows the progress while a thread waits.
    _progress = None  # type: Progress | None

    def __init__(
        self,
        pool: Any,
        job: Any,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        # The pool stays alive while results are awaited.
        self._pool = pool
        self._job = job
        if callback or error_callback:
            self._callback = callback
            self._error_callback = error_callback
            self._lock = threading.Lock()
            self._announce()

    def _announce(self) -> None:
        #: Called when the call has ended; None: it has, and they were called.
        self._waiters: list[Callable[[], object]] | None = []
        self._event = Event()

    def _resolve(self, timeout: float | None = None) -> bool:
        """Wait for the value of the job. Return False if that timed out."""
        job = self._job
        if job is not None:
            # The job returns the same result to every thread.
            result = job.result(timeout)
            if result is None:
                return False
            self._success, self._value = result
            self._job = self._pool = None
        return True

    def _deliver(self) -> None:
        """Run the callback. What it raises is reported and stops nothing else."""
        assert self._event is not None
        try:
            self._resolve()
            callback = self._callback if self._success else self._error_callback
            if callback:
                callback(self._value)
        except BaseException as error:
            report(error)
        finally:
            self._tell()

    def _tell(self) -> None:
        """Wake the waiters once all callbacks have run or were abandoned."""
        assert self._event is not None
        self._event.set()
        with self._lock:
            waiters, self._waiters = self._waiters or (), None
        self._announced_job = None
        for waiter in waiters:
            try:
                waiter()
            except BaseException as error:  # of the program's event loop
                report(error)

    def _when_ended(self, waiter: Callable[[], object]) -> None:
        """Call `waiter` in another thread when the call ends, or now if it has."""
        # The first caller makes the lock.
        with self.__dict__.setdefault("_lock", threading.Lock()):
            pool, job = self._pool, self._job
            news = self._event is None and job is not None
            if news:
                # Keep the job: otherwise a thread that gets the value could drop it before it is
                # announced.
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
        """Wait for the value without blocking the event loop."""
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
                pass  # the loop is closed, so it waits no more

        self._when_ended(tell)
        yield from ended
        return self.get()

    def cancel(self) -> bool:
        """Cancel the call, which then fails with `TaskCancelled`.

        Tasks that have not begun never do; those that run are stopped with their worker. Return
        False if the call had already ended, True otherwise.
        """
        job = self._job
        return job is not None and job.cancel() > 0

    def ready(self) -> bool:
        """Return whether the call has completed, successfully or not."""
        if self._event is not None:
            return self._event.is_set()
        job = self._job
        return job is None or job.is_complete()

    def successful(self) -> bool:
        """Return whether the call completed without an exception.

        Raises ValueError if it has not completed.
        """
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
        """Return the value, or raise what the call raised.

        Raises TimeoutError if the call has not ended after `timeout` seconds.
        """
        told = self._event is None and self._progress is None
        if not (told or self._wait(timeout)) or not self._resolve(timeout):
            raise TimeoutError
        if self._success:
            return self._value
        _rest_at_exit(self._value)
        raise self._value

    __class_getitem__: Any = classmethod(types.GenericAlias)


AsyncResult = ApplyResult


class MapResult(ApplyResult):
    """The result of `Pool.map_async` and `Pool.starmap_async`.

    Its value is a list. If tasks failed, it is the exception of the one that failed first.
    """

    #: Returns how many items are done; the progress asks it even when the job may be gone.
    _items_finished: Callable[[], int]

    def _show(self, bar: Progress | None) -> None:
        """Report the progress to `bar`. Must be called before the job is fed."""
        if bar is not None:
            self._progress = bar
            self._items_finished = self._job.items_finished
            self._job.count_items()

    def _wait(self, timeout: float | None) -> bool:
        bar = self._progress
        if bar is None:
            return super()._wait(timeout)
        from .progress import INTERVAL

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
    """An iterator that an asynchronous program may use too."""

    #: Requests of waiters that were cancelled; the next caller gets them.
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
    """An iterator with timeouts, which continues after an exception."""

    _progress = None  # type: Progress | None
    _items = 0

    def __iter__(self) -> _Results:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result, or raise what its task raised.

        Raises TimeoutError if there is no result after `timeout` seconds.
        """
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
        #: Queues the given number of tasks and returns False when there are no more. Set if taking
        #: results feeds the job.
        self._feed: Callable[[int], bool] | None = None

    def _feed_ahead(self, feed: Callable[[int], bool], ahead: int) -> None:
        """Never let more than `ahead` tasks be queued, running, or done and not taken."""
        self._feeding = Feeding(ahead)
        self._feed = feed
        self._feeding.refill(self._job, feed)

    def _take(self, feed: Callable[[int], bool], timeout: float | None) -> Any:
        """Return the next result of a job that is fed as results are taken."""
        feeding = self._feeding
        try:
            return feeding.take(self._job, feed, timeout)
        finally:
            if feeding.is_over:
                self._feed = None

    def _set_length(self, length: int) -> None:
        """Do nothing: the job knows the number of tasks. See `_pool.feed.TaskQueue`."""

    def cancel(self) -> bool:
        """Cancel the unfinished tasks; see `AsyncResult.cancel`.

        Their results are then `TaskCancelled`.
        """
        return self._job.cancel() > 0

    def _next(self, timeout: float | None) -> Any:
        try:
            feed = self._feed
            item = self._job.next(timeout) if feed is None else self._take(feed, timeout)
        except StopIteration:
            self._pool = None
            raise
        if item is None:
            raise TimeoutError
        success, value = item
        if success:
            return value
        _rest_at_exit(value)
        raise value


class IMapUnorderedIterator(IMapIterator):
    """The results of `Pool.imap_unordered`, as they arrive."""


class ChunkedResults(_Results):
    """The results, item by item, of tasks with several items each."""

    def __init__(self, chunks: IMapIterator) -> None:
        self._chunks = chunks
        self._values: deque[Any] = deque()

    def cancel(self) -> bool:
        """Cancel the unfinished tasks; see `IMapIterator.cancel`."""
        return self._chunks.cancel()

    def _next(self, timeout: float | None) -> Any:
        while True:
            try:
                return self._values.popleft()
            except IndexError:
                self._values.extend(self._chunks.next(timeout))


for _public in (ApplyResult, MapResult, IMapIterator, IMapUnorderedIterator):
    _public.__module__ = "procession.pool"
