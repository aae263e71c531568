"""Threads of the package's own, and what they wait for, that an interrupt cannot leave half done."""

from __future__ import annotations

import _thread
import threading

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Condition", "Event", "Thread"]

_PATIENCE = 1.0
"""Seconds that `join` waits for a start that was interrupted, and may not have come to the making of a thread."""


class Condition(threading.Condition):
    """A condition whose lock is held after a wait, whatever ended it. That of `threading` may not have it if an interrupt did."""

    def __init__(self) -> None:
        super().__init__(threading.RLock())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until notified, at most `timeout` seconds; whether it was. The lock must be held, once."""
        try:
            return super().wait(timeout)
        except BaseException:
            if not self._is_owned():  # type: ignore[attr-defined]
                self.acquire()
            raise


class Event(threading.Event):
    """An event for which a thread may wait that is interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self._cond = Condition()


class Thread(threading.Thread):
    """A daemonic thread. It starts from a thread where no signal handler runs: one that raised within `start` would break it."""

    def __init__(self, target: Any, name: str, args: tuple[Any, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)
        #: Free once the thread has started, or could not.
        self._begun = _thread.allocate_lock()

    def start(self) -> None:
        """Start it. RuntimeError if there is no thread to be had."""
        if threading.current_thread() is not threading.main_thread():
            super().start()
            return
        errors: list[BaseException] = []
        self._begun.acquire()
        _thread.start_new_thread(self._start_elsewhere, (errors,))
        with self._begun:
            pass
        if errors:
            raise errors.pop()

    def _start_elsewhere(self, errors: list[BaseException]) -> None:
        try:
            super().start()
        except BaseException as error:
            errors.append(error)
        finally:
            self._begun.release()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, at most `timeout` seconds; one that never started has."""
        if self._begun.acquire(timeout=_PATIENCE):
            self._begun.release()
        if self.ident is not None:
            super().join(timeout)
