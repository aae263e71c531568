"""A job of a pool on several nodes: the tasks of one call, and their results.

Tasks are pickled when they are fed. Results stay pickled until a thread asks for them, so that code
of the program runs in no thread of the package, and under no lock.
"""

from __future__ import annotations

import io
import itertools
import pickle
import threading
import time
from collections.abc import Callable, Iterator

from ..._pool.errors import _cancelled, _is_result, _undecodable, _worker_died
from ..._pool.thread_job import ThreadJob, _seconds
from .. import wire

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

    from .core import Core

    _Result = tuple[bool, Any]
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Tasks that are queued at a time, if their items are there already: others may wait for results.
_BATCH = 64
_READY: tuple[type, ...] = (type(iter([])), type(iter(())), type(iter(range(0))))
#: Seconds that a chunk of a map should take, and the part of the items left that it may have.
_CHUNK, _SHARE = 0.01, 4


class Task:
    """A task: `number` is its own in its job, `serial` in its pool."""

    __slots__ = ("estimate", "items", "job", "notes", "number", "payload", "retries", "serial")

    def __init__(self, job: Job, number: int, payload: bytes, items: int, notes: list[Any]) -> None:
        self.job, self.number, self.payload, self.items = job, number, payload, items
        #: Of the payload; see `wire.noting_dumps`.
        self.notes = notes
        self.retries = job.retries
        #: Seconds that it was expected to take when it was sent to a node.
        self.estimate = 0.0
        self.serial = -1


class Sealed:
    """A result or exception that is still pickled."""

    __slots__ = ("data", "success")

    def __init__(self, success: bool, data: bytes) -> None:
        self.success, self.data = success, data

    def open(self, _job: Job, _number: int) -> _Result:
        """Return it unpickled. Raises what a signal handler raises meanwhile."""
        try:
            return self.success, wire.loads(self.data)
        except BaseException as error:
            if not _is_result(error):
                raise
            try:
                wire.loads(self.data)
            except BaseException as again:
                if not _is_result(again):
                    raise
                return False, _undecodable(error)
            raise  # not the result's error, which comes again


class _Opaque:
    """Stands for a function or class: nothing of it can be called."""

    def __init__(self, module: str, name: str) -> None:
        self._name = f"{module}.{name}"

    def __repr__(self) -> str:
        return self._name


class _DataUnpickler(pickle.Unpickler):
    """Loads data, and runs no code for that: it may be what has killed the worker."""

    def find_class(self, module: str, name: str) -> Any:
        return _Opaque(module, name)


def _load_data(payload: bytes) -> Any:
    return _DataUnpickler(io.BytesIO(payload)).load()


class Death:
    """A task's worker has died, or was stopped because the task took too long."""

    __slots__ = ("_death", "_payload", "_timeout", "_where")
    success = False

    def __init__(self, payload: bytes, timeout: float | None, death: Any, where: str) -> None:
        self._payload, self._timeout, self._death, self._where = payload, timeout, death, where

    def open(self, job: Job, number: int) -> _Result:
        """Return the error."""
        func, mode = job.named, None if job.is_call else job.mode
        error = _worker_died(
            *(func, mode, number, self._payload, self._timeout, self._death, self._where),
            _load_data,
        )
        return False, error


class _Cancelled:
    """A task was cancelled."""

    success = False

    def open(self, job: Job, number: int) -> _Result:
        """Return the error."""
        return False, _cancelled(job.named, number)


CANCELLED = _Cancelled()
_OUTCOMES = (Sealed, Death, _Cancelled)


class Job(ThreadJob):
    """The tasks of one call, and their results. Any thread may call any method."""

    _core: Core  # type: ignore[assignment]

    def __init__(
        self,
        core: Core,
        key: int,
        func: Any,
        mode: int,
        by_time: bool,
        options: tuple[float | None, int, int, Any],
    ) -> None:
        super().__init__(core, key, func, mode, by_time)  # type: ignore[arg-type]
        self.mode = mode
        self.timeout, self.retries, self.priority, self.named = options
        #: The pickle of its function; None: the tasks bring theirs.
        self.function: bytes | None = None
        #: Of this pickle; see `wire.noting_dumps`.
        self.notes: list[Any] = []
        self.tasks: dict[int, Task] = {}
        #: The mean seconds of an item; None: not known yet.
        self.item_seconds: float | None = None
        #: Whether a thread may feed it.
        self._is_bounded = False
        #: Whether all its tasks were submitted, or are known to fail.
        self._is_whole = False
        #: The thread that unpickles the result.
        self._opener: int | None = None

    @property
    def is_call(self) -> bool:
        """Whether its tasks bring their functions."""
        return self.function is None

    def add(self, payloads: list[tuple[bytes, list[Any], int]]) -> None:
        """Queue tasks: their pickles, with notes of these, and numbers of items (0: not a chunk)."""
        with self._changed:
            if self._sealed:
                return  # by a cancellation, or the pool's end
            first = self._submitted
            tasks = {}
            for number, (payload, notes, items) in enumerate(payloads, first):
                tasks[number] = Task(self, number, payload, items or 1, notes)
            try:
                self._sizes += [task.items for task in tasks.values()]
                self.tasks.update(tasks)
                self._submitted = first + len(tasks)
                self._core.jobs.add(self)
                self._core.enqueue(list(tasks.values()))
            except BaseException as error:
                # A signal handler has raised: none of these is waited for.
                self._submitted = first + len(tasks)
                for number, task in tasks.items():
                    self.tasks.setdefault(number, task)
                    self.resolve(number, (False, error))
                self._core.wake()  # a sub-pool that takes them from the queue leaves them out
                raise

    def resolve(self, number: int, result: _Result) -> None:
        """Resolve a task with its result. Only the first result counts."""
        with self._changed:
            task = self.tasks.pop(number, None)
            if task is not None:
                self._core.forget(task)
            super().resolve(number, result)

    def conclude(self, number: int, outcome: Any) -> None:
        """Resolve a task with an outcome that is opened when a thread asks for it."""
        self.resolve(number, (outcome.success, outcome))

    def _look(self) -> None:
        super()._look()
        core = self._core
        if self._finished == self._submitted:
            core.jobs.discard(self)
        if self._sealed:
            core.unsealed.discard(self)
        if self._complete():
            core.ended(self)

    def refuse(self, error: BaseException) -> None:
        """Make `error` the result of the next task, and declare that there are no more."""
        self._is_whole = True
        super().refuse(error)

    def refuse_task(self, error: BaseException, items: int) -> None:
        """Make `error` the result of the next task, which cannot be pickled."""
        with self._changed:
            number = self._submitted
            self._submitted += 1
            self._sizes.append(items)
            self.resolve(number, (False, error))

    def cancel(self) -> int:
        """Stop all unfinished tasks, and return their number."""
        with self._changed:
            count = len(self.tasks) + (not self._sealed)
            self._sealed = True
            running = [task for task in self.tasks.values() if task.serial >= 0]
            for task in list(self.tasks.values()):
                self.conclude(task.number, CANCELLED)
            self._core.stop_tasks(running)
            self._look()
        return count

    def __del__(self) -> None:
        core = self.__dict__.get("_core")  # None after an interrupted `__init__`
        if core is not None:
            core.notify()  # it is not waited for any more

    def bound(self, workers: int, ahead: int | None) -> None:
        """Limit the tasks queued to what keeps the workers busy."""
        self._is_bounded = True
        super().bound(workers, ahead)

    def cancel_pending(self) -> None:
        """Stop the tasks that no worker has begun."""
        with self._changed:
            if self._is_bounded and not self._sealed:
                # The tasks that have not been submitted yet never will be.
                self.refuse(_cancelled(self.named, self._submitted))
            self._sealed = True
        self._core.cancel_pending(list(self.tasks.values()))
        with self._changed:
            self._look()

    def is_full(self) -> bool:
        """Return whether the unfinished tasks have as many bytes as the pool takes."""
        return self._core.is_full()

    def room(self, workers: int) -> int:
        """Return how many tasks may be submitted now, waiting until there is room for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._sealed or not self._core.is_full())
            return super().room(workers)

    def feed(self, iterator: Iterator[Any], chunksize: int, limit: int) -> bool:
        """Submit up to `limit` tasks of `chunksize` items each (0: items, not tuples).

        Return False at the end of the iterator.
        """
        return self._feed(iterator, limit, lambda: chunksize)

    def feed_map(self, iterator: Iterator[Any], length: int, workers: int, limit: int) -> bool:
        """Like `feed`, in chunks of a size that suits the workers."""

        def size() -> int:
            left = length - self._cut
            most = max(1, left // (_SHARE * workers))
            if self.item_seconds is None:
                # The first ones show how long items take.
                most = min(most, max(1, length // (_SHARE * 8 * workers)))
            else:
                most = min(most, max(1, int(_CHUNK / max(self.item_seconds, 1e-9))))
            self._cut += most
            return most

        return self._feed(iterator, limit, size)

    #: The number of items that are in chunks of `feed_map`.
    _cut = 0

    def _feed(self, iterator: Iterator[Any], limit: int, size: Callable[[], int]) -> bool:
        dumps, again = wire.noting_dumps, self.retries > 0
        together = _BATCH if type(iterator) in _READY else 1
        batch: list[tuple[bytes, list[Any], int]] = []
        is_over = False
        try:
            for _ in range(limit):
                if self._sealed:
                    return False
                chunksize = size()
                arguments: Any
                if chunksize:
                    arguments = tuple(itertools.islice(iterator, chunksize))
                    if not arguments:
                        is_over = True
                        break
                    items = len(arguments)
                else:
                    try:
                        arguments, items = next(iterator), 0
                    except StopIteration:
                        is_over = True
                        break
                try:
                    batch.append((*dumps(arguments, again), items))
                except Exception as error:
                    ready, batch = batch, []
                    self.add(ready)
                    self._refuse_chunk(arguments, items, error)
                del arguments
                if len(batch) >= together:
                    ready, batch = batch, []
                    self.add(ready)
                    if self._core.is_full():
                        return True
            ready, batch = batch, []
            self.add(ready)
            if not is_over:
                return True
        except BaseException as error:
            self.add(batch)
            self.refuse(error)
            if not isinstance(error, Exception):
                raise
            return False
        self._is_whole = True
        self.seal()
        return False

    def _refuse_chunk(self, arguments: Any, items: int, error: Exception) -> None:
        if items < 2 or not self._is_of_each:
            return self.refuse_task(error, max(1, items))
        for item in arguments:
            try:
                self.add([(*wire.noting_dumps((item,), self.retries > 0), 1)])
            except Exception as of_item:
                self.refuse_task(of_item, 1)
        return None

    def _open(self, number: int, result: _Result) -> _Result:
        value = result[1]
        return value.open(self, number) if isinstance(value, _OUTCOMES) else result

    def result(self, timeout: float | None = None) -> _Result | None:
        """Return the result: success, and a call's value, a map's list or the first exception.

        None if that timed out.
        """
        end = None if timeout is None else time.monotonic() + timeout
        me = threading.get_ident()
        is_opener, whole = False, None
        try:
            with self._changed:
                if not self._changed.wait_for(self._complete, _seconds(timeout)):
                    return None
                if self._opener == me:
                    raise RuntimeError(
                        "this thread is about to unpickle the result that it asks for"
                    )
                left = None if end is None else end - time.monotonic()
                if not self._changed.wait_for(lambda: self._opener is None, _seconds(left)):
                    return None
                if self._whole is not None:
                    return self._whole
                is_opener, self._opener = True, me
            whole = self._open_all()
        finally:
            if is_opener:
                with self._changed:
                    self._opener = None
                    if whole is not None:
                        self._whole, self._results = whole, {}
                    self._changed.notify_all()
        return whole

    def _open_all(self) -> _Result:
        if self._first_failure is not None and not self._is_of_each:
            number = next(n for n, one in self._results.items() if one is self._first_failure)
            return self._open(number, self._first_failure)
        opened = {number: self._open(number, one) for number, one in self._results.items()}
        failed = next((one for one in opened.values() if not one[0]), None)
        if failed is not None and not self._is_of_each:
            return failed  # it could not be unpickled
        if not self._is_whole and not self._is_of_each and not self._single:
            return False, _cancelled(self.named, len(opened))
        return self._gather(opened)

    def taken(self) -> int:
        """Return how many tasks' results `next` has taken."""
        return self._taken

    def next(self, timeout: float | None = None) -> _Result | None:
        """Return success and the value or exception of the next task, in order or as they end.

        None after `timeout` seconds. Raises StopIteration at the end.
        """

        def ready() -> bool:
            there = self._order if self._by_time else self._taken in self._results
            return bool(there) or (self._complete() and self._taken >= self._submitted)

        result = None
        try:
            with self._changed:
                if not self._changed.wait_for(ready, _seconds(timeout)):
                    return None
                if self._taken >= self._submitted and self._complete():
                    raise StopIteration
                # Without a call, after which a signal handler might run.
                number = self._order[0] if self._by_time else self._taken
                result = self._results[number]
                del self._results[number]
                if self._by_time:
                    del self._order[0]
                self._taken += 1
            return self._opened(number, self._open(number, result))
        except BaseException:
            # A signal handler has raised: the next call returns this result.
            if result is not None:
                with self._changed:
                    self._results[number] = result
                    self._taken -= 1
                    if self._by_time:
                        self._order.appendleft(number)
            raise
