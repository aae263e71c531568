"""procession: `multiprocessing` on an engine that does not lose, tear or hang.

The names are those of the standard library, module for module. `install`, `log_to_file`,
`ProcessPoolExecutor`, `SharedDict`, `SharedList`, `share`, `current_worker`,
`get_reusable_executor`, `actor` and its classes, `snapshot`, `trace`, the figures of pools, eight
exceptions and `__version__` are additions.
"""

import sys

if sys.platform != "linux":
    raise ImportError(f"procession runs on Linux only: this is {sys.platform}")

from . import _pickling as _pickling  # whole before a function can arrive
from ._errors import (
    Abandoned,
    ActorDied,
    AuthenticationError,
    BrokenPool,
    BufferTooShort,
    DeadlockError,
    NodeLost,
    OwnerDied,
    ProcessError,
    TaskCancelled,
    TaskTimeout,
    TimeoutError,
    WorkerDied,
)
from .context import Process, _default_context
from .process import active_children, current_process, parent_process

__all__ = [
    "Abandoned",
    "ActorDied",
    "ActorFuture",
    "ActorMaker",
    "ActorStatus",
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BrokenPool",
    "BufferTooShort",
    "Condition",
    "CurrentWorker",
    "DeadlockError",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "NodeLost",
    "OwnerDied",
    "Pipe",
    "Pool",
    "PoolStats",
    "Process",
    "ProcessError",
    "ProcessPoolExecutor",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "Shared",
    "SharedDict",
    "SharedList",
    "SimpleQueue",
    "TaskCancelled",
    "TaskTimeout",
    "TimeoutError",
    "Value",
    "WorkerDied",
    "WorkerStats",
    "active_children",
    "actor",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "current_worker",
    "deadlocks",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_reusable_executor",
    "get_start_method",
    "install",
    "log_to_file",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "share",
    "snapshot",
    "trace",
]

Array = _default_context.Array
Barrier = _default_context.Barrier
BoundedSemaphore = _default_context.BoundedSemaphore
Condition = _default_context.Condition
Event = _default_context.Event
JoinableQueue = _default_context.JoinableQueue
Lock = _default_context.Lock
Manager = _default_context.Manager
Pipe = _default_context.Pipe
Pool = _default_context.Pool
Queue = _default_context.Queue
RLock = _default_context.RLock
RawArray = _default_context.RawArray
RawValue = _default_context.RawValue
Semaphore = _default_context.Semaphore
SimpleQueue = _default_context.SimpleQueue
Value = _default_context.Value
allow_connection_pickling = _default_context.allow_connection_pickling
cpu_count = _default_context.cpu_count
freeze_support = _default_context.freeze_support
get_all_start_methods = _default_context.get_all_start_methods
get_context = _default_context.get_context
get_logger = _default_context.get_logger
get_start_method = _default_context.get_start_method
log_to_file = _default_context.log_to_file
log_to_stderr = _default_context.log_to_stderr
set_executable = _default_context.set_executable
set_forkserver_preload = _default_context.set_forkserver_preload
set_start_method = _default_context.set_start_method


def install(executor: bool = False) -> None:
    """Put procession under the name `multiprocessing`, in this process and all its future children.

    With `executor`, `concurrent.futures.ProcessPoolExecutor` is procession's too. Call this before
    anything imports `multiprocessing` or `concurrent.futures.process`; raises RuntimeError if
    either has been imported already.
    """
    from ._compat.install import install

    install(executor)


def deadlocks(mode: str) -> str:
    """Set what all processes of this family do about a deadlock, and return what they did before.

    A deadlock is a circle of threads, in any of the processes, of which each waits without a
    timeout for a lock that another one holds or for the end of another one's process. A thread that
    waits finds it, within a second. What follows is `mode`:

    * "report": one thread says on standard error, once, what waits for what and since when. This is
      the default, unless the environment variable `PROCESSION_DEADLOCKS` has another mode.
    * "raise": one wait for a lock ends with `DeadlockError`, so that the other threads can go on.
    * "off": no thread looks for deadlocks.

    Raises ValueError for another mode.
    """
    from ._procession import deadlocks

    return deadlocks(mode)


def snapshot() -> object:
    """Return what the processes of this family do at this moment, and what they share.

    What each process waits for and for how long, what holds each lock, how much lies in each queue
    and pool, which threads are in a deadlock. It is what `procession dump --json` shows of the
    family from outside. Nothing is locked or changed by it, and no process is waited for; but it
    looks again after 50 ms, up to three times, while what it sees may be a deadlock. A process that
    has shared nothing so far is a family of its own.

    Raises OSError if `/proc` or the shared memory cannot be read.
    """
    from ._snapshot import take

    return take()


def trace(file: object) -> object:
    """Return a context manager that has what happens in this family written to `file`.

    Which thread waits for what, which worker runs which task, how long an item lay in a queue and
    a lock was held: while the block runs, each process of the family notes it in shared memory, and
    a process of its own, the command `procession trace`, writes it down as a Chrome trace, which
    Perfetto and other viewers open. Nothing waits for the trace; events for which it is too slow
    are left out, and the file says how many.

    Entering the block raises RuntimeError if the family is traced already or the file cannot be
    written.
    """
    from ._trace import Trace

    return Trace(file)


SUBDEBUG = 5
SUBWARNING = 25

# The program's `__main__` is `__mp_main__` in children that import it again. This process binds
# both names, so that either resolves on both sides.
if "__main__" in sys.modules:
    sys.modules["__mp_main__"] = sys.modules["__main__"]


def __getattr__(name: str) -> object:
    # Modules that few programs need are loaded on first use.
    if name == "reduction":
        # By its full name: `from . import` calls this function first.
        __import__(f"{__name__}.reduction")
        return sys.modules[f"{__name__}.reduction"]
    if name == "reducer":
        return _default_context.reducer
    if name == "ProcessPoolExecutor":
        from ._executor.executor import ProcessPoolExecutor

        return ProcessPoolExecutor
    if name in ("ActorFuture", "ActorMaker", "ActorStatus", "actor"):
        from ._actor import face

        return getattr(face, name)
    if name in ("Shared", "share"):
        from . import _share

        return getattr(_share, name)
    if name == "SharedDict":
        from ._shared_dict import SharedDict

        return SharedDict
    if name == "get_reusable_executor":
        from ._executor.reusable import get_reusable_executor

        return get_reusable_executor
    if name in ("CurrentWorker", "current_worker"):
        from ._pool import current

        return getattr(current, name)
    if name == "SharedList":
        from ._shared_list import SharedList

        return SharedList
    if name in ("PoolStats", "WorkerStats"):
        from ._pool import stats

        return getattr(stats, name)
    if name == "__version__":
        from ._procession import __version__

        return __version__
    if name == "Snapshot":
        from ._snapshot import Snapshot

        return Snapshot
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
