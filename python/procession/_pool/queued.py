"""Pools with tasks and results in queues that a subclass provides.

A subclass of `Pool` may override `_setup_queues` or `_repopulate_pool`, and a program may replace
the function `pool.worker`. Both expect the internals of the standard library's pool: tasks go into
`_inqueue` by `_quick_put`, workers call ``worker(inqueue, outqueue, initializer, initargs,
maxtasks, wrap_exception)``, and results come out of `_outqueue` by `_quick_get`. joblib shares
memory-mapped arrays in this way, with queues that have their own pickler.

The engine does not see here which worker runs which task. When a worker dies, every task that is in
the queue or at a worker at that moment fails with `WorkerDied`. `_AHEAD` limits their number.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import threading
import time
from _collections_abc import Callable, Iterator

from .. import util
from .._errors import OwnerDied, WorkerDied
from .._threads import RLock, Thread
from .errors import ExceptionWithTraceback, MaybeEncodingError, _safe_repr
from .feed import mapstar, starmapstar
from .thread_core import ThreadCore
from .thread_job import ThreadJob
from .worker import CHUNK, EACH_OF_CHUNK, EACH_OF_STARRED_CHUNK, STARRED_CHUNK
from .workers import (
    CLOSE,
    RUN,
    TERMINATE,
    WatchedWorkers,
    as_worker,
    broken_by_errors,
    undo_start,
    why_ended,
)

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: The most tasks for each worker that are in the queue or at a worker.
_AHEAD = 4
#: The pool is broken when this many workers in a row (or as many as the pool has, if that is more)
#: ended while no worker returned a result.
_FAULTS = 3
#: Seconds that a worker has to end after SIGTERM.
_GRACE = 1.0
#: The threads that take the lock of `QueuedWorkers`.
_LOCKING = ("PoolEnd", "PoolWorkers")


def worker(
    inqueue: Any,
    outqueue: Any,
    initializer: Callable[..., object] | None = None,
    initargs: Any = (),
    maxtasks: int | None = None,
    wrap_exception: bool = False,
) -> None:
    """Run the main loop of a worker of a pool with the subclass's queues."""
    if maxtasks is not None and not (isinstance(maxtasks, int) and maxtasks >= 1):
        raise AssertionError(f"Maxtasks {maxtasks!r} is not valid")
    _close_parents_ends(inqueue, outqueue)
    if initializer is not None:
        initializer(*initargs)
    completed = 0
    for job, number, *call in itertools.islice(_received(inqueue), maxtasks):
        _report(outqueue, job, number, _outcome(wrap_exception, *call))
        call.clear()  # what it refers to must not stay alive while this waits
        completed += 1
    util.debug("worker exiting after %d tasks", completed)


def _close_parents_ends(inqueue: Any, outqueue: Any) -> None:
    """Close the ends of two pipes that only the pool's process uses."""
    if hasattr(inqueue, "_writer"):
        inqueue._writer.close()
        outqueue._reader.close()


def _received(inqueue: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the tasks until the pool's end, or until its process is gone."""
    try:
        while (task := _held_by_the_dead(inqueue.get)) is not None:
            yield task
            task = None  # must not outlive its turn
        util.debug("worker got sentinel -- exiting")
    except (EOFError, OSError):
        util.debug("worker got EOFError or OSError -- exiting")


def _outcome(wrap: bool, func: Any, args: Any, kwds: Any) -> tuple[bool, Any]:
    """Call a function and return whether it succeeded, and its result or what it raised."""
    try:
        return True, func(*args, **kwds)
    except Exception as error:
        return False, ExceptionWithTraceback(error, error.__traceback__) if wrap else error


def _report(outqueue: Any, job: Any, number: Any, outcome: tuple[bool, Any]) -> None:
    """Send the outcome of a task, or a `MaybeEncodingError` if it cannot be pickled."""
    try:
        _held_by_the_dead(outqueue.put, (job, number, outcome))
    except Exception as error:
        unsent = MaybeEncodingError(error, outcome[1])
        util.debug("Possible encoding error while sending result: %s", unsent)
        _held_by_the_dead(outqueue.put, (job, number, (False, unsent)))


def _held_by_the_dead(call: Callable[..., Any], *args: Any) -> Any:
    """Call a queue's function, and again if a worker died holding the queue's lock.

    The failed call has freed the lock.
    """
    while True:
        try:
            return call(*args)
        except OwnerDied:
            continue


def sent_outcomes(args: tuple[Callable[..., Any], Any]) -> list[Any]:
    """Return the function's result for each item, or what it raised, to be sent."""
    func, items = args
    return sent_starred_outcomes((func, ((item,) for item in items)))


def sent_starred_outcomes(args: tuple[Callable[..., Any], Any]) -> list[Any]:
    """Do what `sent_outcomes` does, for items that are the arguments of a call."""
    func, items = args
    ends = (_outcome(True, func, item, {}) for item in items)
    return [value for _, value in ends]


def start_workers(
    make: Callable[..., Any], size: int, workers: list[Any], target: Any, arguments: Any
) -> None:
    """Start processes until there are `size` in the list `workers`."""
    while len(workers) < size:
        process = as_worker(make(target=target, args=arguments))
        try:
            process.start()
            workers.append(process)
        except BaseException:
            undo_start(process, workers)
            raise
        util.debug("added worker")


class QueuedCore(ThreadCore):
    """Jobs in this process's memory; tasks wait in its own queue until the subclass's has room."""

    for_chunks = {
        CHUNK: mapstar,
        STARRED_CHUNK: starmapstar,
        EACH_OF_CHUNK: sent_outcomes,
        EACH_OF_STARRED_CHUNK: sent_starred_outcomes,
    }

    def __init__(self) -> None:
        super().__init__()
        #: The tasks in the subclass's queue or at a worker, by job and number.
        self.underway: dict[tuple[int, int], ThreadJob] = {}

    def stats(self) -> Any:
        """Raise NotImplementedError: such a pool keeps no figures."""
        raise NotImplementedError("a pool with queues of its own keeps no figures")

    def begin(self, job: ThreadJob, number: int, limit: int) -> bool:
        """Wait until fewer than `limit` tasks are under way, then count this one too.

        Return False if it was cancelled meanwhile.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.error is not None or len(self.underway) < limit)
            if self.error is not None or not job.begin(number):
                return False
            self.underway[job.key, number] = job
            return True

    def finish(self, key: int, number: int, result: tuple[bool, Any]) -> None:
        """Resolve a task that was under way; one that has already failed stays failed."""
        with self.changed:
            job = self.underway.pop((key, number), None)
            if job is not None:
                job.resolve(number, result)

    def fail_underway(self, error: Callable[[], BaseException]) -> None:
        """Fail all tasks under way."""
        with self.changed:
            for key, number in list(self.underway):
                self.finish(key, number, (False, error()))


class QueuedWorkers(WatchedWorkers):
    """The workers, and the threads between the subclass's queues and the jobs."""

    core: QueuedCore
    _notice = -1  # for an object with an interrupted `__init__`

    def __init__(
        self,
        core: QueuedCore,
        start: Callable[..., Any],
        size: int,
        target: Callable[..., object],
        arguments: tuple[Any, ...],
        quick: tuple[Callable[[Any], Any], Callable[[], Any]],
    ) -> None:
        super().__init__(core, start, size, arguments)
        self._target = target
        self._inqueue, self._outqueue = arguments[:2]
        self._quick_put, self._quick_get = quick
        self._expects_exits = arguments[4] is not None
        self._lock = RLock()
        self._notice = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._threads: list[threading.Thread] = []
        self._faults = 0

    def __del__(self, _close: Any = os.close) -> None:
        if self._notice >= 0:
            _close(self._notice)

    def resize(self, size: int) -> None:
        """Raise NotImplementedError: a subclass counts its workers itself."""
        raise NotImplementedError("a pool with queues of its own keeps its size")

    def repopulate(self) -> None:
        """Bring the number of workers up to the pool's size."""
        with self._lock:
            start_workers(self._start, self._size, self.workers, self._target, self._arguments)
            if self._state == TERMINATE:
                # By a finalizer in this thread, during a start.
                self._end_workers()

    def watch(self) -> None:
        """Start the threads."""
        self._begin(self._watch, "PoolWorkers")
        self._begin(self._send, "PoolTasks")
        self._begin(self._receive, "PoolResults")

    def _begin(self, target: Callable[[], None], name: str) -> None:
        thread = Thread(target, name)
        thread.start()
        self._threads.append(thread)

    def _send(self) -> None:
        core, limit = self.core, _AHEAD * self._size
        while (item := core.tasks.get()) is not None:
            job, number, call = item
            if core.begin(job, number, limit):
                try:
                    _held_by_the_dead(self._quick_put, (job.key, number, *call))
                except BaseException as error:
                    core.finish(job.key, number, (False, error))
            item = job = call = None  # type: ignore[assignment]  # must not outlive this turn
        for _ in range(len(self.workers)):
            _held_by_the_dead(self._quick_put, None)

    def _receive(self) -> None:
        while True:
            try:
                result = self._quick_get()
            except OwnerDied:
                continue
            except (EOFError, OSError):
                return
            except BaseException as error:
                # Which task's result it was is lost.
                self.core.fail_underway(functools.partial(_unreadable, error))
                continue
            if result is None:
                return
            self._faults = 0
            key, number, outcome = result
            self.core.finish(key, number, outcome)
            result = outcome = None

    def _watch(self) -> None:
        with broken_by_errors(self._break):
            while self._maintain():
                self._wait(self._notice, math.inf)
        util.debug("pool's watch exiting")

    def _maintain(self) -> bool:
        """Reap ended workers and replace them. Return False when the watch is over."""
        with self._lock:
            for process in [process for process in self.workers if process.exitcode is not None]:
                process.join()
                self.workers.remove(process)
                util.debug("cleaned up worker %s", process.name)
                if self._state == RUN and (process.exitcode != 0 or not self._expects_exits):
                    self._fail_tasks_of(process.pid, process.exitcode)
            if self._state == TERMINATE or self.broken:
                return False
            if self._state == CLOSE:
                return bool(self.workers)
            try:
                self.repopulate()
            except BaseException as error:
                util.warn("cannot start a worker: %r", error)
                self._break(f"a pool's worker cannot be started: {_safe_repr(error)}", error)
                return False
            return True

    def _fail_tasks_of(self, pid: int, exitcode: int) -> None:
        text = f"worker process {pid} ended with exit code {exitcode}; as this pool has queues of its own, what it did is not known, and all tasks under way fail"
        self.core.fail_underway(lambda: WorkerDied(text, pid, exitcode))
        self._faults += 1
        if self._faults >= max(_FAULTS, self._size):
            text = f"the pool's workers cannot work: {self._faults} in a row ended without a result, the last with exit code {exitcode}"
            self._break(text, None)

    def close(self) -> None:
        """Let the workers leave when all tasks are done."""
        self.core.close()
        self._begin(self._leave, "PoolEnd")

    def _leave(self) -> None:
        self.core.wait_idle()
        with self._lock:
            if self._state == RUN:
                self._state = CLOSE
                self.core.dismiss(1)
        os.eventfd_write(self._notice, 1)

    def join(self) -> None:
        """Wait until the workers and the threads have ended."""
        self._join_threads("PoolEnd", "PoolWorkers")
        for process in list(self.workers):
            process.join()
        self._end_threads()

    def _join_threads(self, *names: str) -> None:
        for thread in list(self._threads):
            waits = thread.name in _LOCKING and self.is_at_work()
            if thread.name in names and thread is not threading.current_thread() and not waits:
                thread.join()

    def is_at_work(self) -> bool:
        """Return whether this thread is starting or reaping workers; see `Workers.is_at_work`."""
        return self._lock._is_owned()

    def _give_up(self) -> None:
        with self._lock:
            self._state = TERMINATE
        self.core.terminate(why_ended())
        os.eventfd_write(self._notice, 1)
        self._join_threads("PoolWorkers")
        for process in self.workers:
            if process.exitcode is None:
                process.terminate()

    def abandon(self) -> None:
        """Undo a pool after its construction failed."""
        self._give_up()
        for process in self.workers:
            process.join()
        self.core.dismiss(1)
        self._end_threads()

    def stop(self) -> None:
        """End the workers at once."""
        util.debug("terminating pool's workers")
        self._give_up()
        self._end_workers()
        self.core.dismiss(1)
        self._end_threads()

    def _end_workers(self) -> None:
        end = time.monotonic() + _GRACE
        for process in list(self.workers):
            process.join(max(0.0, end - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()

    def _end_threads(self) -> None:
        """Let the threads at the queues end, now that there are no workers."""
        reader = getattr(self._inqueue, "_reader", None)
        for thread in list(self._threads):
            # No worker will make room for the task that is being put.
            while thread.name == "PoolTasks" and thread.is_alive() and reader is not None:
                if reader.poll(0.01):
                    reader.recv_bytes()
        try:
            _held_by_the_dead(self._outqueue.put, None)
        except (OSError, ValueError):
            return  # closed by the subclass
        self._join_threads("PoolResults")


def _unreadable(error: BaseException) -> MaybeEncodingError:
    result = MaybeEncodingError(error, None)
    result.value = "a result that cannot be unpickled"
    result.__cause__ = error
    return result
