"""Idle workers of an executor leave after a time.

A thread looks at the workers' figures. A worker leaves only if no call waits: the engine tells it to
leave once it is done with its current task, so a call that it took meanwhile is done. A call that
was queued meanwhile starts a worker: the thread that queues it compares the number of workers afterwards,
and `_look` lowers this number before it looks at the queue again.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from .._threads import Event, Thread

__all__: list[str] = []


class Idle:
    """The thread that lets the idle workers of an engine go."""

    def __init__(self, engine: Any, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        #: For each worker, the number of tasks that it had done, and since when that is so.
        self._seen: dict[int, tuple[int, float]] = {}
        #: Set when the engine has got its first worker again, or is closed.
        self._changed = Event()
        Thread(self._run, "ExecutorIdle").start()

    def look_again(self) -> None:
        """Make the thread look at the engine now."""
        self._changed.set()

    def _run(self) -> None:
        pause: float | None = self._seconds
        while not self._engine.closed:
            self._changed.wait(None if pause is None else min(pause, threading.TIMEOUT_MAX))
            self._changed.clear()
            pause = self._look()

    def _look(self) -> float | None:
        """Let idle workers go. Return the seconds until the next look, None if there is no worker."""
        engine, now = self._engine, time.monotonic()
        with engine.lock:
            if engine.closed:
                return None
            _, queued, _, workers = engine.pool._core.stats()
            staying = {p._worker_index: p for p in engine.pool._pool if not p._leaving}
            seen, self._seen = self._seen, {}
            for index, running, tasks, *_ in workers:
                if index in staying:
                    before = seen.get(index)
                    same = before is not None and before[0] == tasks and not running
                    self._seen[index] = before if same else (tasks, now)  # type: ignore[assignment]
            ends = {index: since + self._seconds for index, (_, since) in self._seen.items()}
            idle = [] if queued else [index for index, end in ends.items() if end <= now]
            if idle:
                engine.let_go([staying[index] for index in idle])
                if engine.pool._core.stats()[1]:
                    engine.keep_up()
            if not engine.started:
                return None
            return min(
                (end - now for index, end in ends.items() if end > now), default=self._seconds
            )
