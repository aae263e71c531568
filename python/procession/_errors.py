"""The exceptions of procession, and the error for a misspelt argument.

They have their own module so that the extension can raise them without importing the rest.
"""

from __future__ import annotations

import builtins
import functools
import sys
from _collections_abc import Callable

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _Function = TypeVar("_Function", bound=Callable[..., Any])
else:
    Any = _Function = object  # what `typing.get_type_hints` finds

__all__ = [
    "Abandoned",
    "ActorDied",
    "AuthenticationError",
    "BrokenPool",
    "BufferTooShort",
    "DeadlockError",
    "NodeLost",
    "OwnerDied",
    "ProcessError",
    "TaskCancelled",
    "TaskTimeout",
    "TimeoutError",
    "WorkerDied",
]


#: Classes that become subclasses of the standard library's class of the same name, and the modules
#: of those.
_apart: list[tuple[Any, str]] = []


def counterpart(module: str) -> Callable[[type], type]:
    """Make an exception class a subclass of its namesake in `multiprocessing.<module>`.

    This takes effect as soon as that module is loaded.
    """

    def note(cls: type) -> type:
        _apart.append((cls, f"multiprocessing.{module}"))
        return cls

    return note


def join_counterparts() -> None:
    """Carry out what `counterpart` asked for, for the modules loaded so far. Loads no module."""
    for cls, module in _apart[:]:
        theirs = getattr(sys.modules.get(module), cls.__name__, None)
        if theirs is not None and theirs is not cls and (cls, module) in _apart:
            _apart.remove((cls, module))
            cls.__bases__ = (*cls.__bases__, theirs)


class Sealed(Exception):
    """Raised by the extension for a shared collection whose content is elsewhere by now.

    Only managers seal one (`_managers.direct`).
    """


class Catchable(Exception):
    """An error that programs written for the standard library catch by that library's class.

    This also holds if that library is loaded after this package.
    """

    def __init__(self, *args: object) -> None:
        if _apart and "multiprocessing" in sys.modules:
            join_counterparts()
        # Bypasses the standard library's constructor, which may change the arguments. Its class is
        # a base for catching alone.
        Exception.__init__(self, *args)


@counterpart("context")
class ProcessError(Catchable):
    """The base class of the exceptions about processes and what they share."""


@counterpart("context")
class BufferTooShort(ProcessError):
    """A message does not fit into the buffer given to ``recv_bytes_into``.

    ``args[0]`` is the whole message.
    """


@counterpart("context")
class TimeoutError(ProcessError):
    """A result did not arrive in time."""


@counterpart("context")
class AuthenticationError(ProcessError):
    """The peer of a connection does not know the key."""


class Abandoned(ProcessError):
    """No process is left that could end a wait.

    Raised when the family's first process has died and every other process waits too, without a
    timeout. Each of these waits raises this error. A wait with a timeout, or in a process that may
    still do something else, is not ended in this way.
    """


class DeadlockError(ProcessError):
    """This wait is part of a deadlock: none of its threads can go on.

    Raised only after ``procession.deadlocks("raise")``, and in one of the deadlock's threads, by
    its call that waits for a lock. That lock is not acquired. The other threads go on when this one
    has released what it holds. The text says what waits for what, and since when.
    """


class ActorDied(ProcessError):
    """A call of an actor has no result, because the actor's process died or the actor has ended.

    If the actor's constructor raised an exception, ``__cause__`` is that exception with the
    traceback from there.

    Attributes:
        actor: the actor's name.
        method: the name of the method that was called (None when no method was).
        pid: process identifier of the process that died (0 when not known).
        exitcode: its exit code, negative for a signal (None when not known).
        final: whether the actor is dead for good. Otherwise it starts anew, without its state.
    """

    def __init__(
        self,
        message: str,
        actor: str = "",
        method: str | None = None,
        pid: int = 0,
        exitcode: int | None = None,
        final: bool = True,
    ) -> None:
        super().__init__(message, actor, method, pid, exitcode, final)
        self.actor = actor
        self.method = method
        self.pid = pid
        self.exitcode = exitcode
        self.final = final

    def __str__(self) -> str:
        return str(self.args[0])


#: On a cluster: returns pid and node of the process that this family knows by a pid and a name. For
#: a process of another node, these are its deputy's.
locate_holder: Callable[[int, str], tuple[int, str]] | None = None


class OwnerDied(ProcessError):
    """The process that held a lock died holding it, or the thread that held an `RLock` ended.

    The lock is free again. The caller that gets this error does not hold it, except after
    `Condition.wait`, where it does. The data that the lock protects may be half changed.

    Attributes:
        pid: process identifier of the dead holder (0 when no longer known).
        name: its name (empty when no longer known).
        object: what it held: "Lock" or "RLock".
        made: file and line where that was made, as "file:line" (None when not known).
        node: on a cluster, the name of the node where the holder was (otherwise empty).
        object_name: the name that the lock was made with (None for a lock without one).
    """

    def __init__(
        self,
        message: str = "the process that held the lock died",
        pid: int = 0,
        name: str = "",
        object: str = "",
        made: str | None = None,
        node: str = "",
        object_name: str | None = None,
    ) -> None:
        if pid and not node and locate_holder is not None:
            own, (pid, node) = pid, locate_holder(pid, name)
            message = message.replace(f"({own})", f"({pid} on node {node})", 1)
        super().__init__(message, pid, name, object, made, node, object_name)
        self.pid = pid
        self.name = name
        self.object = object
        self.made = made
        self.node = node
        self.object_name = object_name

    def __str__(self) -> str:
        return str(self.args[0])


class NodeLost(ProcessError):
    """A node of a cluster, or the connection to it, is gone, and what the call needs is there.

    If the connection broke in the middle of a call, the call may have been carried out.

    Attributes:
        node: the node's name.
    """

    def __init__(self, message: str, node: str = "") -> None:
        super().__init__(message, node)
        self.node = node

    def __str__(self) -> str:
        return str(self.args[0])


class WorkerDied(ProcessError):
    """A pool worker died while it ran a task.

    Attributes:
        pid: process identifier of the worker.
        exitcode: its exit code, negative for a signal (None when unknown).
        task: what it was doing, in words: the function, the number of the task, and its arguments
            as far as they are known.
        stack: where its Python code was, as text, if it could still report it (after a fault, not
            after SIGKILL); otherwise None.
        out_of_memory: whether the kernel ended a process for lack of memory when this one was
            killed.
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

    This is also a built-in TimeoutError. It is not a subclass of this package's TimeoutError, which
    says that a result is not ready yet and may be asked for again.

    Attributes:
        timeout: the limit in seconds.
        pid: process identifier of the worker.
        task: what it was doing, in words.
        stack: where its Python code was, as text, if it could still report it; otherwise None.
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
    """A pool's task was cancelled before it ended."""


class BrokenPool(ProcessError):
    """A pool's workers cannot start: again and again they end before they take a task.

    If the initializer raised an exception, ``__cause__`` is that exception with the worker's
    traceback.
    """


def names_misspelt(function: _Function) -> _Function:
    """Make a function's TypeError for an unknown keyword name the parameter that it resembles."""
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    *_, called = (part for part in function.__qualname__.split(".") if part != "__init__")

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in known:
                raise _misspelt(called, name, known)
        return function(*args, **kwargs)

    return checked  # type: ignore[return-value]


def _misspelt(called: str, name: str, known: tuple[str, ...]) -> TypeError:
    from difflib import get_close_matches

    close = get_close_matches(name, known[1:], 1)
    hint = f". Did you mean '{close[0]}'?" if close else ""
    return TypeError(f"{called}() got an unexpected keyword argument '{name}'{hint}")


# The names under which users find the classes; those of the standard library are in `context`.
for _public in (AuthenticationError, BufferTooShort, ProcessError, TimeoutError):
    _public.__module__ = f"{__package__}.context"
for _own in (
    Abandoned,
    ActorDied,
    BrokenPool,
    DeadlockError,
    NodeLost,
    OwnerDied,
    TaskCancelled,
    TaskTimeout,
    WorkerDied,
):
    _own.__module__ = __package__
join_counterparts()
