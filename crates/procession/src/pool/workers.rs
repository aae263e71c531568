//! The workers of a pool, as its process manages them, and the thread that replaces and stops them.

use crate::error::Ours;
use crate::{Builder, JoinError, JoinHandle, Result};
use procession_core::pool::{Overdue, Pool as Core, WorkerDeath};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time between SIGTERM and SIGKILL for a worker.
const GRACE: Duration = Duration::from_secs(1);
/// After this many workers in a row that end before they are ready, no more are started.
const FAILURES: u32 = 20;

/// Starts the worker with this index of the pool with this handle.
pub(super) type Start = Box<dyn Fn(Builder, u64, u32) -> Result<JoinHandle<()>> + Send + Sync>;

/// What the pool and the thread that watches its workers share.
pub(super) struct Workers {
    pub(super) core: Core,
    #[cfg(feature = "async")]
    pub(super) completions: std::sync::Arc<crate::waking::Completions>,
    pub(super) builder: Builder,
    pub(super) start: Start,
    pub(super) set: Mutex<WorkerSet>,
}

#[derive(Default)]
pub(super) struct WorkerSet {
    pub(super) all: Vec<WorkerRecord>,
    /// The number of workers that the pool should have.
    pub(super) size: usize,
    /// The number of workers started so far; numbers their names.
    pub(super) started: u32,
    /// Workers in a row that ended before they were ready.
    pub(super) failures: u32,
    pub(super) closed: bool,
    pub(super) terminated: bool,
}

pub(super) struct WorkerRecord {
    pub(super) worker_index: u32,
    pub(super) handle: JoinHandle<()>,
    /// The worker leaves after its task and is not replaced.
    pub(super) leaving: bool,
    /// When SIGKILL follows, if the worker has been sent SIGTERM.
    pub(super) ending: Option<Instant>,
}

impl Workers {
    pub(super) fn lock(&self) -> MutexGuard<'_, WorkerSet> {
        lock(&self.set)
    }

    /// Start workers up to the pool's size.
    pub(super) fn populate(&self, set: &mut WorkerSet, builder: &Builder) -> Result<()> {
        while set.all.iter().filter(|record| !record.leaving).count() < set.size {
            let worker_index = self.core.enlist().ours()?;
            set.started += 1;
            let name = format!("{}-{}", builder.name_or("PoolWorker"), set.started);
            let builder = builder.clone().name(name).worker();
            match (self.start)(builder, self.core.handle().to_bits(), worker_index) {
                Ok(handle) => set.all.push(WorkerRecord {
                    worker_index,
                    handle,
                    leaving: false,
                    ending: None,
                }),
                Err(error) => {
                    self.core.reap(worker_index, WorkerDeath::default()).ours()?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Replace workers that end, until the pool has ended.
    pub(super) fn watch(&self) {
        // This thread must not fork the process: other threads may hold locks.
        let builder = self.builder.clone().without_fork();
        loop {
            let mut set = self.lock();
            self.reap(&mut set);
            let pause = self.stop_overdue(&mut set);
            let over = set.terminated || !self.core.needs_workers();
            if over && set.all.is_empty() {
                return;
            }
            if !over && (set.failures >= FAILURES || self.populate(&mut set, &builder).is_err()) && set.all.is_empty() {
                // No worker is left, and none can be started.
                set.terminated = true;
                self.core.terminate();
                return;
            }
            let sentinels: Vec<_> = set
                .all
                .iter()
                .filter_map(|record| record.handle.sentinel().try_clone_to_owned().ok())
                .collect();
            let terminated = set.terminated;
            drop(set);
            let pause = if terminated { Some(GRACE) } else { pause };
            if !self.core.notice().wait(&sentinels, pause) && terminated {
                for record in &self.lock().all {
                    let _ = record.handle.kill();
                }
            }
        }
    }

    /// Stop the workers that run an overdue or cancelled task. Returns the time until the next check, if nothing
    /// happens before.
    fn stop_overdue(&self, set: &mut WorkerSet) -> Option<Duration> {
        let Overdue { worker_indexes, again } = self.core.overdue();
        let now = Instant::now();
        let mut pause = again;
        for record in &mut set.all {
            if worker_indexes.contains(&record.worker_index) {
                // If the signal cannot be sent, the worker has ended.
                let _ = record.handle.terminate();
                record.ending = Some(now + GRACE);
            }
            let Some(end) = record.ending else { continue };
            let left = end.saturating_duration_since(now);
            if left.is_zero() {
                let _ = record.handle.kill();
                record.ending = None;
            } else {
                pause = Some(pause.map_or(left, |pause| pause.min(left)));
            }
        }
        pause
    }

    fn reap(&self, set: &mut WorkerSet) {
        let (ended, all) = std::mem::take(&mut set.all)
            .into_iter()
            .partition(|record| record.handle.is_finished());
        set.all = all;
        let ended: Vec<WorkerRecord> = ended;
        for WorkerRecord {
            worker_index, handle, ..
        } in ended
        {
            let ready = self.core.is_ready(worker_index);
            set.failures = if ready { 0 } else { set.failures + 1 };
            let pid = handle.pid();
            let exitcode = match handle.join() {
                Ok(()) => 0,
                Err(JoinError::Signaled { signal, .. }) => -signal,
                Err(JoinError::Exited { code, .. }) => code,
                Err(_) => 101,
            };
            let death = WorkerDeath {
                pid,
                exitcode,
                ..WorkerDeath::default()
            };
            let _ = self.core.reap(worker_index, death);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
