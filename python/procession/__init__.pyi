"""The package's names: the methods of the default context, and what procession adds to them."""

import os
from typing import Any, Literal, TypeAlias

from . import context as context
from ._actor.face import ActorFuture as ActorFuture
from ._actor.face import ActorMaker as ActorMaker
from ._actor.face import ActorStatus as ActorStatus
from ._actor.face import actor as actor
from ._errors import (
    Abandoned as Abandoned,
)
from ._errors import (
    ActorDied as ActorDied,
)
from ._errors import (
    AuthenticationError as AuthenticationError,
)
from ._errors import (
    BrokenPool as BrokenPool,
)
from ._errors import (
    BufferTooShort as BufferTooShort,
)
from ._errors import (
    DeadlockError as DeadlockError,
)
from ._errors import (
    NodeLost as NodeLost,
)
from ._errors import (
    OwnerDied as OwnerDied,
)
from ._errors import (
    ProcessError as ProcessError,
)
from ._errors import (
    TaskCancelled as TaskCancelled,
)
from ._errors import (
    TaskTimeout as TaskTimeout,
)
from ._errors import (
    TimeoutError as TimeoutError,
)
from ._errors import (
    WorkerDied as WorkerDied,
)
from ._executor.executor import ProcessPoolExecutor as ProcessPoolExecutor
from ._executor.reusable import get_reusable_executor as get_reusable_executor
from ._pool.current import CurrentWorker as CurrentWorker
from ._pool.current import current_worker as current_worker
from ._pool.stats import PoolStats as PoolStats
from ._pool.stats import WorkerStats as WorkerStats
from ._procession import __version__ as __version__
from ._share import Shared as Shared
from ._share import share as share
from ._shared_dict import SharedDict as SharedDict
from ._shared_list import SharedList as SharedList
from ._snapshot import Snapshot as Snapshot
from ._trace import Trace as _Trace
from .context import Process as Process
from .process import (
    active_children as active_children,
)
from .process import (
    current_process as current_process,
)
from .process import (
    parent_process as parent_process,
)

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

_Deadlocks: TypeAlias = Literal["report", "raise", "off"]

SUBDEBUG: int
SUBWARNING: int
reducer: Any

def install(executor: bool = False) -> None: ...
def deadlocks(mode: _Deadlocks) -> _Deadlocks: ...
def snapshot() -> Snapshot: ...
def trace(file: str | os.PathLike[str]) -> _Trace: ...

Array = context._default_context.Array
Barrier = context._default_context.Barrier
BoundedSemaphore = context._default_context.BoundedSemaphore
Condition = context._default_context.Condition
Event = context._default_context.Event
JoinableQueue = context._default_context.JoinableQueue
Lock = context._default_context.Lock
Manager = context._default_context.Manager
Pipe = context._default_context.Pipe
Pool = context._default_context.Pool
Queue = context._default_context.Queue
RLock = context._default_context.RLock
RawArray = context._default_context.RawArray
RawValue = context._default_context.RawValue
Semaphore = context._default_context.Semaphore
SimpleQueue = context._default_context.SimpleQueue
Value = context._default_context.Value
allow_connection_pickling = context._default_context.allow_connection_pickling
cpu_count = context._default_context.cpu_count
freeze_support = context._default_context.freeze_support
get_all_start_methods = context._default_context.get_all_start_methods
get_context = context._default_context.get_context
get_logger = context._default_context.get_logger
get_start_method = context._default_context.get_start_method
log_to_file = context._default_context.log_to_file
log_to_stderr = context._default_context.log_to_stderr
set_executable = context._default_context.set_executable
set_forkserver_preload = context._default_context.set_forkserver_preload
set_start_method = context._default_context.set_start_method
