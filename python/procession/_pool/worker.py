"""The main function of a pool's worker.

In its own module, because a worker that starts as a new interpreter waits for all that it imports.
"""

from __future__ import annotations

import os
import sys
import threading
from _collections_abc import Callable

from .. import util
from .._procession import PoolWorker
from .deaths import leave_stack

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: How a job's function is applied to a task's arguments; see `pool_worker.rs`.
ITEM, CHUNK, STARRED_CHUNK, CALL, CALL_WITH_KEYWORDS = 0, 1, 2, 3, 4
#: Chunks whose items have an outcome each: a result, or an exception in its place.
EACH_OF_CHUNK, EACH_OF_STARRED_CHUNK = 7, 8

#: Of this process, if it is a worker: its pid (a child of it is no worker), its index, the name of
#: its pool, and what the initializer returned. Of a thread of a `ThreadPool`: the same, in `worker`.
in_process: tuple[int, int, str, Any] | None = None
#: This process's end of the pool, if it is a worker.
here: PoolWorker | None = None
in_thread = threading.local()


def worker(
    handle: int,
    worker_index: int,
    stacks: str,
    initializer: Any = None,
    initargs: Any = (),
    maxtasks: int | None = None,
    max_rss: int | None = None,
    worker_exit: Callable[[], object] | None = None,
    threads: int | None = None,
    reseed: bool = False,
    name: str = "",
    index: int = 0,
    outlives_exits: bool = False,
) -> None:
    """Run a worker: the target of a pool's processes.

    In an executor it `outlives_exits`: SystemExit and KeyboardInterrupt of a task are the call's
    outcome, as any other exception is.
    """
    global here, in_process
    try:
        here = end = PoolWorker(handle, worker_index, outlives_exits)
    except ValueError:
        return  # the pool is gone
    leave_stack(stacks, worker_index)
    if threads is not None:
        from .worker_threads import limit

        limit(threads)
    if reseed and (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()  # a forked worker has its parent's state
    in_process = os.getpid(), index, name, None
    if initializer is not None:
        try:
            in_process = os.getpid(), index, name, initializer(*initargs)
        except BaseException as error:
            end.fail(error)
            raise
    end.ready()
    try:
        completed = end.run(maxtasks, max_rss)
    except KeyboardInterrupt:
        # Ctrl-C reached the parent too, which reports it. A task that ran, in a pool, or that was
        # about to be run or reported, fails with `WorkerDied`.
        raise SystemExit(1) from None
    if worker_exit is not None:
        worker_exit()
    util.debug("worker exiting after %d tasks", completed)
