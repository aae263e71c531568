"""The workers of a pool: started, watched, replaced, stopped.

A thread sleeps until a worker ends. It takes no part in the pool's traffic: the engine passes tasks
and results directly between the workers and the threads that call the pool.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import select
import signal
import threading
import time
from _collections_abc import Callable, Iterator

from .. import util
from .._errors import BrokenPool, ProcessError
from .._procession import PoolCore
from .._threads import RLock, Thread
from .deaths import OutOfMemory, Stacks
from .errors import _safe_repr
from .worker import worker

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"

#: Seconds that an idle worker has to leave on its own before SIGTERM.
_GRACE_PERIOD = 0.2
#: Seconds that a worker has to end after SIGTERM before SIGKILL.
_GRACE = 1.0
#: A pool without a ready worker is broken when this many workers in a row (or as many as the pool
#: has, if that is more) failed in their initializer,
_FAULTS = 3
#: or when this many for each of its workers were killed before they reached it.
_FAILURES = 20
#: Seconds before workers are replaced again when the last ones did not become ready.
_PAUSE = 0.5
#: The attribute of errors of a pool that its process ended at exit: the process's identifier.
_ENDED_IN = "_ended_in"


def terminated() -> ProcessError:
    """Return the error of calls that were not done when their pool was terminated."""
    return ProcessError("the pool was terminated before the task was done")


def _ended_by_exit() -> ProcessError:
    error = terminated()
    error.__dict__[_ENDED_IN] = os.getpid()
    return error


def why_ended() -> Callable[[], ProcessError]:
    """Return what makes the errors of unfinished calls of a pool that is to be terminated now."""
    return _ended_by_exit if util.is_exiting() else terminated


def is_of_exit(error: BaseException) -> bool:
    """Return whether the error says that this process ended the pool at its own end."""
    return error.__dict__.get(_ENDED_IN) == os.getpid()


def broken_by(text: str, error: BaseException | None) -> Callable[[], BrokenPool]:
    """Return a function that makes the error of each task that a broken pool leaves undone."""

    def broken() -> BrokenPool:
        result = BrokenPool(text)
        result.__cause__ = error
        return result

    return broken


@contextlib.contextmanager
def broken_by_errors(
    break_pool: Callable[[str, BaseException | None], object],
) -> Iterator[None]:
    """Break a pool if its watch ends by an error: calls would wait for ever."""
    try:
        yield
    except BaseException as error:
        break_pool(f"a pool's workers can no longer be watched: {_safe_repr(error)}", error)
        raise


def as_worker(process: Any) -> Any:
    """Give a process or thread what all workers have, and return it."""
    process.name = process.name.replace("Process", "PoolWorker")
    process.daemon = True
    # It may have children nevertheless. A user-defined context may return something that is not a
    # process of this package.
    getattr(process, "_config", {})["nests"] = True
    return process


def undo_start(process: Any, workers: list[Any]) -> None:
    """End a worker when its start, or the record of it, was interrupted."""
    if process in workers:
        workers.remove(process)
    # A user-defined context may return something that is not a process of this package.
    if getattr(process, "_popen", None) is not None:
        process.kill()
        process.join()


def workers_now(workers: Any) -> int:
    """Return the number of workers that are known. A list of a cluster's waits for those that start."""
    return len(getattr(workers, "known", workers))


class WatchedWorkers:
    """A pool's workers, which a thread watches.

    They are apart from the pool, so that this thread does not keep the pool alive.
    """

    def __init__(
        self, core: Any, start: Callable[..., Any], size: int, arguments: tuple[Any, ...]
    ) -> None:
        self.core = core
        self.workers: list[Any] = []
        #: Makes the error of a pool if its workers cannot start.
        self.broken: Callable[[], BaseException] | None = None
        self._start = start
        self._size = size
        self._arguments = arguments
        self._state = RUN

    def _wait(self, notice: int, seconds: float) -> None:
        """Wait until a worker ends, `notice` is readable (and read it), or the time is over."""
        ends = select.poll()
        for fd in [notice, *(process.sentinel for process in self.workers)]:
            ends.register(fd, select.POLLIN)
        ends.poll(None if math.isinf(seconds) else math.ceil(seconds * 1000))
        try:
            os.eventfd_read(notice)
        except BlockingIOError:
            pass

    def _break(self, text: str, error: BaseException | None) -> None:
        self.broken = broken_by(text, error)
        self.core.terminate(self.broken)
        for process in self.workers:
            process.terminate()


class Workers(WatchedWorkers):
    """The workers of a pool whose tasks the engine distributes."""

    core: PoolCore

    def __init__(
        self,
        core: PoolCore,
        start: Callable[..., Any],
        size: int,
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> None:
        super().__init__(core, start, size, arguments)
        self._options = options
        self._stacks = Stacks()
        self._out_of_memory: OutOfMemory | None = None
        #: Workers that were told to end, and the time at which each is killed.
        self._ending: dict[Any, float] = {}
        #: The number of workers in a row that ended before they were ready, the number of those
        #: that ended on their own, and the last one's exit code and error.
        self._failures = self._faults = 0
        self._last_failure: tuple[int, BaseException | None] = (0, None)
        self._lock = util.free_in_child(RLock())
        self._thread: Thread | None = None

    def repopulate(self) -> None:
        """Bring the number of workers up to the pool's size."""
        with self._lock:
            leaving = sum(process._leaving for process in self.workers)
            for _ in range(self._size + leaving - len(self.workers)):
                if self._state == TERMINATE:
                    return
                worker_index, process = self.core.enlist(), None
                index = self._free_index()
                try:
                    process = self._start(
                        target=worker,
                        args=(self.core.handle, worker_index, self._stacks.path, *self._arguments),
                        kwargs={**self._options, "index": index},
                    )
                    as_worker(process)
                    process._index = index
                    process._worker_index, process._leaving = worker_index, False
                    process.start()
                    self.workers.append(process)
                except BaseException:
                    undo_start(process, self.workers)
                    self.core.reap(worker_index, 0, 0)
                    raise
                if self._state == TERMINATE:
                    # By a signal handler or finalizer in this thread, during the start.
                    undo_start(process, self.workers)
                    self.core.reap(worker_index, 0, 0)
                    return
                util.debug("added worker")

    def _free_index(self) -> int:
        """Return the smallest number from 0 that no worker has."""
        used = {process._index for process in self.workers}
        return next(index for index in itertools.count() if index not in used)

    def resize(self, size: int) -> None:
        """Change the number of workers: start some, or make some leave."""
        try:
            with self._lock:
                self._size = size
                staying = [process for process in self.workers if not process._leaving]
                # Idle workers leave first.
                staying.sort(key=lambda process: self.core.is_busy(process._worker_index))
                for process in staying[: max(0, len(staying) - size)]:
                    process._leaving = True
                    self.core.dismiss(process._worker_index)
                self.repopulate()
        finally:
            # The watching thread must watch the new ones too, and start those whose start was
            # interrupted here. No Python function is called: a signal could interrupt its begin.
            os.eventfd_write(self.core.notice, 1)

    def let_go(self, processes: list[Any]) -> None:
        """Make these workers leave when they are done with their current task."""
        with self._lock:
            self._size -= len(processes)
            for process in processes:
                process._leaving = True
                self.core.dismiss(process._worker_index)

    def watch(self) -> None:
        """Start the thread that replaces workers."""
        self._thread = Thread(self._watch, "PoolWorkers")
        self._thread.start()

    def _watch(self) -> None:
        self._out_of_memory = OutOfMemory()
        with broken_by_errors(self._break):
            while (pause := self._maintain()) is not None:
                self._wait(self.core.notice, pause)
        util.debug("pool's watch exiting")

    def _maintain(self) -> float | None:
        """Reap ended workers, stop overdue ones and replace them.

        Return the number of seconds after which to look again, or None when the watch is over.
        """
        with self._lock:
            self._reap_ended()
            if self._state == TERMINATE or self.broken:
                return None
            pause = self._stop_overdue()
            if not self.core.needs_workers():
                # The pool is closed and its queue is empty: the workers leave when they are done.
                return pause if self.workers else None
            if self._failures and not self._may_go_on():
                return min(pause, _PAUSE) if self.workers else None
            if not self._size and self.core.stats()[1]:
                # All were let go, and tasks came meanwhile, or the last one died and its task is
                # tried again.
                self._size = 1
            try:
                self.repopulate()
            except BaseException as error:
                util.warn("cannot start a worker: %r", error)
                if not self.workers:
                    self._break(f"a pool's worker cannot be started: {_safe_repr(error)}", error)
                    return None
                return min(pause, _PAUSE)
            return pause

    def _stop_overdue(self) -> float:
        """Stop the workers of overdue tasks. Return the seconds until the next look."""
        worker_indexes, again = self.core.overdue()
        now = time.monotonic()
        for process in self.workers:
            if process._worker_index in worker_indexes:
                process.terminate()
                # A stopped process handles SIGTERM only once it continues.
                process._popen._send_signal(signal.SIGCONT)
                self._ending[process] = now + _GRACE
        for process, end in list(self._ending.items()):
            if end <= now:
                process.kill()
                del self._ending[process]
        left = [end - now for end in self._ending.values()]
        return min([*left, math.inf if again is None else again])

    def _reap_ended(self) -> None:
        for process in [process for process in self.workers if process.exitcode is not None]:
            process.join()
            self.workers.remove(process)
            self._ending.pop(process, None)
            worker_index, exitcode = process._worker_index, process.exitcode
            killed = exitcode == -signal.SIGKILL and self._out_of_memory is not None
            begun, ready, error = self.core.reap(
                worker_index,
                process.pid,
                exitcode,
                killed and self._out_of_memory.happened(),  # type: ignore[union-attr]
                self._stacks.take(worker_index),
            )
            util.debug("cleaned up worker %s", process.name)
            if ready:
                self._failures = self._faults = 0
            else:
                self._failures += 1
                self._faults += exitcode >= 0 or (begun and self._arguments[0] is not None)
                self._last_failure = (exitcode, error)

    def _may_go_on(self) -> bool:
        """Return whether to replace workers although the last ones did not become ready.

        Breaks the pool when that is hopeless.
        """
        faults, failures = max(_FAULTS, self._size), _FAILURES * self._size
        if self._faults < faults and self._failures < failures:
            return True
        if any(self.core.is_ready(process._worker_index) for process in self.workers):
            # The other workers can serve the pool: leave it at them for a while.
            self._faults = min(self._faults, faults - 1)
            self._failures = min(self._failures, failures - 1)
            return False
        exitcode, error = self._last_failure
        if error is not None:
            text = f"the pool's workers cannot start: the initializer raised {error!r}"
        else:
            text = f"the pool's workers cannot start: {self._failures} in a row ended before they were ready, the last with exit code {exitcode}"
        self._break(text, error)
        return False

    def close(self) -> None:
        """Let the workers leave when all tasks are done."""
        self._state = CLOSE
        self.core.close()

    def _notify(self) -> None:
        os.eventfd_write(self.core.notice, 1)

    def join(self) -> None:
        """Wait until the watch is over and the workers have ended."""
        self._join_watch()
        for process in list(self.workers):
            process.join()

    def _join_watch(self) -> None:
        if self._thread is not None and not self.is_at_work():
            self._thread.join()

    def is_at_work(self) -> bool:
        """Return whether this thread is starting or reaping workers.

        If so, the caller is a signal handler or finalizer in the middle of that. It must not wait
        for the watch, which waits for this thread.
        """
        return self._thread is threading.current_thread() or self._lock._is_owned()

    def _give_up(self) -> None:
        self._state = TERMINATE
        self.core.terminate(why_ended())
        self._join_watch()

    def abandon(self) -> None:
        """Undo a pool after its construction failed.

        A user's context may have made other processes.
        """
        self._give_up()
        for process in self.workers:
            if process.exitcode is None:
                process.terminate()
        for process in self.workers:
            process.join()

    def stop(self) -> None:
        """End the workers at once."""
        util.debug("terminating pool's workers")
        self._give_up()
        running = [process for process in self.workers if process.exitcode is None]
        idle = []
        for process in running:
            worker_index = process._worker_index
            if self.core.is_ready(worker_index) and not self.core.is_busy(worker_index):
                idle.append(process)
            else:
                process.terminate()
        # Idle workers leave on their own, and first finish what they must do at exit, such as
        # writing measured coverage.
        end = time.monotonic() + (_GRACE if "worker_exit" in self._options else _GRACE_PERIOD)
        for process in idle:
            process.join(max(0.0, end - time.monotonic()))
            if process.exitcode is None:
                process.terminate()
        end = time.monotonic() + _GRACE
        # Ended workers are joined too: until then a process counts as a child and is kept.
        for process in self.workers:
            process.join(max(0.0, end - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
