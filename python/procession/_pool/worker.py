"""The main function of a pool's worker.

In its own module, because a worker that starts as a new interpreter waits for all that it imports.
"""

from __future__ import annotations

import sys
from _collections_abc import Callable

from .. import util
from .._procession import PoolWorker
from .deaths import leave_stack

__all__: list[str] = []

#: How a job's function is applied to a task's arguments; see `pool_worker.rs`.
ITEM, CHUNK, STARRED_CHUNK, CALL, CALL_WITH_KEYWORDS = 0, 1, 2, 3, 4


def worker(
    handle: int,
    worker_index: int,
    stacks: str,
    initializer: object = None,
    initargs: object = (),
    maxtasks: int | None = None,
    max_rss: int | None = None,
    worker_exit: Callable[[], object] | None = None,
    threads: int | None = None,
    reseed: bool = False,
) -> None:
    """Run a worker: the target of a pool's processes."""
    try:
        end = PoolWorker(handle, worker_index)
    except ValueError:
        return  # the pool is gone
    leave_stack(stacks, worker_index)
    if threads is not None:
        from .worker_threads import limit

        limit(threads)
    if reseed and (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()  # a forked worker has its parent's state
    if initializer is not None:
        try:
            initializer(*initargs)  # type: ignore[operator, misc]
        except BaseException as error:
            end.fail(error)
            raise
    end.ready()
    try:
        completed = end.run(maxtasks, max_rss)
    except KeyboardInterrupt:
        # Ctrl-C reached the parent too, which reports it; a task that ran fails with `WorkerDied`.
        raise SystemExit(1) from None
    if worker_exit is not None:
        worker_exit()
    util.debug("worker exiting after %d tasks", completed)
