"""The scheduler of a pool on several nodes, in the process that made the pool.

One lock guards all of it: the condition `changed`. Tasks wait in `Core.queue` until the thread of a
sub-pool takes some for its node. The argument why no task is forgotten: each thread that queues tasks wakes a
sub-pool with room (`wake`), a sub-pool that has taken some and left others wakes the next one, and
each one looks again when results have made room, before it waits.
"""

from __future__ import annotations

import itertools
import math
import os
import time
import weakref
from collections import deque
from collections.abc import Callable

from ... import util
from ..._errors import NodeLost
from ..._pool.errors import _foreign
from ..._pool.errors import _named as named
from ..._threads import Condition
from .. import place, wire
from .job import CANCELLED, Death, Job, Sealed, Task
from .subpool import SILENCE, SubPool
from .tasks import CANCELLED as WAS_CANCELLED
from .tasks import DIED, DONE, GIVEN_BACK, RAISED, TIMED_OUT
from .waiting import WaitingTasks

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _J = TypeVar("_J", bound=Job)
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Seconds of work for each worker of a node that make it worth to take tasks back from it.
_WORTH = 0.002
#: The weight of the last task in the mean time of an item.
_WEIGHT = 0.2
#: Bytes of unfinished tasks above which no more are taken from an iterable.
_ROOM = 64 << 20


class Changed(Condition):
    """The condition of a pool, which a child of fork cannot wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until the predicate is true, at most `timeout` seconds; return its last result.

        Raises ValueError in a child of fork, where nothing becomes true.
        """
        if self._pid != os.getpid() and not predicate():
            raise _foreign(self._pid)
        return super().wait_for(predicate, timeout)


def mean(known: float | None, new: float) -> float:
    """Return the running mean, in which the last ones count most."""
    return new if known is None else known + _WEIGHT * (new - known)


class Core:
    """The tasks that wait, and the sub-pools that do them: the counterpart of `PoolCore`."""

    #: Called when the sub-pools must be looked after, and when the pool of one is broken.
    notify: Callable[[], object]
    on_broken: Callable[[str, BaseException | None], object]
    #: Makes the calls of an executor.
    stream: Callable[..., Any]

    def __init__(self) -> None:
        # A child of fork may print or drop the pool, and has none of the threads that hold this.
        self.changed = util.free_in_child(Changed())
        self.queue = WaitingTasks()
        #: The jobs with unfinished tasks, and those that may get more of them. The latter are not kept
        #: alive: the call of one may have been interrupted before anybody got its result object.
        self.jobs: set[Job] = set()
        self.unsealed: weakref.WeakSet[Job] = weakref.WeakSet()
        self.completed: deque[int] = deque()
        self.subpools: list[SubPool] = []
        #: Makes the exception of unfinished tasks once the pool is terminated.
        self.error: Callable[[], BaseException] | None = None
        self.closing = False
        self._pid = os.getpid()
        self._keys, self._serials = itertools.count(), itertools.count()
        self._bytes = self._done = 0
        #: The mean seconds of single calls; None: not known yet.
        self.call_seconds: float | None = None

    def is_foreign(self) -> bool:
        """Return whether this process is a child of the one that made the pool."""
        return self._pid != os.getpid()

    # Calls

    def call(
        self,
        func: Any,
        args: Any,
        kwds: Any,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 1,
        name: str | None = None,
    ) -> Job:
        """Submit one call."""
        if self.is_foreign():
            raise _foreign(self._pid)
        called = func if name is None else named(func, name)
        job = self.call_of(Job, func, (timeout, retries, priority, called))
        try:
            try:
                payload = wire.noting_dumps((func, args, kwds), retries > 0)
            except Exception as error:
                job.refuse(error)
            else:
                job.add([(*payload, 0)])
                job.seal()
        except BaseException:
            job.cancel()  # a signal handler has raised: nobody gets the result
            raise
        return job

    def call_of(self, kind: type[_J], func: Any, options: tuple[float | None, int, int, Any]) -> _J:
        """Return a new job of one task, which brings its function."""
        job = kind(self, next(self._keys), func, 0, False, options)
        job._single = job._is_whole = True
        with self.changed:
            if self.error is not None:
                job.stop(self.error)
            else:
                self.unsealed.add(job)
        return job

    def job(
        self,
        func: Any,
        mode: int,
        by_time: bool,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 1,
        name: str | None = None,
    ) -> Job:
        """Return a new job: tasks of one function, to be fed to it."""
        job = self._new(func, mode, by_time, (timeout, retries, priority, name))
        try:
            job.function, job.notes = wire.noting_dumps(func, True)
        except Exception as error:
            job.refuse(error)
        except BaseException:
            job.cancel()  # a signal handler has raised: nobody gets the result
            raise
        return job

    def _new(self, func: Any, mode: int, by_time: bool, options: Any) -> Job:
        timeout, retries, priority, name = options
        called = func if name is None else named(func, name)
        job = Job(self, next(self._keys), func, mode, by_time, (timeout, retries, priority, called))
        with self.changed:
            if self.error is not None:
                job.stop(self.error)
            else:
                self.unsealed.add(job)
        return job

    # Tasks; for all of these the lock is held

    def enqueue(self, tasks: list[Task]) -> None:
        """Add tasks to the queue."""
        for task in tasks:
            self._bytes += len(task.payload)
        self.queue.extend(tasks)
        self.wake()

    def wake(self) -> None:
        """Wake the sub-pool with the most room, if there are tasks."""
        if self.queue:
            best, least = None, math.inf
            for subpool in self.subpools:
                if subpool.has_room() and len(subpool.tasks) / subpool.size < least:
                    best, least = subpool, len(subpool.tasks) / subpool.size
            if best is not None:
                best.wake()

    def take(self, subpool: SubPool) -> list[Task]:
        """Return tasks for a sub-pool: its part of those that wait, as far as it has room."""
        size = sum(one.size for one in self.subpools if one.is_ready)
        most = math.ceil(len(self.queue) * subpool.size / size)
        tasks: list[Task] = []
        while self.queue and len(tasks) < most and subpool.has_room():
            task = self.queue.popleft()
            if task.number in task.job.tasks:  # not cancelled meanwhile
                task.serial = next(self._serials)
                subpool.accept(task)
                tasks.append(task)
        self.wake()
        return tasks

    def forget(self, task: Task) -> None:
        """Count a task as ended."""
        self._done += 1
        self._settle(task)
        full = self.is_full()
        self._bytes -= len(task.payload)
        if full and not self.is_full():
            self.changed.notify_all()

    @staticmethod
    def _settle(noted: Task | Job) -> None:
        """Give back what no worker will take any more."""
        if noted.notes and (here := place.here()) is not None:
            here.settle_notes(noted.notes)
            noted.notes = []

    def is_full(self) -> bool:
        """Return whether the unfinished tasks have as many bytes as may be."""
        return self._bytes >= _ROOM

    def ended(self, job: Job) -> None:
        """Take note that a job is complete."""
        self._settle(job)
        for subpool in self.subpools:
            subpool.forget(job.key)
        if self.closing:
            self.notify()

    def excess(self) -> int:
        """Return how many tasks wait at nodes while all their workers have one."""
        return sum(max(0, len(one.tasks) - one.size) for one in self.subpools)

    def balance(self) -> None:
        """Have busy nodes give back what idle ones can do."""
        if self.queue:
            return self.wake()
        idle = sum(one.idle for one in self.subpools)
        now = time.monotonic()
        for busy in self.subpools:
            excess = len(busy.tasks) - busy.size
            if not idle:
                break
            is_worth = busy.load > _WORTH * busy.size or now - busy.heard > SILENCE
            if excess > 0 and is_worth and not busy.is_asked:
                busy.is_asked = True
                count = min(excess, idle)
                busy.tell("back", count)
                idle -= count
        if idle and self.excess():
            # Its thread looks again if the busy ones stay silent.
            next(one for one in self.subpools if one.idle).wake()
        return None

    def stop_tasks(self, tasks: list[Task]) -> None:
        """Stop tasks that nodes have, with their workers if they are running."""
        serials = {task.serial for task in tasks}
        for subpool in self.subpools:
            of_node = [serial for serial in subpool.tasks if serial in serials]
            if of_node:
                subpool.tell("cancel", of_node, True)

    # What sub-pools tell, in their threads

    def told(self, subpool: SubPool, what: str, *arguments: Any) -> None:
        """Take note of what a sub-pool tells."""
        with self.changed:
            if what == "done":
                subpool.heard = time.monotonic()
                for result in arguments[0]:
                    self._end_task(subpool, *result)
            elif what == "answer":
                subpool.answered(*arguments)
            elif what == "workers":
                subpool.workers = arguments[0]
                self.changed.notify_all()
            elif what == "gave":
                subpool.is_asked = False
            elif what == "ready":
                subpool.has_begun = True
            if self.queue and subpool.has_room():
                subpool.wake()
            else:
                self.balance()
        if what == "broken":
            text, packed = arguments
            error = None if packed is None else Sealed(False, packed).open(None, 0)[1]  # type: ignore[arg-type]
            self.on_broken(f"{text} (on node {subpool.node})", error)

    def _end_task(
        self, subpool: SubPool, serial: int, how: int, seconds: float, value: Any
    ) -> None:
        task = subpool.release(serial)
        if task is None or task.number not in task.job.tasks:
            return None
        job = task.job
        task.serial = -1
        if how in (DONE, RAISED):
            if job.is_call:
                self.call_seconds = mean(self.call_seconds, seconds)
            else:
                job.item_seconds = mean(job.item_seconds, seconds / task.items)
            return job.conclude(task.number, Sealed(how == DONE, value))
        if how == GIVEN_BACK:
            return self.queue.appendleft(task)
        if how == WAS_CANCELLED:
            return job.conclude(task.number, CANCELLED)
        if how in (DIED, TIMED_OUT):
            if how == DIED and task.retries:
                return self._try_again(task)
            where = f" on node {subpool.node}"
            timeout, death = value
            return job.conclude(task.number, Death(task.payload, timeout, death, where))
        return job.conclude(task.number, Sealed(False, value))

    def _try_again(self, task: Task) -> None:
        task.retries -= 1
        self.queue.append(task)
        self.wake()

    def cut(self, subpool: SubPool) -> None:
        """Give a sub-pool no more tasks: the connection to it has ended."""
        with self.changed:
            subpool.end()
            self.wake()
            self.changed.notify_all()
        self.notify()

    def lose(self, subpool: SubPool, pid: int, exitcode: int) -> None:
        """Fail the tasks of a sub-pool whose process has ended, or have them tried again."""
        with self.changed:
            subpool.end()
            if subpool in self.subpools:
                self.subpools.remove(subpool)
            for serial in list(subpool.tasks):
                task = subpool.release(serial)
                if task is None or task.number not in task.job.tasks:
                    continue
                task.serial = -1
                if task.retries:
                    self._try_again(task)
                else:
                    where = f" (the pool's on node {subpool.node}, which is lost with its workers)"
                    death = pid, exitcode, False, None
                    task.job.conclude(task.number, Death(task.payload, None, death, where))
            self.wake()
            self.changed.notify_all()

    # The pool's end

    def close(self) -> None:
        """Accept no more tasks."""
        with self.changed:
            self.closing = True
            self.notify()
            self.changed.notify_all()

    def terminate(self, error: Callable[[], BaseException]) -> None:
        """Fail all unfinished tasks with `error()`."""
        with self.changed:
            self.closing = True
            self.error = self.error or error
            self.queue.clear()
            for job in self._jobs():
                job.stop(self.error)
            self.changed.notify_all()

    def is_idle(self) -> bool:
        """Return True if no task is unfinished and none can come."""
        with self.changed:
            return self.closing and not self._jobs()

    def _jobs(self) -> list[Job]:
        return [*self.jobs, *(job for job in util.living(self.unsealed) if job not in self.jobs)]

    def next_completed(self) -> int | None:
        """Wait for the next complete job of those to be announced; return its key.

        None if there will be none.
        """

        def is_over() -> bool:
            return self.closing and not any(job.announced for job in self._jobs())

        with self.changed:
            self.changed.wait_for(lambda: self.completed or is_over())
            return self.completed.popleft() if self.completed else None

    # Figures, and calls that ask the nodes

    def cancel_pending(self, tasks: list[Task]) -> list[Task]:
        """Cancel those of the tasks that no worker has begun, and return them."""
        cancelled = []
        asked: list[tuple[SubPool, list[int]]] = []
        with self.changed:
            for task in tasks:
                if task.serial < 0 and task.number in task.job.tasks:
                    task.job.conclude(task.number, CANCELLED)
                    cancelled.append(task)
            by_serial = {task.serial: task for task in tasks if task.serial >= 0}
            for subpool in self.subpools:
                of_node = [serial for serial in subpool.tasks if serial in by_serial]
                if of_node:
                    asked.append((subpool, of_node))
        for subpool, serials in asked:
            try:
                cancelled += [by_serial[one] for one in subpool.ask("cancel", serials, False)]
            except NodeLost:
                pass  # they fail as the node's other tasks do
        return cancelled

    def is_running(self, task: Task) -> bool:
        """Return whether a worker runs the task."""
        with self.changed:
            of_node = [one for one in self.subpools if task.serial in one.tasks]
        try:
            return any(one.ask("running", task.serial) for one in of_node)
        except NodeLost:
            return False

    def stats(self) -> Any:
        """Return the numbers of done, queued and running tasks, and the figures of each worker."""
        with self.changed:
            subpools = [one for one in self.subpools if one.is_ready]
            running = sum(min(one.size, len(one.tasks)) for one in subpools)
            queued = len(self.queue) + sum(len(one.tasks) for one in subpools) - running
            done = self._done
        workers = []
        for subpool in subpools:
            try:
                rows = subpool.ask("stats")
                workers += [((subpool.number, row[0]), *row[1:]) for row in rows]
            except NodeLost:
                pass  # it is being replaced
        return done, queued, running, workers
