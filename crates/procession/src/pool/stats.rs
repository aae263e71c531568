//! What a pool says of itself.

use std::time::Duration;

/// Statistics of a pool: see [`Pool::stats`](crate::Pool::stats).
///
/// ```
/// let pool = procession::Pool::new(1)?;
/// assert_eq!(pool.apply(|n: u32| n + 1, 1)?, 2);
/// let stats = pool.stats();
/// assert_eq!((stats.done, stats.workers[0].tasks), (1, 1));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolStats {
    /// Tasks that have completed, successfully or not. A task is one item, or several of a [`map`](crate::Pool::map).
    pub done: u64,
    /// Tasks that wait for a worker.
    pub queued: u64,
    /// Tasks that are running.
    pub running: u64,
    /// The workers.
    pub workers: Vec<WorkerStats>,
}

/// Statistics of a worker.
///
/// ```
/// let pool = procession::Pool::new(2)?;
/// pool.map(|n: u32| n + 1, 0..10)?;
/// let workers: Vec<procession::WorkerStats> = pool.stats().workers;
/// assert!(workers.iter().all(|worker| worker.pid > 0));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerStats {
    /// The worker's process ID.
    pub pid: i32,
    /// Whether it is running a task.
    pub running: bool,
    /// Tasks completed.
    pub tasks: u32,
    /// Time spent on tasks.
    pub busy: Duration,
    /// Time between tasks.
    pub idle: Duration,
}
