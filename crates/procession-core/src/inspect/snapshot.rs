//! A family at one moment, as plain data. Nothing in it is a value, key or argument of the program.

use crate::error::CreationSite;
use std::collections::HashMap;
use std::fmt;

/// An object, as an observer names it: number of its cell and the cell's generation. No two objects of a family share
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    cell: u32,
    generation: u32,
}

impl ObjectId {
    /// The name of the object in this cell, in this use of it.
    pub fn new(cell: u32, generation: u32) -> Self {
        Self { cell, generation }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.cell, self.generation)
    }
}

/// How the program calls an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectLabel {
    /// The name that the program gave it.
    pub name: Option<String>,
    /// The line that made it, if it was recorded.
    pub made: Option<CreationSite>,
}

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// It is being started.
    Starting,
    /// Its first thread runs, or is about to.
    Running,
    /// Its first thread sleeps.
    Sleeping,
    /// It is stopped, by a signal or a debugger.
    Stopped,
    /// It is dead, and what it held is not given back yet.
    Dead,
}

impl ProcessState {
    /// Whether it may run again.
    pub fn is_alive(self) -> bool {
        self != Self::Dead
    }

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
        }
    }
}

/// A process of the family.
#[derive(Clone, Debug)]
pub struct ProcessSeen {
    /// Its process identifier; zero while it is starting.
    pub pid: u32,
    /// Its name in the program; empty until it is given one.
    pub name: String,
    /// The program that it runs, without folder and arguments. Empty if the kernel does not show it.
    pub program: String,
    /// The process that started it, if it is of the family and its entry is its own still.
    pub parent: Option<u32>,
    /// Its state.
    pub state: ProcessState,
    /// `root`, `fork`, `spawn` or `forkserver`; `None` if that cannot be told any more.
    pub start_method: Option<&'static str>,
    /// What it is for, besides the program's own work: `fork server`, `pool worker`.
    pub role: Option<&'static str>,
    /// Milliseconds since its start.
    pub age_ms: u64,
    /// Milliseconds of processor time of all its threads.
    pub cpu_ms: u64,
    /// Number of its threads.
    pub threads: u32,
    /// Resident anonymous memory in bytes.
    pub private_bytes: u64,
    /// Resident shared memory in bytes, the family's included.
    pub shared_bytes: u64,
    /// Bytes of the family's shared memory that it owns: items that it took or is about to send.
    pub owned_bytes: u64,
    /// What its threads wait for.
    pub waits: Vec<WaitSeen>,
}

/// A wait of a thread.
#[derive(Clone, Debug)]
pub struct WaitSeen {
    /// Kind of the object: `lock`, `queue` and so on; empty if it is none that is known.
    pub kind: &'static str,
    /// The object.
    pub object: Option<ObjectId>,
    /// The operation that waits: `acquire`, `get`, `put`, `join`, `wait`, `next task`, `results`, `room for tasks`.
    pub operation: &'static str,
    /// Milliseconds so far.
    pub for_ms: u64,
    /// When it began, in milliseconds of the system's monotonic clock. Exact to about 10.
    pub since_ms: u64,
    /// The kernel's identifier of the thread that waits.
    pub thread: Option<u32>,
    /// Of a wait for the end of a process that has one thread besides the engine's own: pid and thread.
    pub joined: Option<(u32, u32)>,
    /// Whether it has no timeout, in a thread of the program's own.
    pub endless: bool,
}

/// A process that ended, as far as its entry of the process table is not used again.
#[derive(Clone, Debug)]
pub struct EndedProcess {
    /// Its process identifier.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The exit code that it noted. `None`: it noted none, because it was killed or ended in another way.
    pub exit_code: Option<i32>,
}

/// The holder of a lock.
#[derive(Clone, Debug)]
pub struct HolderSeen {
    /// Its process identifier; `None` if the process is gone.
    pub pid: Option<u32>,
    /// The process's name; empty if it is gone.
    pub name: String,
    /// The kernel's identifier of the thread that acquired the lock.
    pub thread: u32,
}

/// A `Lock` or `RLock`.
#[derive(Clone, Debug)]
pub struct LockSeen {
    /// The lock.
    pub id: ObjectId,
    /// `lock` or `rlock`.
    pub kind: &'static str,
    /// The line that made it, if it was recorded.
    pub made: Option<CreationSite>,
    /// The process and thread that hold it.
    pub holder: Option<HolderSeen>,
    /// How often the holder has acquired it; 1 for a plain lock that is held.
    pub count: u32,
    /// Whether its release will wake a waiter: one waits, or did lately.
    pub waiters_bit: bool,
    /// The processes whose threads wait for it, one for each thread.
    pub waiters: Vec<u32>,
}

/// A semaphore.
#[derive(Clone, Debug)]
pub struct SemaphoreSeen {
    /// The semaphore.
    pub id: ObjectId,
    /// Its value.
    pub value: u32,
    /// The value that it cannot exceed.
    pub bound: u32,
    /// The processes whose threads wait for it.
    pub waiters: Vec<u32>,
}

/// An event.
#[derive(Clone, Debug)]
pub struct EventSeen {
    /// The event.
    pub id: ObjectId,
    /// Whether it is set.
    pub is_set: bool,
    /// The processes whose threads wait for it.
    pub waiters: Vec<u32>,
}

/// A condition.
#[derive(Clone, Debug)]
pub struct ConditionSeen {
    /// The condition.
    pub id: ObjectId,
    /// The processes whose threads wait to be notified.
    pub waiters: Vec<u32>,
}

/// A barrier.
#[derive(Clone, Debug)]
pub struct BarrierSeen {
    /// The barrier.
    pub id: ObjectId,
    /// How many parties it has.
    pub parties: u32,
    /// Whether it is broken.
    pub is_broken: bool,
    /// The processes whose threads have arrived and wait.
    pub waiters: Vec<u32>,
}

/// A queue.
#[derive(Clone, Debug)]
pub struct QueueSeen {
    /// The queue.
    pub id: ObjectId,
    /// Number of items. If `is_depth_exact` is false, no more than this.
    pub depth: u64,
    /// Whether each item was counted; of a long queue only the first are.
    pub is_depth_exact: bool,
    /// Whether it is so long that its end was not looked at. There, an item that is being put counts already, and one whose
    /// process died meanwhile still; no more than that makes `depth` too large.
    pub is_long: bool,
    /// The largest depth; zero: no limit.
    pub maxsize: u64,
    /// Items put so far.
    pub put: u64,
    /// Calls of `task_done` so far.
    pub tasks_done: u64,
    /// The processes whose threads wait for an item.
    pub getters: Vec<u32>,
    /// The processes whose threads wait for room.
    pub putters: Vec<u32>,
    /// The processes whose threads wait in `join`.
    pub joiners: Vec<u32>,
}

/// A worker of a pool.
#[derive(Clone, Debug)]
pub struct PoolWorkerSeen {
    /// Its process identifier; `None` if the process is gone.
    pub pid: Option<u32>,
    /// Whether it takes tasks already.
    pub is_ready: bool,
    /// Tasks that it has finished.
    pub tasks_done: u64,
    /// Milliseconds that its current item has taken so far; `None`: it is idle.
    pub item_ms: Option<u64>,
    /// Milliseconds that its finished tasks took.
    pub busy_ms: u64,
    /// How many of its finished tasks failed.
    pub tasks_failed: u64,
    /// What defines the function of its current task, in the manner of the face that made the pool. `None`: it is idle,
    /// or the definition is long.
    pub function: Option<Vec<u8>>,
}

/// A pool.
#[derive(Clone, Debug)]
pub struct PoolSeen {
    /// The pool.
    pub id: ObjectId,
    /// `running`, `closed` or `terminated`.
    pub state: &'static str,
    /// Tasks that no worker has taken.
    pub queued: u64,
    /// Tasks that workers run.
    pub running: u64,
    /// Tasks that are over, and whose results the parent has not collected.
    pub uncollected: u64,
    /// Tasks that workers have finished, also those that failed. When a worker is replaced, its tasks may be missing for
    /// a moment, or count twice.
    pub done: u64,
    /// Tasks that workers have finished with an error.
    pub failed: u64,
    /// How many workers have ended after they had become ready.
    pub workers_ended: u64,
    /// Half of the last tasks took no longer than this, in microseconds, exact to 7 per cent: of each present worker the
    /// last 32 count. `None`: there are none.
    pub median_us: Option<u64>,
    /// As `median_us`, of 99 per cent of these tasks.
    pub p99_us: Option<u64>,
    /// Whether all tasks were counted; of a very long queue of tasks only the first are.
    pub is_complete: bool,
    /// Its workers.
    pub workers: Vec<PoolWorkerSeen>,
}

/// A shared dictionary or list.
#[derive(Clone, Copy, Debug)]
pub struct CollectionSeen {
    /// The collection.
    pub id: ObjectId,
    /// `dictionary` or `list`.
    pub kind: &'static str,
}

/// How much shared memory one kind of thing takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// The kind: of an object, or `messages`, `queue segments`, `owned by processes`, `deferred`, `damaged`.
    pub kind: &'static str,
    /// How many there are.
    pub count: u64,
    /// Bytes of memory that they take.
    pub bytes: u64,
}

/// A family at one moment. All of it is read from memory that changes meanwhile: numbers of different objects may be of
/// slightly different moments.
#[derive(Clone, Debug, Default)]
pub struct FamilySnapshot {
    /// The family's first process; `None` if it is gone.
    pub root: Option<u32>,
    /// The processes, in the order of their process identifiers.
    pub processes: Vec<ProcessSeen>,
    /// Processes that have ended lately.
    pub ended: Vec<EndedProcess>,
    /// How many processes have ended in all, and were given up by the others.
    pub deaths: u64,
    /// Locks and reentrant locks.
    pub locks: Vec<LockSeen>,
    /// Semaphores.
    pub semaphores: Vec<SemaphoreSeen>,
    /// Events.
    pub events: Vec<EventSeen>,
    /// Conditions.
    pub conditions: Vec<ConditionSeen>,
    /// Barriers.
    pub barriers: Vec<BarrierSeen>,
    /// Queues.
    pub queues: Vec<QueueSeen>,
    /// Pools.
    pub pools: Vec<PoolSeen>,
    /// Shared dictionaries and lists.
    pub collections: Vec<CollectionSeen>,
    /// The names and creation sites of the listed objects that have any. A lock's creation site is also beside it.
    pub labels: HashMap<ObjectId, ObjectLabel>,
    /// Shared memory in use, by kind.
    pub memory: Vec<MemoryUse>,
    /// Bytes of shared memory that the system has committed to the family.
    pub committed_bytes: u64,
    /// Bytes of shared memory that the family may have at most.
    pub limit_bytes: u64,
    /// When the look began, on the clock of [`WaitSeen::since_ms`].
    pub taken_ms: u64,
    /// Words in shared memory that no correct process writes. Zero, unless the memory is damaged.
    pub damaged: u64,
    /// Objects that are not listed, because there are too many of their kind.
    pub left_out: u64,
}

impl FamilySnapshot {
    /// The name that the program gave an object.
    pub fn name(&self, id: ObjectId) -> Option<&str> {
        self.labels.get(&id)?.name.as_deref()
    }

    /// The line that made an object.
    pub fn made(&self, id: ObjectId) -> Option<&CreationSite> {
        self.labels.get(&id)?.made.as_ref()
    }

    /// List with each object which processes wait for it.
    pub(super) fn add_waiters(&mut self) {
        let mut waiting: HashMap<ObjectId, Vec<(&'static str, u32)>> = HashMap::new();
        for process in &self.processes {
            for wait in &process.waits {
                if let Some(id) = wait.object {
                    waiting.entry(id).or_default().push((wait.operation, process.pid));
                }
            }
        }
        let waiters = |id: &ObjectId, operation: &str| -> Vec<u32> {
            let all = waiting.get(id).into_iter().flatten();
            all.filter(|(of, _)| *of == operation).map(|&(_, pid)| pid).collect()
        };
        for seen in &mut self.locks {
            seen.waiters = waiters(&seen.id, "acquire");
        }
        for seen in &mut self.semaphores {
            seen.waiters = waiters(&seen.id, "acquire");
        }
        for seen in &mut self.events {
            seen.waiters = waiters(&seen.id, "wait");
        }
        for seen in &mut self.queues {
            seen.getters = waiters(&seen.id, "get");
            seen.putters = waiters(&seen.id, "put");
            seen.joiners = waiters(&seen.id, "join");
        }
    }
}
