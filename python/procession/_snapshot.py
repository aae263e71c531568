"""What a family's processes do at one moment. `dataclasses` is slow to load, so nothing loads this
before it is asked for.

The fields are those of `procession dump --json`.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ._procession import snapshot_json

__all__: list[str] = []


@dataclasses.dataclass(frozen=True)
class Wait:
    """A thread's wait."""

    #: Kind of the object, for example `lock`; empty if it is none that is known.
    kind: str
    #: The object's `id`, or None.
    object: str | None
    #: `acquire`, `get`, `put`, `join`, `wait`, `next task`, `results` or `room for tasks`.
    operation: str
    #: Milliseconds so far.
    for_ms: int
    #: Whether it has no timeout, in a thread of the program's own.
    endless: bool
    #: The kernel's identifier of the thread; None if it is not known.
    thread: int | None


@dataclasses.dataclass(frozen=True)
class ProcessSeen:
    """A process of the family."""

    #: 0 while it is being started.
    pid: int
    name: str
    #: The program that it runs, without folder and arguments.
    program: str
    #: Pid of the process that started it; None if that process is gone.
    parent: int | None
    #: `starting`, `running`, `sleeping`, `stopped` or `dead`.
    state: str
    #: `root`, `fork`, `spawn`, `forkserver`, or None if that cannot be told any more.
    start_method: str | None
    #: `fork server`, `pool worker` or None.
    role: str | None
    #: Milliseconds since its start, and of processor time.
    age_ms: int
    cpu_ms: int
    threads: int
    #: Resident memory, its own and shared.
    private_bytes: int
    shared_bytes: int
    #: Shared memory that it owns, for items that it took or is about to send.
    owned_bytes: int
    waits: tuple[Wait, ...]


@dataclasses.dataclass(frozen=True)
class EndedProcess:
    """A process that has ended lately."""

    pid: int
    name: str
    #: None if it noted no exit code, because it was killed or ended in another way.
    exit_code: int | None


@dataclasses.dataclass(frozen=True)
class Holder:
    """The holder of a lock."""

    #: None if the process is gone.
    pid: int | None
    name: str
    #: The kernel's identifier of the thread that acquired the lock.
    thread: int


@dataclasses.dataclass(frozen=True)
class LockSeen:
    """A `Lock` or `RLock`."""

    id: str
    #: `lock` or `rlock`.
    kind: str
    #: The name that the program gave it.
    name: str | None
    #: The file and line that made it, if they were recorded.
    made: str | None
    holder: Holder | None
    #: How often the holder has acquired it.
    count: int
    #: Pids of the processes whose threads wait for it, one for each thread.
    waiters: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class SemaphoreSeen:
    """A semaphore."""

    id: str
    #: The name that the program gave it, and the file and line that made it, if they are known.
    name: str | None
    made: str | None
    value: int
    bound: int
    waiters: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class EventSeen:
    """An event."""

    id: str
    #: The name that the program gave it, and the file and line that made it, if they are known.
    name: str | None
    made: str | None
    is_set: bool
    waiters: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ConditionSeen:
    """A condition."""

    id: str
    #: The name that the program gave it, and the file and line that made it, if they are known.
    name: str | None
    made: str | None
    waiters: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class BarrierSeen:
    """A barrier."""

    id: str
    #: The name that the program gave it, and the file and line that made it, if they are known.
    name: str | None
    made: str | None
    parties: int
    is_broken: bool
    waiters: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class QueueSeen:
    """A queue."""

    id: str
    #: The name that the program gave it, and the file and line that made it, if they are known.
    name: str | None
    made: str | None
    #: Number of items; no more than this if `is_depth_exact` is false.
    depth: int
    #: Whether each item was counted. Of a long queue only the first are.
    is_depth_exact: bool
    #: The largest depth; 0 for no limit.
    maxsize: int
    #: Items put, and calls of `task_done`, so far.
    put: int
    #: Milliseconds, or more, for which the oldest item has lain there. None if there is none, or it
    #: came since the look before; always None here, where looks are not compared.
    oldest_ms: int | None
    tasks_done: int
    #: Pids of the processes whose threads wait for an item, for room, and in `join`.
    getters: tuple[int, ...]
    putters: tuple[int, ...]
    joiners: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class CollectionSeen:
    """A `SharedDict` or `SharedList`."""

    id: str
    #: The name that the program gave it, and the file and line that made it, if they are known.
    name: str | None
    made: str | None
    #: `dictionary` or `list`.
    kind: str


@dataclasses.dataclass(frozen=True)
class PoolWorker:
    """A worker of a pool."""

    #: None if the process is gone.
    pid: int | None
    is_ready: bool
    tasks_done: int
    #: Milliseconds that its current item has taken so far; None if it is idle.
    item_ms: int | None
    #: Milliseconds that its finished tasks took.
    busy_ms: int
    tasks_failed: int
    #: Module and name of the function of its current task, if it was sent by name; for one of the
    #: main module only the name. None if it is idle.
    function: str | None


@dataclasses.dataclass(frozen=True)
class PoolSeen:
    """A pool, counted in tasks: a chunk of items is one task."""

    id: str
    #: The name that the program gave it, and the file and line that made it, if they are known.
    name: str | None
    made: str | None
    #: `running`, `closed` or `terminated`.
    state: str
    #: Tasks that no worker has taken.
    queued: int
    running: int
    #: Tasks that are over, and whose results the parent has not collected.
    uncollected: int
    #: Tasks that workers have finished, and how many of them failed. When a worker is replaced, its
    #: tasks may be missing for a moment.
    done: int
    failed: int
    #: Half, and 99 per cent, of the last tasks took no longer than so many milliseconds, exact to 7
    #: per cent: of each present worker the last 32 count. None if there are none.
    median_ms: float | None
    p99_ms: float | None
    #: How many workers have ended after they had become ready.
    workers_ended: int
    #: Whether all tasks were counted. Of a very long queue of tasks only the first are.
    is_complete: bool
    workers: tuple[PoolWorker, ...]


@dataclasses.dataclass(frozen=True)
class DeadlockMember:
    """A thread that waits for a lock or for the end of a process, in a deadlock."""

    pid: int
    #: The process's name.
    name: str
    #: The kernel's identifier of the thread.
    thread: int
    #: The `id` of the lock that it waits for, which the next member holds. None: it waits for the
    #: end of the next member's process.
    lock: str | None
    lock_name: str | None
    #: `lock`, `rlock` or `process`.
    kind: str
    #: The file and line that made the lock, if they were recorded.
    made: str | None
    #: Milliseconds that it has waited. It has held its own locks for at least as long.
    for_ms: int


@dataclasses.dataclass(frozen=True)
class Deadlock:
    """Threads of which each waits for a lock of the next one or its end, and the last for the first.

    What is found, and what cannot be: :ref:`seen-deadlocks`.
    """

    #: The sentences, in one text.
    text: str
    #: For each member a sentence that says for which lock it waits, and what holds it.
    sentences: tuple[str, ...]
    members: tuple[DeadlockMember, ...]


@dataclasses.dataclass(frozen=True)
class WarningSeen:
    """Something that is no deadlock, and worth a look.

    Its field `object` is the `id` of the object that it is about, or None.
    """

    #: `first process gone`, `stopped`, `damaged`, `stopped holder`, `stopped worker`, `own lock`,
    #: `lock held long`, `slow task` or `memory near limit`.
    kind: str
    #: A sentence.
    text: str
    object: str | None
    #: The processes that it is about.
    pids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class MemoryUse:
    """How much shared memory one kind of thing takes."""

    kind: str
    count: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A family at one moment. Its memory changes while it is read, so the numbers of different
    objects may be of slightly different moments.
    """

    #: Pid of the family's first process; None if it is gone.
    root: int | None
    processes: tuple[ProcessSeen, ...]
    ended: tuple[EndedProcess, ...]
    #: How many processes have ended in all, and were given up by the others.
    deaths: int
    locks: tuple[LockSeen, ...]
    semaphores: tuple[SemaphoreSeen, ...]
    events: tuple[EventSeen, ...]
    conditions: tuple[ConditionSeen, ...]
    barriers: tuple[BarrierSeen, ...]
    queues: tuple[QueueSeen, ...]
    pools: tuple[PoolSeen, ...]
    collections: tuple[CollectionSeen, ...]
    memory: tuple[MemoryUse, ...]
    #: Bytes of shared memory that the system has committed to the family.
    committed_bytes: int
    #: Bytes of shared memory that the family may have at most.
    limit_bytes: int
    #: Words in shared memory that no correct process writes; 0, unless it is damaged.
    damaged: int
    #: Objects that are not listed, because there are too many.
    left_out: int
    deadlocks: tuple[Deadlock, ...]
    warnings: tuple[WarningSeen, ...]


#: The class of what the lists of each name hold.
_CLASSES: dict[str, type] = {
    "processes": ProcessSeen,
    "waits": Wait,
    "ended": EndedProcess,
    "locks": LockSeen,
    "semaphores": SemaphoreSeen,
    "events": EventSeen,
    "conditions": ConditionSeen,
    "barriers": BarrierSeen,
    "queues": QueueSeen,
    "pools": PoolSeen,
    "workers": PoolWorker,
    "collections": CollectionSeen,
    "memory": MemoryUse,
    "holder": Holder,
    "deadlocks": Deadlock,
    "members": DeadlockMember,
    "warnings": WarningSeen,
}


def _of(name: str, value: Any) -> Any:
    kind = _CLASSES.get(name)
    if isinstance(value, list):
        return tuple(_of(name, one) for one in value)
    if isinstance(value, dict) and kind is not None:
        return kind(**{field: _of(field, part) for field, part in value.items()})
    return value


def take() -> Snapshot:
    """Return a snapshot of this process's family.

    While what is seen may be a deadlock, it looks again after 50 ms, up to three times.
    """
    fields = json.loads(snapshot_json())
    return Snapshot(**{field: _of(field, value) for field, value in fields.items()})
