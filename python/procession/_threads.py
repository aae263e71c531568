"""The package's own threads, and what they wait for: an interrupt cannot leave these half done."""

from __future__ import annotations

import _thread
import sys
import threading
from collections import deque

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["Condition", "Event", "RLock", "Thread", "is_own", "report"]

_GRACE_PERIOD = 1.0
"""Seconds that `join` waits for an interrupted start, which may not have made its thread yet."""


def _is_in_threading() -> bool:
    """Return whether this thread holds the lock of `threading`, under a handler or finalizer."""
    return threading._active_limbo_lock._is_owned()  # type: ignore[attr-defined]


RLock: Any = _thread.RLock
"""A lock that a signal handler which raises does not leave held."""

if sys.version_info[:2] == (3, 14):

    class RLock(_thread.RLock):  # type: ignore[misc, no-redef]  # final in the stub alone
        """As `_thread.RLock`. On 3.14 alone, a `with` statement may run signal handlers when it has
        called `__enter__` and has not begun its block, unless that is a function of Python's.
        """

        def __enter__(self) -> bool:
            before = self._recursion_count()
            try:
                return self.acquire()  # a handler may run right after it
            except BaseException:
                if self._recursion_count() > before:
                    self.release()
                raise


class Condition(RLock, threading.Condition):
    """A condition that interrupts leave as it should be.

    It is its own lock, whose `with` statement is in C: with that of `threading.Condition`, which is
    in Python, a signal handler that raises leaves the lock held. After a wait the lock is always
    held, whatever ended the wait.
    """

    def __init__(self) -> None:
        # Not that of `threading.Condition`, which would refer to this object.
        self._waiters: deque[Any] = deque()

    def _at_fork_reinit(self) -> None:
        super()._at_fork_reinit()
        self._waiters.clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until notified, at most `timeout` seconds, and return whether it was notified.

        The lock must be held, exactly once.
        """
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        try:
            return threading.Condition.wait(self, timeout)
        except BaseException:
            if not self._is_owned():
                self.acquire()
            raise


class Event(threading.Event):
    """An event for threads that may be interrupted while they wait."""

    def __init__(self) -> None:
        super().__init__()
        self._cond = Condition()


class Thread(threading.Thread):
    """A daemonic thread.

    It is started from a thread where no signal handler runs: a handler that raises within `start`
    would break it. That other thread needs the lock of `threading`, so this does not hold where a
    signal handler or finalizer runs while the main thread has that lock.
    """

    def __init__(self, target: Any, name: str, args: tuple[Any, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)
        #: Released once the thread has started, or could not start.
        self._begun = _thread.allocate_lock()

    def start(self) -> None:
        """Start the thread. Raises RuntimeError if no thread can be started."""
        if threading.current_thread() is not threading.main_thread() or _is_in_threading():
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
        """Wait until the thread has ended, at most `timeout` seconds.

        A thread that never started counts as ended.
        """
        if self._begun.acquire(timeout=_GRACE_PERIOD):
            self._begun.release()
        if self.ident is not None:
            super().join(timeout)


def is_own() -> bool:
    """Return whether the calling thread is one of the package's.

    No signal handler runs there. So an exit or interrupt that is raised there comes from the
    program's code that the thread runs, and must not end the thread.
    """
    thread = threading.current_thread()
    # In a child that such a thread forked, it is the main thread.
    return isinstance(thread, Thread) and thread is not threading.main_thread()


def report(error: BaseException) -> None:
    """Report what the program's code raised in a thread that goes on. Raises nothing."""
    args = type(error), error, error.__traceback__
    try:
        threading.excepthook(threading.ExceptHookArgs((*args, threading.current_thread())))
    except BaseException:  # the program may have replaced it
        sys.__excepthook__(*args)
