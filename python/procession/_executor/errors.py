"""The exceptions of `ProcessPoolExecutor`.

They are subclasses of the errors that users of `concurrent.futures` already catch.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool

from .. import _errors

__all__: list[str] = []


class WorkerDied(_errors.WorkerDied, BrokenProcessPool):
    """A worker died while it ran a task.

    This is a `BrokenProcessPool` for programs that catch that, but the executor goes on.
    """


class BrokenPool(_errors.BrokenPool, BrokenProcessPool):
    """An executor's workers cannot start, or were terminated: it cannot be used any more."""


class TaskCancelled(_errors.TaskCancelled, concurrent.futures.CancelledError):
    """A task of a `map` was cancelled, by `shutdown(cancel_futures=True)`, before it had begun."""


def terminated() -> BrokenPool:
    return BrokenPool("the executor's workers were terminated before the call was done")


def recognisable(error: BaseException) -> BaseException:
    """Turn the error of a pool into the subclass that users of `concurrent.futures` catch."""
    kind = _KINDS.get(type(error))
    if kind is None:
        return error
    made = kind(*error.args)
    made.__dict__.update(error.__dict__)
    made.__cause__ = error.__cause__
    return made


_KINDS: dict[type, Callable[..., BaseException]] = {
    _errors.WorkerDied: WorkerDied,
    _errors.BrokenPool: BrokenPool,
    _errors.TaskCancelled: TaskCancelled,
}
