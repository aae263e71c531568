"""The exceptions of procession, in a module of their own so that the extension can raise them without importing the rest."""

from __future__ import annotations

import builtins
import sys

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "Abandoned",
    "AuthenticationError",
    "BrokenPool",
    "BufferTooShort",
    "OwnerDied",
    "ProcessError",
    "TaskCancelled",
    "TaskTimeout",
    "TimeoutError",
    "WorkerDied",
]


#: Classes that are to be subclasses of the standard library's of the same name, and the modules of those.
_apart: list[tuple[Any, str]] = []


def counterpart(module: str) -> Callable[[type], type]:
    """Make an exception class a subclass of the one of its name in `multiprocessing.<module>`, as soon as that is loaded."""

    def note(cls: type) -> type:
        _apart.append((cls, f"multiprocessing.{module}"))
        return cls

    return note


def join_counterparts() -> None:
    """Do what `counterpart` says for what is loaded by now. Nothing is loaded for it."""
    for cls, module in _apart[:]:
        theirs = getattr(sys.modules.get(module), cls.__name__, None)
        if theirs is not None and theirs is not cls and (cls, module) in _apart:
            _apart.remove((cls, module))
            cls.__bases__ = (*cls.__bases__, theirs)


class Catchable(Exception):
    """What a program that knows the standard library alone catches by that library's class, also if it is loaded after this package."""

    def __init__(self, *args: object) -> None:
        if _apart and "multiprocessing" in sys.modules:
            join_counterparts()
        # Not the standard library's constructor, which may change the arguments: its class is a base for catching alone.
        Exception.__init__(self, *args)


@counterpart("context")
class ProcessError(Catchable):
    """Base class of the exceptions that concern processes and what they share."""


@counterpart("context")
class BufferTooShort(ProcessError):
    """A message does not fit into the buffer given to ``recv_bytes_into``; ``args[0]`` is the whole message."""


@counterpart("context")
class TimeoutError(ProcessError):
    """A result did not arrive in time."""


@counterpart("context")
class AuthenticationError(ProcessError):
    """The peer of a connection does not know the key."""


class Abandoned(ProcessError):
    """Nobody is left to end a wait: the family's first process died, and every other one waits too, without a timeout.

    Each of them gets this error. What only waits and has a timeout, or may do something else, is not ended so.
    """


class OwnerDied(ProcessError):
    """The process that held a lock died holding it, or the thread that held an `RLock` ended.

    The lock is free again, and whoever gets this error does not hold it (but after `Condition.wait` it does). What the lock protects may be
    half changed.

    Attributes:
        pid: process identifier of the dead holder (0 when no longer known).
        name: its name (empty when no longer known).
        object: what it held: "Lock" or "RLock".
        made: file and line where that was made, as "file:line" (None when not known).
    """

    def __init__(
        self,
        message: str = "the process that held the lock died",
        pid: int = 0,
        name: str = "",
        object: str = "",
        made: str | None = None,
    ) -> None:
        super().__init__(message, pid, name, object, made)
        self.pid = pid
        self.name = name
        self.object = object
        self.made = made

    def __str__(self) -> str:
        return str(self.args[0])


class WorkerDied(ProcessError):
    """A pool worker died while it ran a task.

    Attributes:
        pid: process identifier of the worker.
        exitcode: its exit code, negative for a signal (None when unknown).
        task: what it was doing, in words: the function, the task's number, its arguments as far as they are known.
        stack: where its Python code was, as text, when it could still say so (after a fault, not after SIGKILL); else None.
        out_of_memory: whether the kernel ended a process for want of memory when this one was killed.
    """

    def __init__(
        self,
        message: str,
        pid: int = 0,
        exitcode: int | None = None,
        task: str = "",
        stack: str | None = None,
        out_of_memory: bool = False,
    ) -> None:
        super().__init__(message, pid, exitcode, task, stack, out_of_memory)
        self.pid = pid
        self.exitcode = exitcode
        self.task = task
        self.stack = stack
        self.out_of_memory = out_of_memory

    @property
    def signal(self) -> int | None:
        """The number of the signal that killed the worker, or None."""
        return -self.exitcode if self.exitcode is not None and self.exitcode < 0 else None

    def __str__(self) -> str:
        return str(self.args[0])


class TaskTimeout(ProcessError, builtins.TimeoutError):
    """A pool's task took longer than `task_timeout`, and its worker was stopped.

    Also a built-in TimeoutError. Not this package's: that says that a result is not there yet, and may be asked for again.

    Attributes:
        timeout: the seconds it might have taken.
        pid: process identifier of the worker.
        task: what it was doing, in words.
        stack: where its Python code was, as text, when it could still say so; else None.
    """

    def __init__(
        self,
        message: str,
        timeout: float = 0.0,
        pid: int = 0,
        task: str = "",
        stack: str | None = None,
    ) -> None:
        super().__init__(message, timeout, pid, task, stack)
        self.timeout = timeout
        self.pid = pid
        self.task = task
        self.stack = stack

    def __str__(self) -> str:
        return str(self.args[0])


class TaskCancelled(ProcessError):
    """A pool's task was cancelled before it had ended."""


class BrokenPool(ProcessError):
    """A pool's workers cannot be started: they end, again and again, before they take a task.

    ``__cause__`` is what the initializer raised, with the worker's traceback, if it did.
    """


# Named where users find them; the standard library's stand in its `context`.
for _public in (AuthenticationError, BufferTooShort, ProcessError, TimeoutError):
    _public.__module__ = f"{__package__}.context"
for _own in (Abandoned, BrokenPool, OwnerDied, TaskCancelled, TaskTimeout, WorkerDied):
    _own.__module__ = __package__
join_counterparts()
