"""What a worker on a node does: it unpickles functions and arguments, and pickles results."""

from __future__ import annotations

import itertools
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from ..._pool import worker as _worker
from ..._pool.errors import _failed_item, _unencodable
from ..._pool.worker import (
    CHUNK,
    EACH_OF_CHUNK,
    EACH_OF_STARRED_CHUNK,
    ITEM,
    STARRED_CHUNK,
)
from .. import references, wire  # noqa: F401 - the reducers

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: How a task ended: with a result or an exception, with the death of its worker, past its time,
#: cancelled, not begun and given back, or as the sub-pool's own error says.
DONE, RAISED, DIED, TIMED_OUT, CANCELLED, GIVEN_BACK, FAILED = range(7)
#: Flags of a task: each item's time is limited; exits of a task are its outcome, as in an executor.
TIMED, OUTLIVES_EXITS = 1, 2

#: The number of functions that a worker keeps.
_KEPT = 32

#: The functions of jobs in progress, unpickled once.
_functions: OrderedDict[int, Callable[..., Any]] = OrderedDict()


def begin(sealed: bytes) -> Any:
    """Call the pool's initializer; return what it returns."""
    initializer, initargs = wire.loads(sealed)
    return initializer(*initargs)


class Exit:
    """The pool's `worker_exit`, unpickled in the worker."""

    def __init__(self, sealed: bytes) -> None:
        self._sealed = sealed

    def __call__(self) -> None:
        wire.loads(self._sealed)()


def perform(
    key: int | None, function: Any, mode: int, flags: int, payload: bytes
) -> tuple[int, float, bytes]:
    """Do a task. Return how it ended, the seconds that its function took, and a pickle.

    `function` is the pickle of the job's function, or a handle to it. Without a `key`, the payload
    is function and arguments.
    """
    seconds = 0.0
    try:
        arguments = wire.loads(payload)
        if key is None:
            func, args, kwds = arguments
            start = time.perf_counter()
            value = func(*args, **kwds)
        else:
            func = _function(key, function)
            start = time.perf_counter()
            if mode == ITEM:
                value = func(arguments)
            elif flags & TIMED or mode in (EACH_OF_CHUNK, EACH_OF_STARRED_CHUNK):
                value = _each(func, arguments, mode, flags)
            else:
                value = _all(func, arguments, mode)
        seconds = time.perf_counter() - start
    except BaseException as error:
        if _ends_with(error, flags):
            raise
        return RAISED, seconds, _packed(error)
    try:
        return DONE, seconds, wire.dumps_bytes(value)
    except Exception as error:
        if mode in (EACH_OF_CHUNK, EACH_OF_STARRED_CHUNK):
            return DONE, seconds, wire.dumps_bytes([_sendable(one) for one in value])
        return RAISED, seconds, _packed(_unencodable(error, value))


def _function(key: int, function: Any) -> Callable[..., Any]:
    func = _functions.get(key)
    if func is None:
        func = wire.loads(function if isinstance(function, bytes) else function.get())
        _functions[key] = func
        if len(_functions) > _KEPT:
            _functions.popitem(last=False)
    return func


def _all(func: Callable[..., Any], items: tuple[Any, ...], mode: int) -> list[Any]:
    results = list(itertools.starmap(func, items) if mode == STARRED_CHUNK else map(func, items))
    if len(results) < len(items):
        raise RuntimeError("the function raised StopIteration")
    return results


def _each(func: Callable[..., Any], items: Iterable[Any], mode: int, flags: int) -> list[Any]:
    """Return the results of items that are timed, or that have an outcome each."""
    here = _worker.here
    results = []
    for item in items:
        if here is not None:
            here.begin_item()
        try:
            results.append(func(item) if mode in (CHUNK, EACH_OF_CHUNK) else func(*item))
        except BaseException as error:
            if mode in (CHUNK, STARRED_CHUNK) or _ends_with(error, flags):
                raise
            results.append(wire.abroad(_failed_item, error))
    return results


def _ends_with(error: BaseException, flags: int) -> bool:
    """Return whether the error ends the worker, and not only the task."""
    if not isinstance(error, (SystemExit, KeyboardInterrupt)):
        return False
    of_worker = _worker.in_process is not None and _worker.in_process[0] == os.getpid()
    return not (flags & OUTLIVES_EXITS and of_worker)  # the exit of a child of the task is its own


def _packed(error: BaseException) -> bytes:
    return wire.dumps_bytes(wire.abroad(_failed_item, error))


def _sendable(result: Any) -> Any:
    """Return a result, or in its place an exception if it cannot be sent."""
    try:
        wire.dumps(result)
        return result
    except Exception as error:
        return wire.abroad(_failed_item, _unencodable(error, result))
