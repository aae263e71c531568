"""The pool's scheduler for threads: the counterpart of `PoolCore` and `Workers`.

The jobs are in `thread_job`.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
from _collections_abc import Callable
from collections import deque

from .._errors import BrokenPool
from .._threads import Condition, Thread
from .errors import _foreign
from .feed import mapstar, outcomes, starmapstar, starred_outcomes
from .thread_job import ThreadJob
from .worker import CHUNK, EACH_OF_CHUNK, EACH_OF_STARRED_CHUNK, STARRED_CHUNK, in_thread
from .workers import as_worker, why_ended

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

    _Call = tuple[Callable[..., Any], Any, Any]
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


class ThreadCore:
    """Tasks in a queue, jobs in this process's memory."""

    #: Whether calls have options of their own.
    takes_options = False
    #: What does the chunks of a job, by the job's mode.
    for_chunks: dict[int, Callable[[Any], list[Any]]] = {
        CHUNK: mapstar,
        STARRED_CHUNK: starmapstar,
        EACH_OF_CHUNK: outcomes,
        EACH_OF_STARRED_CHUNK: starred_outcomes,
    }

    def __init__(self) -> None:
        self.changed = Condition()
        self.tasks: queue.SimpleQueue[tuple[ThreadJob, int, _Call] | None] = queue.SimpleQueue()
        self.jobs: set[ThreadJob] = set()
        self.completed: deque[int] = deque()
        #: Makes the exception of unfinished tasks once the pool is terminated.
        self.error: Callable[[], BaseException] | None = None
        self.closing = False
        self._pid = os.getpid()
        self._keys = itertools.count()
        self._feeds: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        Thread(self._feed, "PoolFeeder").start()

    def _feed(self) -> None:
        while (feed := self._feeds.get()) is not None:
            feed()
            feed = None  # what it refers to must not stay alive while this waits

    def feed_later(self, feed: Callable[[], None]) -> None:
        self._feeds.put(feed)

    def dismiss(self, workers: int) -> None:
        """Let the feeder and this many workers end once they have done what is queued."""
        self._feeds.put(None)
        for _ in range(workers):
            self.tasks.put(None)

    def call(self, func: Any, args: Any, kwds: Any, *options: Any) -> ThreadJob:
        if self._pid != os.getpid():
            raise _foreign(self._pid)
        job = self._new(func, 0, False)
        job._single = True
        job.submit(func, args, kwds)
        job.seal()
        return job

    def job(self, func: Any, mode: int, by_time: bool, *options: Any) -> ThreadJob:
        return self._new(func, mode, by_time)

    def _new(self, func: Any, mode: int, by_time: bool) -> ThreadJob:
        job = ThreadJob(self, next(self._keys), func, mode, by_time)
        with self.changed:
            self.jobs.add(job)
        return job

    def close(self) -> None:
        with self.changed:
            self.closing = True
            self.changed.notify_all()

    def terminate(self, error: Callable[[], BaseException]) -> None:
        with self.changed:
            self.closing = True
            self.error = self.error or error
            for job in list(self.jobs):
                job.stop(self.error)
            self.changed.notify_all()

    def wait_idle(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: not self.jobs)

    def next_completed(self) -> int | None:
        def is_over() -> bool:
            return self.closing and not any(job.announced for job in list(self.jobs))

        with self.changed:
            self.changed.wait_for(lambda: self.completed or is_over())
            return self.completed.popleft() if self.completed else None


def _work(core: ThreadCore, name: str, index: int, initializer: Any, initargs: Any) -> None:
    in_thread.worker = os.getpid(), index, name, None
    if initializer is not None:
        try:
            in_thread.worker = os.getpid(), index, name, initializer(*initargs)
        except BaseException as error:
            text = f"the pool's workers cannot start: the initializer raised {error!r}"

            def broken(cause: BaseException = error) -> BrokenPool:
                result = BrokenPool(text)
                result.__cause__ = cause
                return result

            core.terminate(broken)
            raise
    while (task := core.tasks.get()) is not None:
        job, number, call = task
        task = None
        if core.error is None:
            job.perform(number, call)
        job = call = None  # type: ignore[assignment]


class ThreadWorkers:
    """A pool's threads."""

    def __init__(
        self,
        core: ThreadCore,
        start: Callable[..., Any],
        size: int,
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> None:
        self.workers: list[Any] = []
        self._core = core
        self._start = start
        self._size = size
        self._arguments = arguments[:2]
        self._name = options["name"]
        self._leaving = False

    @property
    def broken(self) -> Callable[[], BaseException] | None:
        """Makes the exception of a pool that cannot work."""
        return self._core.error

    def repopulate(self) -> None:
        while len(self.workers) < self._size:
            args = (self._core, self._name, len(self.workers), *self._arguments)
            thread = as_worker(self._start(target=_work, args=args))
            thread.start()
            self.workers.append(thread)

    def watch(self) -> None:
        pass  # threads do not die

    def close(self) -> None:
        self._core.close()

    def _dismiss(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._core.dismiss(len(self.workers))

    def join(self) -> None:
        self._core.wait_idle()
        self._dismiss()
        for thread in self.workers:
            if thread is not threading.current_thread():
                thread.join()

    def abandon(self) -> None:
        """Undo a pool after its construction failed."""
        self.stop()

    def stop(self) -> None:
        self._core.terminate(why_ended())
        self._dismiss()
