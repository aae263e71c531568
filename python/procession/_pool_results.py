"""What a pool's asynchronous calls return."""

from __future__ import annotations

import threading
import types

from ._errors import TimeoutError

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__: list[str] = []


class ApplyResult:
    """The result of `Pool.apply_async`: there at once, its value later."""

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
        self._callback = callback
        self._error_callback = error_callback
        # Only when callbacks are to run before anybody hears of the value.
        self._event = threading.Event() if callback or error_callback else None
        self._lock = threading.Lock()

    def _outcome(self) -> tuple[bool, Any]:
        return self._job.outcome()

    def _resolve(self) -> None:
        """Fetch the value of a complete job, once."""
        with self._lock:
            if self._job is not None:
                self._success, self._value = self._outcome()
                self._job = self._pool = None

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
            self._event.set()

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
        if not self._wait(timeout):
            raise TimeoutError
        self._resolve()
        if self._success:
            return self._value
        raise self._value

    __class_getitem__: Any = classmethod(types.GenericAlias)


AsyncResult = ApplyResult


class MapResult(ApplyResult):
    """The result of `Pool.map_async` and `Pool.starmap_async`: a list, or the exception of the task that failed first."""

    def _outcome(self) -> tuple[bool, Any]:
        return self._job.gather()


class IMapIterator:
    """The results of `Pool.imap`, in the order of the arguments."""

    def __init__(self, pool: Any, job: Any) -> None:
        self._pool = pool
        self._job = job
        #: Puts the given number of tasks in line, if that is left to whoever takes the results; False: there are no more.
        self._feed: Callable[[int], bool] | None = None
        self._ahead = 0
        self._taken = 0
        self._lock = threading.Lock()

    def _feed_ahead(self, feed: Callable[[int], bool], ahead: int) -> None:
        """Let there never be more than `ahead` tasks in line, at work, or done and not taken."""
        self._feed, self._ahead = feed, ahead
        self._refill()

    def _refill(self) -> None:
        if self._feed is None:
            return
        with self._lock:
            missing = self._taken + self._ahead - self._job.progress()[0]
            if missing > 0 and self._feed is not None and not self._feed(missing):
                self._feed = None

    def __iter__(self) -> IMapIterator:
        return self

    def cancel(self) -> bool:
        """Stop what is unfinished; see `AsyncResult.cancel`. The results of those tasks are then `TaskCancelled`."""
        return self._job.cancel() > 0

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result, or raise what its task raised. TimeoutError if it is not there after `timeout` seconds."""
        self._refill()
        try:
            item = self._job.next(timeout)
        except StopIteration:
            self._pool = None
            raise
        if item is None:
            raise TimeoutError
        self._taken += 1
        success, value = item
        if success:
            return value
        raise value

    __next__ = next


class IMapUnorderedIterator(IMapIterator):
    """The results of `Pool.imap_unordered`, as they arrive."""
