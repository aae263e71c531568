"""The exceptions of procession, in a module of their own so that the extension can raise them without importing the rest."""

from __future__ import annotations

__all__ = [
    "AuthenticationError",
    "BrokenPool",
    "BufferTooShort",
    "OwnerDied",
    "ProcessError",
    "TimeoutError",
    "WorkerDied",
]


class ProcessError(Exception):
    """Base class of the exceptions that concern processes and what they share."""


class BufferTooShort(ProcessError):
    """A message does not fit into the buffer given to ``recv_bytes_into``; ``args[0]`` is the whole message."""


class TimeoutError(ProcessError):
    """A result did not arrive in time."""


class AuthenticationError(ProcessError):
    """The peer of a connection does not know the key."""


class OwnerDied(ProcessError):
    """The process that held a lock died holding it.

    The lock is free again, and whoever gets this error does not hold it. What the lock protects may be half changed.

    Attributes:
        pid: process identifier of the dead holder (0 when no longer known).
        name: its name (empty when no longer known).
    """

    def __init__(self, message: str = "the process that held the lock died", pid: int = 0, name: str = "") -> None:
        super().__init__(message, pid, name)
        self.pid = pid
        self.name = name

    def __str__(self) -> str:
        return str(self.args[0])


class WorkerDied(ProcessError):
    """A pool worker died while it ran a task.

    Attributes:
        pid: process identifier of the worker.
        exitcode: its exit code, negative for a signal (None when unknown).
        task: what it was doing, in words.
    """

    def __init__(self, message: str, pid: int = 0, exitcode: int | None = None, task: str = "") -> None:
        super().__init__(message, pid, exitcode, task)
        self.pid = pid
        self.exitcode = exitcode
        self.task = task

    @property
    def signal(self) -> int | None:
        """The number of the signal that killed the worker, or None."""
        return -self.exitcode if self.exitcode is not None and self.exitcode < 0 else None

    def __str__(self) -> str:
        return str(self.args[0])


class BrokenPool(ProcessError):
    """A pool's workers cannot be started: they end, again and again, before they take a task.

    ``__cause__`` is what the initializer raised, with the worker's traceback, if it did.
    """
