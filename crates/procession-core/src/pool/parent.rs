//! The pool as the process that made it sees it. It has no thread of its own: every submission, wait and `reap` also
//! collects finished tasks.

use super::job::{Job, TaskOptions};
use super::job_table::JobTable;
use super::shared::{Phase, State, Status, View};
use super::table::Use;
use super::workers::{Death, Overdue, Stats, WorkerEnd};
use crate::channel::Message;
use crate::ids::{Handle, Owner};
use crate::sys::notice::Notice;
use crate::{family, Deadline, Error, Result, WaitError};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A pool, owned by the process that made it.
#[derive(Clone)]
pub struct Pool {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub view: View,
    owner: Owner,
    jobs: Mutex<JobTable>,
    /// Grows whenever something happens in `jobs` that a waiter may wait for.
    pub version: AtomicU64,
    /// Tells the face, which manages the workers, to call [`Pool::overdue`] and [`Pool::needs_workers`].
    pub notice: Notice,
}

/// A function in the pool, to be given to jobs. Workers keep what they make of it as long as it, or a job with it,
/// lives.
pub struct Function {
    pub(super) pool: Arc<Inner>,
    pub(super) index: u32,
}

impl Pool {
    /// Create a pool without workers.
    pub fn new() -> Result<Self> {
        let inner = Inner {
            view: View::create()?,
            owner: family()?.me(),
            jobs: Mutex::new(JobTable::new()),
            version: AtomicU64::new(0),
            notice: Notice::new()?,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    #[cfg(test)]
    pub(super) fn inner_view(&self) -> &View {
        &self.inner.view
    }

    /// The handle that workers attach to.
    pub fn handle(&self) -> Handle {
        self.inner.view.shared.handle()
    }

    /// Whether this process made the pool. No other process may use it.
    pub fn is_mine(&self) -> bool {
        self.inner.is_mine()
    }

    /// Set when the face should check the workers: work has ended, a worker must be stopped, or one must be checked at
    /// a certain time.
    pub fn notice(&self) -> &Notice {
        &self.inner.notice
    }

    /// Put a function into the pool. Every worker that does a task of its jobs reads it there.
    pub fn function(&self, function: Message) -> Result<Function> {
        self.inner.check_is_mine()?;
        let view = &self.inner.view;
        let (index, generation) = self.inner.lock().table.take(view, Use::Function { users: 1 })?;
        let slot = view.slot(index)?;
        slot.header.post(function);
        slot.next.store(0, Relaxed);
        slot.store(State::of(Status::Function, generation, None));
        Ok(Function {
            pool: Arc::clone(&self.inner),
            index,
        })
    }

    /// Create a job. Without a function its tasks carry their own.
    pub fn job(&self, function: Option<&Function>, options: TaskOptions) -> Job {
        let key = self
            .inner
            .lock()
            .open(function.map_or(0, |function| function.index), options);
        Job {
            pool: Arc::clone(&self.inner),
            key,
        }
    }

    /// Create a job of one task, to which none is added.
    pub fn call(&self, function: Option<&Function>, options: TaskOptions, arguments: Message) -> Result<Job> {
        let mut jobs = self.inner.lock();
        let key = jobs.open(function.map_or(0, |function| function.index), options);
        let added = self.inner.add_task(&mut jobs, key, 0, arguments);
        jobs.seal(key);
        self.inner.close_if_done(&jobs);
        drop(jobs);
        let pool = Arc::clone(&self.inner);
        let job = Job { pool, key };
        added?;
        job.pool.view.wake_one();
        Ok(job)
    }

    /// Reserve a slot for a worker and return its index, for [`Worker::attach`](super::Worker::attach).
    /// [`reap`](Self::reap) the worker when its process has ended.
    pub fn enlist(&self) -> Result<u32> {
        self.inner.enlist()
    }

    /// Whether the worker of this index has reported that it is ready.
    pub fn is_ready(&self, worker_index: u32) -> bool {
        self.inner.is_ready(worker_index)
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
    pub fn reap(&self, worker_index: u32, death: Death) -> Result<WorkerEnd> {
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
        if !self.is_mine() {
            return;
        }
        let mut jobs = self.inner.lock();
        jobs.closing = true;
        self.inner.close_if_done(&jobs);
        self.inner.tell(&jobs, 0);
        self.inner.notice.set();
    }

    /// Terminate the pool: workers take no more tasks, and everything unfinished is lost.
    pub fn terminate(&self) {
        if !self.is_mine() {
            return;
        }
        let mut jobs = self.inner.lock();
        jobs.closing = true;
        self.inner.enter(Phase::Terminate);
        self.inner.collect(&mut jobs, 0);
        jobs.stop_all();
        self.inner.tell(&jobs, 0);
        self.inner.notice.set();
    }

    /// Whether there is, or may come, work that no worker has taken. If so, workers that left must be replaced.
    pub fn needs_workers(&self) -> bool {
        let jobs = self.inner.lock();
        match self.inner.view.phase() {
            Phase::Run => true,
            Phase::Close => self.inner.view.is_waiting() && jobs.unfinished > 0,
            Phase::Terminate => false,
        }
    }

    /// Whether no task is unfinished and none can come.
    pub fn is_idle(&self) -> bool {
        let mut jobs = self.inner.lock();
        self.inner.collect(&mut jobs, 0);
        jobs.unfinished == 0 && jobs.unsealed == 0
    }

    /// Wait for the next complete job that was to be announced. `None`: there will be none.
    pub fn next_completed(&self, deadline: Deadline) -> Result<Option<u32>, WaitError> {
        self.inner.wait_for(deadline, |jobs| match jobs.completed.pop_front() {
            Some(key) => Ok(Some(key)),
            None if jobs.closing && jobs.unsealed == 0 && jobs.announced().next().is_none() => Ok(None),
            None => Err(jobs.until_completed()),
        })
    }
}

impl Inner {
    pub fn lock(&self) -> MutexGuard<'_, JobTable> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_mine(&self) -> bool {
        family().is_ok_and(|family| family.me() == self.owner)
    }

    /// Fail in a child of the process that made the pool. The child has a copy of the jobs, and must not touch shared
    /// memory.
    pub fn check_is_mine(&self) -> Result<()> {
        if self.is_mine() {
            Ok(())
        } else {
            Err(Error::Inherited("pool"))
        }
    }

    fn enter(&self, phase: Phase) {
        if self.is_mine() {
            self.view.enter(phase);
        }
    }

    pub fn close_if_done(&self, jobs: &JobTable) {
        if jobs.closing && jobs.unsealed == 0 {
            self.enter(Phase::Close);
        }
    }

    /// Count one user less of the function in this slot, and free the function if there is none left.
    pub fn leave_function(&self, jobs: &mut JobTable, index: u32) {
        if index == 0 || jobs.table.count_user(index, -1) > 0 {
            return;
        }
        if let Ok(slot) = self.view.slot(index) {
            slot.header.discard();
            slot.store(State::of(Status::Free, jobs.table.get(index).1, None));
            jobs.table.give_back(index);
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        if self.pool.is_mine() {
            self.pool.leave_function(&mut self.pool.lock(), self.index);
        }
    }
}
