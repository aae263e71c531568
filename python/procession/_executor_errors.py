"""The exceptions of `ProcessPoolExecutor`: the pool's, such that who knows `concurrent.futures` alone recognises them."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool

from . import _errors

__all__: list[str] = []


class WorkerDied(_errors.WorkerDied, BrokenProcessPool):
    """A worker died while it ran a task. A `BrokenProcessPool` for those who catch that, but this executor is not broken: it goes on."""


class BrokenPool(_errors.BrokenPool, BrokenProcessPool):
    """An executor's workers cannot be started, or were terminated: it is of no more use."""


class TaskCancelled(_errors.TaskCancelled, concurrent.futures.CancelledError):
    """A task of a `map` was cancelled, by `shutdown(cancel_futures=True)`, before it had begun."""


def terminated() -> BrokenPool:
    return BrokenPool("the executor's workers were terminated before the call was done")


def recognisable(error: BaseException) -> BaseException:
    """The error of a broken worker or pool, such that those who know `concurrent.futures` alone recognise it."""
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
