"""The workers of a pool: started, watched, replaced, stopped.

A thread sleeps until a worker ends. It is needed for nothing else: tasks and results pass between the engine and whoever asks.
"""

from __future__ import annotations

import os
import select
import threading
import time

from . import util
from ._errors import BrokenPool, ProcessError
from ._pool_worker import worker
from ._procession import PoolCore

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__: list[str] = []

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"

#: Seconds a worker has to end after SIGTERM, before SIGKILL.
_GRACE = 1.0
#: Workers killed by a signal in a row, none of them ready, before a pool counts as broken.
_KILLED_LIMIT = 20
#: Seconds before workers are replaced again when the last ones did not become ready.
_PAUSE = 0.5


def terminated() -> ProcessError:
    """What calls raise whose pool was terminated before they were done."""
    return ProcessError("the pool was terminated before the task was done")


class Crew:
    """A pool's workers, apart from the pool, so that the watching thread does not keep the pool alive."""

    def __init__(
        self, core: PoolCore, start: Callable[..., Any], size: int, arguments: tuple[Any, ...]
    ) -> None:
        self.core = core
        self.workers: list[Any] = []
        #: The error of a pool whose workers cannot start.
        self.broken: Callable[[], BaseException] | None = None
        self._start = start
        self._size = size
        self._arguments = arguments
        self._state = RUN
        #: Workers in a row that ended before they were ready.
        self._failures = 0
        self._lock = threading.RLock()
        self._notice = -1
        self._thread: threading.Thread | None = None

    def repopulate(self) -> None:
        """Bring the number of workers up to the pool's size."""
        with self._lock:
            for _ in range(self._size - len(self.workers)):
                place = self.core.enlist()
                try:
                    process = self._start(
                        target=worker, args=(self.core.handle, place, *self._arguments)
                    )
                    process.name = process.name.replace("Process", "PoolWorker")
                    process.daemon = process._config["nests"] = True
                    process.start()
                except BaseException:
                    self.core.bury(place, 0, 0)
                    raise
                process._place = place
                self.workers.append(process)
                util.debug("added worker")

    def watch(self) -> None:
        """Start the thread that replaces workers."""
        self._notice = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._watch, name="PoolCrew", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        try:
            pause = self._tend()
            while pause is not None:
                ends = select.poll()
                for fd in [self._notice, *(process.sentinel for process in self.workers)]:
                    ends.register(fd, select.POLLIN)
                ends.poll(pause * 1000 if pause else None)
                try:
                    os.eventfd_read(self._notice)
                except BlockingIOError:
                    pass
                pause = self._tend()
        finally:
            with self._lock:
                os.close(self._notice)
                self._notice = -1
        util.debug("pool crew's watch exiting")

    def _tend(self) -> float | None:
        """Bury, replace. Return in how many seconds to look again (0: when something happens), None: the watch is over."""
        with self._lock:
            self._bury_ended()
            if self._state == TERMINATE or self.broken:
                return None
            if not self.core.needs_workers():
                # Closed, and nothing is left in line: the workers leave when they are done.
                return 0 if self.workers else None
            if self._failures and not self._may_go_on():
                return _PAUSE if self.workers else None
            try:
                self.repopulate()
            except Exception as error:
                util.warn("cannot start a worker: %r", error)
                self._failures += 1
                if not self.workers:
                    self._break(f"a pool's worker cannot be started: {error!r}", error)
                    return None
                return _PAUSE
            return 0

    def _bury_ended(self) -> None:
        for process in [process for process in self.workers if process.exitcode is not None]:
            process.join()
            self.workers.remove(process)
            ready, error = self.core.bury(process._place, process.pid, process.exitcode)
            util.debug("cleaned up worker %s", process.name)
            self._failures = 0 if ready else self._failures + 1
            if not ready:
                self._last_failure = (process.exitcode, error)

    def _may_go_on(self) -> bool:
        """Whether to replace workers although the last ones did not become ready. Breaks the pool when that is hopeless."""
        exitcode, error = self._last_failure
        limit = 2 * self._size + 1 if error is not None or exitcode >= 0 else _KILLED_LIMIT
        if self._failures < limit:
            return True
        if any(self.core.is_ready(process._place) for process in self.workers):
            # The others can work: leave it at them for a while.
            self._failures = limit - 1
            return False
        if error is not None:
            text = f"the pool's workers cannot start: the initializer raised {error!r}"
        else:
            text = f"the pool's workers cannot start: {self._failures} in a row ended before they were ready, the last with exit code {exitcode}"
        self._break(text, error)
        return False

    def _break(self, text: str, error: BaseException | None) -> None:
        def broken() -> BrokenPool:
            result = BrokenPool(text)
            result.__cause__ = error
            return result

        self.broken = broken
        self.core.terminate(broken)
        for process in self.workers:
            process.terminate()

    def close(self) -> None:
        """Let the workers leave when all is done."""
        self._state = CLOSE
        self.core.close()
        self._notify()

    def _notify(self) -> None:
        with self._lock:
            if self._notice >= 0:
                os.eventfd_write(self._notice, 1)

    def join(self) -> None:
        """Wait until the watch is over and the workers have ended."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        for process in list(self.workers):
            process.join()

    def stop(self) -> None:
        """End the workers at once."""
        util.debug("terminating pool's workers")
        self._state = TERMINATE
        self.core.terminate(terminated)
        self._notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        running = [process for process in self.workers if process.exitcode is None]
        for process in running:
            process.terminate()
        end = time.monotonic() + _GRACE
        for process in running:
            process.join(max(0.0, end - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
