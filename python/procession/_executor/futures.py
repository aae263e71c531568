"""The future of a call that was given to an executor."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Generator
from concurrent.futures import InvalidStateError
from concurrent.futures._base import CANCELLED
from typing import Any, TypeVar

from .. import _errors
from .._procession import PoolStream
from .._threads import Condition, report
from .errors import recognisable

__all__: list[str] = []

_T = TypeVar("_T")


class Future(concurrent.futures.Future[_T]):
    """The result of a call that was given to an executor."""

    #: Stops the call, while it has not ended.
    _stream: PoolStream | None = None
    _number = 0

    def __init__(self) -> None:
        super().__init__()
        # A signal handler may raise while a thread waits, and must not leave the lock held.
        self._condition = Condition()

    def cancel(self, *, running: bool = False) -> bool:
        """Cancel the call if no worker has begun it; return whether it is cancelled.

        `running`: cancel it also if it is running. Its worker is then stopped and replaced, and no
        other call is disturbed.
        """
        stream = self._stream
        if stream is not None and stream.cancel(self._number, running):
            self._be_cancelled()
        return self.cancelled()

    def __await__(self) -> Generator[Any, None, _T]:
        """Wait for the result without blocking the event loop of asyncio.

        If the task that waits is cancelled, the call is, too, unless a worker has begun it: then it
        goes on, and its worker with it.
        """
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def _be_cancelled(self) -> None:
        """Cancel a future whose call was cancelled; another thread may do the same."""
        try:
            super().cancel()
        finally:  # a callback may raise an error
            with self._condition:
                if self._state == CANCELLED:
                    self.set_running_or_notify_cancel()

    def running(self) -> bool:
        """Return whether a worker is running the call."""
        stream = self._stream
        return not self.done() and stream is not None and stream.is_running(self._number)


def complete(future: Future[Any], success: bool, value: Any) -> None:
    """Complete a future, unless it is cancelled."""
    future._stream = None
    try:
        if success:
            future.set_result(value)
        elif type(value) is _errors.TaskCancelled and value.__cause__ is None:
            # By this process: an error that the call itself raised has a cause, its traceback. The
            # thread that cancelled the call may not have come to its future yet.
            future._be_cancelled()
        else:
            future.set_exception(recognisable(value))
    except InvalidStateError:
        pass  # cancelled
    except BaseException as error:
        # Raised by a callback of this future; the other futures still complete.
        report(error)


# The name under which users find it.
Future.__module__ = f"{__package__}.executor"
