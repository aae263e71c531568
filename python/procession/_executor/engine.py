"""What outlives a dropped executor: its pool, the calls under way and the collecting thread."""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from .. import pool as _pool_face
from .. import util
from .._procession import PoolStream
from .._threads import RLock, Thread
from .errors import terminated
from .futures import complete
from .idle import Idle
from .map import Work

__all__: list[str] = []

#: Typed as Any for its private names: the stub shows only the public ones.
_pools: Any = _pool_face
#: Number of results that the collecting thread takes at a time.
_BATCH = 256


class _Pool(_pools.Pool):
    """A pool of the engine, even if a program has changed the pool's module."""

    _can_be_changed = False
    _outlives_exits = True


class Engine:
    """What outlives a dropped executor: its pool, the calls under way and the collecting thread."""

    def __init__(self, pool: Any, most: int, idle_timeout: float | None) -> None:
        self.pool = pool
        #: How many workers there are, and how many there may be.
        self.started: int = pool._processes
        self.most = most
        self.closed = False
        # The scheduler of a pool on several nodes makes its own.
        make = getattr(pool._core, "stream", None) or functools.partial(PoolStream, pool._core)
        self.stream: PoolStream = make(*pool._options.for_tasks)
        #: Maps with results that may still be taken.
        self.maps: weakref.WeakSet[Work] = weakref.WeakSet()
        #: Held while the number of workers changes.
        self.lock = util.free_in_child(RLock())
        self._stopping = False
        self._idle: Idle | None = None
        self.thread = Thread(self._collect, "ExecutorResults")
        self.thread.start()
        _engines.add(self)
        if idle_timeout is not None:
            self._idle = Idle(self, idle_timeout)

    @staticmethod
    def pool_of(size: int, *arguments: Any, **options: Any) -> Any:
        """Return a new pool for an engine."""
        return _Pool(size, *arguments, **options)

    def _collect(self) -> None:
        while results := self.stream.take(_BATCH):
            while results:
                complete(*results.pop())
        if self._stopping:
            self.pool.terminate()
        else:
            self.pool.close()
        self.pool.join()
        _engines.discard(self)

    def grow(self, wanted: int) -> bool:
        """Start one more worker if there is work for it; return whether that was so.

        Calls that were taken before the engine was closed need a worker still.
        """
        with self.lock:
            enough = self.started >= min(wanted, self.most)
            if enough or (self.closed and self.started):
                return False
            workers = self.pool._pool_workers
            try:
                self.started += 1
                if self._idle is not None and self.started == 1:
                    self._idle.look_again()  # it waits for the lock
                workers.resize(self.started)
            finally:
                # A signal may interrupt all this: the watching thread starts what is missing of
                # the size that the workers have got.
                self.started = self.pool._processes = workers._size
            return True

    def grow_to(self, wanted: int) -> None:
        """Start workers for so many tasks, as far as there may be more."""
        while self.started < min(wanted, self.most) and self.grow(wanted):
            pass

    def keep_up(self) -> None:
        """Start workers for what is unfinished, in a thread of the package.

        If that fails, the thread that watches the workers tries again, and breaks the pool if there
        is none.
        """
        try:
            if self.started < self.most:
                self.grow_to(self.unfinished())
        except BaseException as error:
            util.warn("cannot start a worker: %r", error)

    def unfinished(self) -> int:
        """Return the number of tasks, of calls and maps, that need a worker each."""
        _, queued, running, _ = self.pool._core.stats()
        return max(self.stream.pending(), queued + running)

    def let_go(self, workers: list[Any]) -> None:
        """Let these workers leave when they are done with their current task."""
        with self.lock:
            self.started -= len(workers)
            self.pool._pool_workers.let_go(workers)

    def resize(self, size: int) -> None:
        """Change the number of workers, now and at most.

        If idle ones leave, more start only as they are needed.
        """
        with self.lock:
            self.most = size
            if self._idle is None or self.started > size:
                self.started = size
                self.pool.resize(size)

    def close(self, _executor: object = None) -> None:
        """Accept no more calls; those under way run to their end."""
        if self.pool._pid == os.getpid():
            # Without the lock: a finalizer in the thread that watches the workers may be here, and
            # that thread may hold what `grow` waits for.
            self.closed = True
            if self._idle is not None:
                self._idle.look_again()
            self.stream.close()
            for work in util.living(self.maps):
                work.end()
            self.pool.close()

    def cancel_pending(self) -> None:
        """Cancel the calls that no worker has begun."""
        futures = self.stream.cancel_pending()
        for work in util.living(self.maps):
            work.job.cancel_pending()
        # If a callback raises an error here, the collecting thread cancels the rest.
        for future in futures:
            future._be_cancelled()

    def stop(self, signal_worker: Callable[[Any], None]) -> None:
        """End the workers at once."""
        if self.pool._pid != os.getpid():
            return
        self._stopping = True
        self.stream.close()
        self.pool._core.terminate(terminated)
        for process in list(self.pool._pool):
            if process.exitcode is None:
                signal_worker(process)


#: The engines at work. The interpreter waits for them before it ends.
_engines: set[Engine] = set()
_exiting = False


def is_exiting() -> bool:
    """Return whether the interpreter ends, so that no call may begin."""
    return _exiting


def _at_exit() -> None:
    global _exiting
    _exiting = True
    engines = list(_engines)
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    for engine in engines:
        if interrupted:
            engine.stop(lambda process: process.terminate())
        else:
            engine.close()
    for engine in engines:
        engine.thread.join()


# Run before the interpreter joins its threads; functions given to `atexit` run after that.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
# A forked child has neither the threads nor the workers.
os.register_at_fork(after_in_child=_engines.clear)
