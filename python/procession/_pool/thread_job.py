"""A job of a pool of threads: the counterpart of `PoolJob`."""

from __future__ import annotations

import itertools
import sys
from _collections_abc import Callable, Iterator
from collections import deque

from .._errors import TaskCancelled
from .worker import EACH_OF_CHUNK, EACH_OF_STARRED_CHUNK

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

    from .thread_core import ThreadCore

    _Result = tuple[bool, Any]
    _Call = tuple[Callable[..., Any], Any, Any]
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: The upper bound of a job's `_ahead`, which grows when the workers run out of tasks.
_MOST = 4096


class ThreadJob:
    """The tasks of one call and their results. Any thread may call any method."""

    def __init__(self, core: ThreadCore, key: int, func: Any, mode: int, by_time: bool) -> None:
        self.key = key
        self.announced = False
        self._core = core
        self._changed = core.changed
        self._func = func
        self._mode = mode
        self._by_time = by_time
        self._results: dict[int, _Result] = {}
        self._order: deque[int] = deque()
        self._begun: set[int] = set()
        self._done: set[int] = set()
        #: Number of items of each task.
        self._sizes: list[int] = []
        self._submitted = self._finished = self._taken = 0
        #: The number of tasks that may be unfinished, beyond one for each worker; None: no limit.
        self._ahead: int | None = None
        self._first_failure: _Result | None = None
        #: Whether this is a single task, with a value that is the job's.
        self._single = False
        #: Whether each item has an outcome of its own; the number of items of a map, and the task
        #: whose error is that of the call itself.
        self._is_of_each = mode in (EACH_OF_CHUNK, EACH_OF_STARRED_CHUNK)
        self._length = 0
        self._failed_call = -1
        #: The result of the job, once a thread has asked for it.
        self._whole: _Result | None = None
        self._sealed = self._stopped = False

    def _complete(self) -> bool:
        return self._sealed and self._finished == self._submitted

    def resolve(self, number: int, result: _Result) -> None:
        """Resolve a task with its result. Only the first result counts."""
        with self._changed:
            if self._stopped or number in self._done:
                return
            self._results[number] = result
            self._order.append(number)
            self._done.add(number)
            self._finished += 1
            if not result[0] and self._first_failure is None:
                self._first_failure = result
            self._look()

    def _look(self) -> None:
        if self._complete():
            self._core.jobs.discard(self)
            if self.announced:
                self.announced = False
                self._core.completed.append(self.key)
        self._changed.notify_all()

    def submit(self, func: Callable[..., Any], args: Any, kwds: Any) -> None:
        number = -1
        try:
            with self._changed:
                self._submitted = 1 + (number := self._submitted)
            self._core.tasks.put((self, number, (func, args, kwds)))
        except BaseException as error:
            # A signal handler has raised: no worker may get the task, and nobody may wait for it.
            if number >= 0:
                self.resolve(number, (False, error))
            raise

    def begin(self, number: int) -> bool:
        """Count a task as begun. Return False if it was cancelled before."""
        with self._changed:
            if number in self._done:
                return False
            self._begun.add(number)
            return True

    def perform(self, number: int, call: _Call) -> None:
        """Do a task, in a worker."""
        if not self.begin(number):
            return
        func, args, kwds = call
        try:
            result = (True, func(*args, **kwds))
        except BaseException as error:
            result = (False, error)
        self.resolve(number, result)

    def refuse(self, error: BaseException) -> None:
        with self._changed:
            number = self._submitted
            self._submitted += 1
            self._failed_call = number
            self.resolve(number, (False, error))
            self.seal()

    def seal(self) -> None:
        with self._changed:
            self._sealed = True
            self._look()

    def cancel(self) -> int:
        """Cancel the tasks that have not begun; a running thread cannot be stopped."""
        cancelled = 0
        with self._changed:
            self._sealed = True
            for number in range(self._submitted):
                if number not in self._begun and number not in self._done:
                    self.resolve(number, (False, TaskCancelled(f"task {number} was cancelled")))
                    cancelled += 1
            self._look()
        return cancelled

    def progress(self) -> tuple[int, int]:
        """Return how many tasks were submitted, and how many of them are finished."""
        with self._changed:
            return self._submitted, self._finished

    def taken(self) -> int:
        """Return how many tasks' results `next` has taken, also if it was interrupted afterwards."""
        return self._taken

    def expect(self, length: int) -> None:
        """Declare how many items a map has."""
        self._length = length

    def count_items(self) -> None:
        """Do nothing: the items are always counted."""

    def items_finished(self) -> int:
        """Return how many items the finished tasks have."""
        with self._changed:
            done = list(self._done)
            return sum(self._sizes[number] for number in done if number < len(self._sizes))

    def stop(self, error: Callable[[], BaseException]) -> None:
        """Fail all unfinished tasks and ignore later results. The lock is held."""
        if not self._sealed:
            self._submitted += 1  # stands for all that was not submitted yet
        self._sealed = True
        for number in range(self._submitted):
            if number not in self._done:
                self.resolve(number, (False, error()))
        self._stopped = True
        self._look()

    def announce(self) -> None:
        with self._changed:
            self.announced = True
            self._look()

    def bound(self, workers: int, ahead: int | None) -> None:
        """Limit the tasks queued to what keeps the workers busy."""
        self._ahead = ahead

    def room(self, workers: int) -> int:
        """Return how many tasks may be submitted now, waiting until there is room for one.

        0: no more are accepted.
        """
        with self._changed:
            if self._ahead is None:
                return 0 if self._sealed else 1 << 30

            def unfinished() -> int:
                return self._submitted - self._finished

            if unfinished() >= workers + self._ahead:
                most = workers + self._ahead // 2
                self._changed.wait_for(lambda: self._sealed or unfinished() <= most)
                if unfinished() < workers + self._ahead // 4:
                    self._ahead = max(self._ahead, min(2 * self._ahead, _MOST))
            return 0 if self._sealed else workers + self._ahead - unfinished()

    def feed(self, iterator: Iterator[Any], chunksize: int, limit: int) -> bool:
        func = self._func
        for _ in range(limit):
            if self._sealed:
                return False
            try:
                if chunksize == 0:
                    items = (next(iterator),)
                else:
                    items = tuple(itertools.islice(iterator, chunksize))
                    if not items:
                        raise StopIteration
                self._sizes.append(len(items))
                if chunksize == 0:
                    self.submit(func, items, {})
                else:
                    self.submit(self._core.for_chunks[self._mode], ((func, items),), {})
            except StopIteration:
                self.seal()
                return False
            except BaseException as error:
                self.refuse(error)
                return False
        return True

    def feed_map(self, iterator: Iterator[Any], length: int, workers: int, limit: int) -> bool:
        return self.feed(iterator, max(1, -(-length // (workers * 4))), limit)

    def is_complete(self) -> bool:
        with self._changed:
            return self._complete()

    def wait(self, timeout: float | None = None) -> bool:
        with self._changed:
            return self._changed.wait_for(self._complete, _seconds(timeout))

    def result(self, timeout: float | None = None) -> _Result | None:
        """Return the result: success, and a call's value, a map's list or the first exception.

        None if that timed out.
        """
        with self._changed:
            if not self._changed.wait_for(self._complete, _seconds(timeout)):
                return None
            if self._whole is None:
                whole = self._gather(self._results)
                # Only now: a signal handler or finalizer may have asked for the result, too.
                self._whole, self._results = self._whole or whole, {}
            return self._whole

    def _gather(self, results: dict[int, _Result]) -> _Result:
        if self._is_of_each:
            return self._gather_each(results)
        if self._first_failure is not None:
            return self._first_failure
        if self._single:
            return results[0]
        parts = (results[number][1] for number in range(len(results)))
        return True, list(itertools.chain.from_iterable(parts))

    def _gather_each(self, results: dict[int, _Result]) -> _Result:
        ends: list[Any] = []
        for number in range(len(results)):
            success, value = self._opened(number, results[number])
            if not success and number == self._failed_call:
                return False, value
            # A failure here stands for all tasks that were not submitted.
            ends.extend(value if success else [value] * (self._length - len(ends)))
        if len(ends) < self._length:
            error = TaskCancelled(f"task {len(results)} was cancelled")
            ends.extend([error] * (self._length - len(ends)))
        return True, ends

    def _opened(self, number: int, result: _Result) -> _Result:
        """Return a task's result; a chunk that failed as a whole has a failure for each item."""
        success, value = result
        is_chunk = self._is_of_each and number < len(self._sizes)
        if success or not is_chunk or number == self._failed_call:
            return result
        return True, [value] * self._sizes[number]

    def next(self, timeout: float | None = None) -> _Result | None:
        def ready() -> bool:
            there = self._order if self._by_time else self._taken in self._results
            return bool(there) or (self._complete() and self._taken >= self._submitted)

        with self._changed:
            if not self._changed.wait_for(ready, _seconds(timeout)):
                return None
            if self._taken >= self._submitted and self._complete():
                raise StopIteration
            # Without a call between, after which a signal handler might raise.
            number = self._order[0] if self._by_time else self._taken
            if self._by_time:
                del self._order[0]
            self._taken += 1
            return self._opened(number, self._results.pop(number))


def _seconds(timeout: float | None) -> float | None:
    """Return the timeout; before Python 3.14, where conditions do not refuse NaN, return 0 for it."""
    is_refused = sys.version_info >= (3, 14)
    return 0 if timeout is not None and timeout != timeout and not is_refused else timeout
