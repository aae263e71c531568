//! The pool as the process that made it sees it. It has no thread of its own: every submission, wait and `reap` also
//! collects finished tasks.
//!
//! This is the pool's face alone; its state, and the lock around it, are left to `monitor`.

use super::job::{Function, Job};
use super::monitor::Monitor;
use super::types::{JobOptions, Overdue, Stats, WorkerDeath, WorkerEnd};
use crate::arena::Label;
use crate::channel::Message;
use crate::ids::Handle;
use crate::sys::notice::Notice;
use crate::{Deadline, Result, WaitError};
use std::sync::Arc;

/// A pool, owned by the process that made it.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Monitor>,
}

impl Pool {
    /// Create a pool without workers.
    pub fn new() -> Result<Self> {
        Self::labelled(Label::default())
    }

    /// Create a pool without workers, with a label.
    pub fn labelled(label: Label<'_>) -> Result<Self> {
        Ok(Self {
            inner: Arc::new(Monitor::create(label)?),
        })
    }

    #[cfg(test)]
    pub(super) fn inner_view(&self) -> &super::shared::PoolView {
        &self.inner.slots.view
    }

    /// The handle that workers attach to.
    pub fn handle(&self) -> Handle {
        self.inner.slots.view.shared.handle()
    }

    /// Whether this process made the pool. No other process may use it.
    pub fn is_mine(&self) -> bool {
        self.inner.slots.is_mine()
    }

    /// Set when the face should check the workers: work has ended, a worker must be stopped, or one must be checked at
    /// a certain time.
    pub fn notice(&self) -> &Notice {
        &self.inner.notice
    }

    /// Put a function into the pool. Every worker that does a task of its jobs reads it there.
    pub fn function(&self, function: Message) -> Result<Function> {
        let index = self.inner.add_function(function)?;
        Ok(Function {
            pool: Arc::clone(&self.inner),
            index,
        })
    }

    /// Create a job. Without a function its tasks carry their own.
    pub fn job(&self, function: Option<&Function>, options: JobOptions) -> Job {
        let key = self.inner.open(function.map_or(0, |function| function.index), options);
        Job {
            pool: Arc::clone(&self.inner),
            key,
        }
    }

    /// Create a job of one task, to which none is added.
    pub fn call(&self, function: Option<&Function>, options: JobOptions, arguments: Message) -> Result<Job> {
        let function = function.map_or(0, |function| function.index);
        let (key, added) = self.inner.call(function, options, arguments);
        let pool = Arc::clone(&self.inner);
        let job = Job { pool, key };
        added?;
        job.pool.slots.view.wake_one();
        Ok(job)
    }

    /// Reserve a slot for a worker and return its index, for [`Worker::attach`](super::Worker::attach).
    /// [`reap`](Self::reap) the worker when its process has ended.
    pub fn enlist(&self) -> Result<u32> {
        self.inner.enlist()
    }

    /// Whether the worker of this index has reported that it is ready.
    pub fn is_ready(&self, worker_index: u32) -> bool {
        self.inner.slots.is_ready(worker_index)
    }

    /// Whether the worker of this index is running a task.
    pub fn is_busy(&self, worker_index: u32) -> bool {
        self.inner.is_busy(worker_index)
    }

    /// Tell the worker of this index to leave when it has finished its current task.
    pub fn dismiss(&self, worker_index: u32) {
        self.inner.dismiss(worker_index);
    }

    /// Record that the process of the worker `worker_index` has ended. Its task is lost or tried again, and its slot is
    /// freed.
    pub fn reap(&self, worker_index: u32, death: WorkerDeath) -> Result<WorkerEnd> {
        self.inner.reap(worker_index, death)
    }

    /// The workers that must be stopped, and when to ask again. Each is named once.
    pub fn overdue(&self) -> Overdue {
        self.inner.overdue()
    }

    /// What the pool has done and is doing.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Close the pool: no more jobs come, and workers leave once all tasks of sealed jobs were taken.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Terminate the pool: workers take no more tasks, and everything unfinished is lost.
    pub fn terminate(&self) {
        self.inner.terminate();
    }

    /// Whether there is, or may come, work that no worker has taken. If so, workers that left must be replaced.
    pub fn needs_workers(&self) -> bool {
        self.inner.needs_workers()
    }

    /// Whether no task is unfinished and none can come.
    pub fn is_idle(&self) -> bool {
        self.inner.is_idle()
    }

    /// Wait for the next complete job that was to be announced. `None`: there will be none.
    pub fn next_completed(&self, deadline: Deadline) -> Result<Option<u32>, WaitError> {
        self.inner.next_completed(deadline)
    }
}
