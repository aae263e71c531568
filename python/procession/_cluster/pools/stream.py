"""The calls of an executor on several nodes: the counterpart of `PoolStream`."""

from __future__ import annotations

from collections import deque

from .. import wire
from .core import Core
from .core import named as named_as
from .job import Job, Task

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


class _Call(Job):
    """A call, which is a job of its own; its stream takes the result."""

    stream: Stream
    future: Any = None

    def _look(self) -> None:
        super()._look()
        if self._complete() and self.future is not None:
            self.stream.completed(self)


class Stream:
    """Calls in progress, and their futures."""

    def __init__(self, core: Core, timeout: float | None, retries: int, priority: int) -> None:
        self._core = core
        self._options = timeout, retries, priority, None
        self._calls: dict[int, _Call] = {}
        self._ended: deque[_Call] = deque()
        self._closed = False

    def submit(self, future: Any, func: Any, args: Any, kwds: Any, own: Any = None) -> int | None:
        """Submit a call. Return its number, or None if the stream is closed.

        `own`: the call's timeout, retries, priority and name in errors, in place of the stream's.
        """
        core = self._core
        timeout, retries, priority, name = own or self._options
        error = None
        try:
            payload = wire.noting_dumps((func, args, kwds), retries > 0)
        except Exception as caught:
            error = caught
        with core.changed:
            if self._closed:
                return None
            called = func if name is None else named_as(func, name)
            job = core.call_of(_Call, func, (timeout, retries, priority, called))
            try:
                job.stream, job.future = self, future
                self._calls[job.key] = job
                if core.error is not None:
                    job.stop(core.error)
                elif error is not None:
                    job.refuse(error)
                else:
                    job.add([(*payload, 0)])
                    job.seal()
            except BaseException:
                # A signal handler has raised: nobody gets this future.
                self._calls.pop(job.key, None)
                job.cancel()
                raise
            return job.key

    def completed(self, job: _Call) -> None:
        """Take note that a call has ended. The lock is held."""
        self._ended.append(job)

    def take(self, limit: int) -> list[tuple[Any, bool, Any]]:
        """Wait for a result. Return up to `limit` of (future, success, value or exception).

        None if the stream is closed and all calls have ended.
        """
        with self._core.changed:
            jobs: list[_Call] = []
            while not jobs and (self._calls or not self._closed):
                self._core.changed.wait_for(self._has_news)
                while self._ended and len(jobs) < limit:
                    job = self._ended.popleft()
                    if self._calls.pop(job.key, None) is not None:
                        jobs.append(job)
        results = []
        for job in jobs:
            try:
                result = job.result()
                assert result is not None
            except BaseException as error:  # of what unpickles the result: sys.exit, for example
                result = False, error
            results.append((job.future, *result))
        return results

    def _has_news(self) -> bool:
        return bool(self._ended) or (self._closed and not self._calls)

    def _task(self, number: int) -> Task | None:
        job = self._calls.get(number)
        return None if job is None else job.tasks.get(0)

    def cancel(self, number: int, running: bool) -> bool:
        """Stop a call that has not begun, or with `running` one that has not ended.

        Return whether it is stopped.
        """
        with self._core.changed:
            task = self._task(number)
            if task is None:
                return False
            if running:
                return task.job.cancel() > 0
        return bool(self._core.cancel_pending([task]))

    def cancel_pending(self) -> list[Any]:
        """Stop the calls that no worker has begun. Return their futures."""
        with self._core.changed:
            futures = {key: job.future for key, job in self._calls.items()}
            tasks = [task for job in self._calls.values() for task in job.tasks.values()]
        cancelled = self._core.cancel_pending(tasks)
        return [futures[task.job.key] for task in cancelled if futures[task.job.key] is not None]

    def is_running(self, number: int) -> bool:
        """Return whether a worker runs the call."""
        task = self._task(number)
        return task is not None and self._core.is_running(task)

    def pending(self) -> int:
        """Return the number of calls whose results were not taken."""
        return len(self._calls)

    def close(self) -> None:
        """Declare that there are no more calls."""
        with self._core.changed:
            self._closed = True
            self._core.changed.notify_all()
