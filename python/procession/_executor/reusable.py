"""`get_reusable_executor`: the one executor of a process, made when it is first needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Literal

from .. import pool as _pool_face
from .. import util
from .._threads import RLock
from .executor import ProcessPoolExecutor

__all__: list[str] = []

#: Typed as Any for its private names: the stub shows only the public ones.
_pools: Any = _pool_face
#: A finalizer or signal handler in the middle of a call may call again.
_lock = util.free_in_child(RLock())
#: The executor, the arguments it was made with, and the process that made it.
_made: tuple[ProcessPoolExecutor, dict[str, Any], int] | None = None


def get_reusable_executor(
    max_workers: int | None = None,
    context: Any = None,
    timeout: float | None = 10,
    kill_workers: bool = False,
    reuse: bool | Literal["auto"] = "auto",
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
) -> ProcessPoolExecutor:
    """Return the executor that all parts of this process share, as loky's function of this name.

    It is made by the first call. A later call returns the same one, with `max_workers` workers at
    most. If it is broken or shut down, or if the other arguments differ, a new one takes its place,
    and the old one finishes the calls that it has. A child of this process has its own.

    Args:
        max_workers: number of workers; None: one for each processor that this process may use, or
            with `reuse=True` as many as there are.
        context: the context that starts the workers; None: the default context.
        timeout: seconds after which an idle worker leaves; it takes up to twice as long until that
            is noticed. Workers start again with the next call. None: they stay.
        kill_workers: end an executor that is replaced at once, so that its calls fail.
        reuse: "auto": as above. True: return the same executor although arguments differ. False:
            replace it in any case.
        initializer, initargs: as for `ProcessPoolExecutor`.
    """
    global _made
    if reuse not in (True, False, "auto"):
        raise ValueError(f"reuse must be True, False or 'auto', not {reuse!r}")
    arguments = {
        "mp_context": context,
        "initializer": initializer,
        "initargs": initargs,
        "idle_timeout": timeout,
    }
    with _lock:
        executor, before, pid = _made or (None, None, 0)
        if executor is not None and pid == os.getpid():
            usable = not (executor._closed or executor._broken)
            if usable and (reuse is True or (reuse == "auto" and before == arguments)):
                if max_workers is not None or reuse is not True:
                    executor.resize(_number(max_workers))
                return executor
            if kill_workers:
                executor.kill_workers()
            executor.shutdown(wait=False)
        made = ProcessPoolExecutor(_number(max_workers), **arguments)
        _made = made, arguments, os.getpid()
        return made


def _number(max_workers: int | None) -> int:
    count: int = _pools._usable_cpus() if max_workers is None else max_workers
    return count
