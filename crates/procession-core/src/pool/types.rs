//! The values that a pool takes from the faces and gives to them: options, results, losses, counts.
//!
//! They are plain data. What the pool does with them is left to the other files.

use crate::channel::Incoming;
use std::time::Duration;

/// Options of a job.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobOptions {
    /// Items will be taken as they finish ([`Job::take_any`](super::Job::take_any)).
    pub by_time: bool,
    /// What holds for each task that is submitted without options of its own.
    pub tasks: TaskOptions,
}

impl JobOptions {
    /// The options of a job whose tasks have these, and whose items are taken in order.
    #[must_use]
    pub fn of(tasks: TaskOptions) -> Self {
        Self { by_time: false, tasks }
    }
}

/// Options of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TaskOptions {
    /// How long the task may run before its worker is stopped.
    pub timeout: Option<Duration>,
    /// How many more times the task is tried if its worker dies.
    pub retries: u32,
    /// Which tasks are begun before it.
    pub priority: Priority,
}

/// Which tasks are begun first. A worker takes a queued task only if none of a higher priority is queued. Tasks of the
/// same priority are begun in the order in which they were submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Priority {
    /// Begun before all others.
    High = 0,
    /// What holds where nothing is said.
    #[default]
    Normal = 1,
    /// Begun when nothing else is queued.
    Low = 2,
}

/// How a task ended.
#[derive(Debug)]
pub enum Item {
    /// It returned this.
    Done(Incoming),
    /// It failed with this.
    Raised(Incoming),
    /// There is no result and no error, for this reason.
    Lost(Loss),
}

/// Why a task has neither result nor error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Its worker died.
    Died(Box<WorkerDeath>),
    /// It ran for longer than this, and its worker was stopped.
    TimedOut(Duration, Box<WorkerDeath>),
    /// It was withdrawn.
    Cancelled,
    /// It was never submitted: see [`Job::refuse`](super::Job::refuse).
    Refused,
    /// The pool was terminated before it was done.
    Stopped,
}

/// The result of a withdrawal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Withdrawn {
    /// Tasks that had not begun.
    pub pending: u64,
    /// Tasks that ran. Their workers are to be stopped: see [`Pool::overdue`](super::Pool::overdue).
    pub running: u64,
}

/// How a worker's process ended, as far as the face knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WorkerDeath {
    /// The process.
    pub pid: i32,
    /// Its exit code, or the negative signal number.
    pub exitcode: i32,
    /// Whether the kernel killed it because memory ran out.
    pub out_of_memory: bool,
    /// Its stack trace, as its language prints it.
    pub stack: Option<String>,
    /// The body of the task that it was running, as far as it is still there. Filled in by `reap`.
    pub arguments: Option<Vec<u8>>,
}

/// What a dead worker left behind.
#[derive(Debug)]
pub enum WorkerEnd {
    /// It had not reported that it was ready.
    Unready {
        /// Whether it had attached to its slot, and so was about to be initialised.
        begun: bool,
    },
    /// It could not start, and gave this reason.
    Failed(Incoming),
    /// It worked. The task that it was running, if any, is lost now or will be tried again.
    Worked {
        /// Whether it was running a task.
        lost: bool,
    },
}

/// The workers that must be stopped.
#[derive(Debug, Default)]
pub struct Overdue {
    /// The indexes of workers that have run their task for too long, or that run a withdrawn one.
    pub worker_indexes: Vec<u32>,
    /// Ask again after this time, or when the pool's notice is set.
    pub again: Option<Duration>,
}

/// What a pool has done and is doing.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Tasks that ended with a result, with an error, or with the death of their worker.
    pub done: u64,
    /// Queued tasks.
    pub queued: u64,
    /// Tasks that workers are running.
    pub running: u64,
    /// The workers.
    pub workers: Vec<WorkerStats>,
}

/// What a worker has done.
#[derive(Clone, Copy, Debug)]
pub struct WorkerStats {
    /// Its index in the pool.
    pub worker_index: u32,
    /// Whether it is running a task.
    pub running: bool,
    /// Tasks done.
    pub tasks: u32,
    /// Time spent on tasks.
    pub busy: Duration,
    /// Time between tasks.
    pub idle: Duration,
    /// Bytes that it was sent with tasks.
    pub received: u64,
    /// Bytes of its results.
    pub sent: u64,
}
