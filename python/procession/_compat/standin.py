"""Behaviour of procession only while it stands in under the name `multiprocessing`.

These are defects of the standard library that its own tests demand and that programs may rely on.
Under its own name procession has none of them.

- `Queue.put` of an object that cannot be pickled does not raise: it prints the traceback and loses
  the item.
- A lock, semaphore, condition, event, barrier or queue of a fork context cannot be an argument of a
  spawned process.
- A pool's result that `pickle` cannot carry is an error, although cloudpickle could carry it.

`_compat.install` has each module amended: after it has run, or, if it is already loaded, when the
alias is set up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .. import context

__all__: list[str] = []


def amend(module: ModuleType) -> None:
    """Change the classes of a module."""
    _CHANGES[module.__name__.partition(".")[2]](module)


def _amend_package(module: ModuleType) -> None:
    # A star import binds no name that the program may have from `concurrent.futures`.
    module.__all__.remove("ProcessPoolExecutor")


def _amend_queues(module: ModuleType) -> None:
    def put_failed(self: Any, error: Exception, obj: object) -> None:
        self._give_up(error, obj)

    module.Queue._put_failed = put_failed
    for cls in (module.Queue, module.SimpleQueue):
        _refuse_spawn(cls)


def _amend_synchronize(module: ModuleType) -> None:
    for name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"):
        _refuse_spawn(getattr(module, name))


def _refuse_spawn(cls: Any) -> None:
    """Make objects of a fork context refuse to be pickled for a process of another start method."""
    create, reduce = cls.__init__, cls.__getstate__

    @functools.wraps(create)
    def __init__(self: Any, *args: Any, ctx: Any, **kwargs: Any) -> None:
        create(self, *args, ctx=ctx, **kwargs)
        self._is_fork_ctx = (ctx or context._default_context).get_start_method() == "fork"

    def __getstate__(self: Any) -> Any:
        if self.__dict__.get("_is_fork_ctx") and context.get_spawning_popen() is not None:
            raise RuntimeError(
                "A SemLock created in a fork context is being shared with a process in a spawn context. This is not"
                " supported. Please use the same context to create multiprocessing objects and Process."
            )
        return reduce(self)

    cls.__init__, cls.__getstate__ = __init__, __getstate__


def _amend_pool_worker(module: ModuleType) -> None:
    worker = module.worker

    @functools.wraps(worker)
    def strict_worker(*args: Any, **kwargs: Any) -> None:
        from .._pickling import parts

        parts.be_strict()
        worker(*args, **kwargs)

    module.worker = strict_worker  # type: ignore[attr-defined]


_CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "": _amend_package,
    "queues": _amend_queues,
    "synchronize": _amend_synchronize,
    "_pool.worker": _amend_pool_worker,
}
