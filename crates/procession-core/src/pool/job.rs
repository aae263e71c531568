//! A job and a function as their submitter has them: tasks go in, items come out.
//!
//! Both are keys of the pool's records, which they free when they are dropped. All else is left to `monitor`.

use super::job_record::Want;
use super::monitor::Monitor;
use super::room::Intake;
use super::types::{Item, TaskOptions, Withdrawn};
use crate::channel::Message;
use crate::{Deadline, Result, WaitError};
use std::sync::Arc;
use std::time::Duration;

/// A function in the pool, to be given to jobs. Workers keep what they make of it as long as it, or a job with it,
/// lives.
pub struct Function {
    pub(super) pool: Arc<Monitor>,
    pub(super) index: u32,
}

impl Drop for Function {
    fn drop(&mut self) {
        self.pool.leave_function(self.index);
    }
}

/// A job in a pool: tasks that share a function. If it is dropped, its tasks are still done, but their items are
/// dropped.
pub struct Job {
    pub(super) pool: Arc<Monitor>,
    pub(super) key: u32,
}

impl Job {
    /// A number that no other living job of this pool has.
    pub fn id(&self) -> u32 {
        self.key
    }

    /// Whether the pool is this process's: in a child of fork, a copy of a job is not to be used.
    pub fn is_mine(&self) -> bool {
        self.pool.slots.is_mine()
    }

    /// Add a task and return its number.
    pub fn submit(&self, arguments: Message) -> Result<u64> {
        self.pool.submit(self.key, 0, None, arguments)
    }

    /// Add a task with a function of its own and return its number.
    pub fn submit_for(&self, function: &Function, arguments: Message) -> Result<u64> {
        self.pool.submit(self.key, function.index, None, arguments)
    }

    /// Add a task with options of its own, and perhaps a function of its own, and return its number.
    pub fn submit_with(&self, function: Option<&Function>, options: TaskOptions, arguments: Message) -> Result<u64> {
        let function = function.map_or(0, |function| function.index);
        self.pool.submit(self.key, function, Some(options), arguments)
    }

    /// Count a task that could not be packed, and return its number. Its item is
    /// [`Loss::Refused`](super::Loss::Refused).
    pub fn refuse(&self) -> u64 {
        self.pool.refuse(self.key)
    }

    /// Seal the job: there will be no more tasks.
    pub fn seal(&self) {
        self.pool.seal(self.key);
    }

    /// Have [`Pool::next_completed`](super::Pool::next_completed) report the job when it is complete.
    pub fn announce(&self) {
        self.pool.announce(self.key);
    }

    /// Seal the job and stop its unfinished tasks; they are [`Loss::Cancelled`](super::Loss::Cancelled) at once.
    pub fn cancel(&self) -> Withdrawn {
        self.pool.withdraw(self.key, None)
    }

    /// Stop one task if it is not finished.
    pub fn cancel_one(&self, number: u64) -> Withdrawn {
        self.pool.withdraw(self.key, Some(number))
    }

    /// Stop the tasks that have not begun, and return their numbers. The others go on, and more may come.
    pub fn cancel_pending(&self) -> Vec<u64> {
        self.pool.withdraw_pending(self.key, None)
    }

    /// Stop one task if it has not begun. Returns whether it is stopped.
    pub fn cancel_one_pending(&self, number: u64) -> bool {
        !self.pool.withdraw_pending(self.key, Some(number)).is_empty()
    }

    /// Whether a worker is running this task.
    pub fn is_running(&self, number: u64) -> bool {
        self.pool.is_running(self.key, number)
    }

    /// Whether to submit another task, for a pool of this many workers. `None`: regardless of the bytes of the
    /// unfinished tasks.
    pub fn intake(&self, workers: Option<u64>) -> Intake {
        self.pool.with_job(self.key, |job| job.load().intake(workers))
    }

    /// How many tasks were submitted, and how many of them are finished.
    pub fn progress(&self) -> (u64, u64) {
        self.pool.with_job(self.key, |job| (job.submitted(), job.finished))
    }

    /// The sum of `weight` over the finished tasks.
    pub fn weigh_finished(&self, weight: impl Fn(u64) -> u64) -> u64 {
        self.pool.with_job(self.key, |job| job.weigh_finished(weight))
    }

    /// Whether all tasks are finished and no more will come.
    pub fn is_complete(&self) -> bool {
        self.pool.with_job(self.key, |job| job.is_complete())
    }

    /// The task that failed first, if any did.
    pub fn first_failure(&self) -> Option<u64> {
        self.pool.with_job(self.key, |job| job.failed)
    }

    /// How long an item took lately, as the workers report; `None` before the first is done.
    pub fn measured(&self) -> Option<Duration> {
        self.pool.measured(self.key)
    }

    /// Wait until the job is complete.
    pub fn wait(&self, deadline: Deadline) -> Result<(), WaitError> {
        self.pool.wait(self.key, Want::All, deadline)
    }

    /// Wait until the first task is finished.
    pub fn wait_for_one(&self, deadline: Deadline) -> Result<(), WaitError> {
        self.pool.wait(self.key, Want::Item(0), deadline)
    }

    /// Take the item of task `number` once it is finished. `None`: the job is complete and there is no such item, or
    /// not any more.
    pub fn take(&self, number: u64, deadline: Deadline) -> Result<Option<Item>, WaitError> {
        self.pool.take(self.key, number, deadline)
    }

    /// Take the item of task `number` if it is there.
    pub fn take_now(&self, number: u64) -> Result<Option<Item>> {
        self.pool.take_now(self.key, number)
    }

    /// Take the item that finished first of those not taken. `None`: the job is complete and all were taken. Only for a
    /// job whose options say `by_time`.
    pub fn take_any(&self, deadline: Deadline) -> Result<Option<(u64, Item)>, WaitError> {
        loop {
            self.pool.wait(self.key, Want::Any, deadline)?;
            let Some(number) = self.pool.with_job(self.key, |job| job.order.as_mut()?.pop_front()) else {
                if self.is_complete() {
                    return Ok(None);
                }
                continue;
            };
            if let Some(item) = self.take_now(number)? {
                return Ok(Some((number, item)));
            }
        }
    }

    /// Take the items that finished first, at most `limit` of them, once there is one. Empty: the job is complete and
    /// all were taken, or `limit` is 0, which waits for nothing. Only for a job whose options say `by_time`.
    pub fn take_batch(&self, limit: usize, deadline: Deadline) -> Result<Vec<(u64, Item)>, WaitError> {
        let mut batch = Vec::new();
        let Some(others) = limit.checked_sub(1) else {
            return Ok(batch);
        };
        batch.extend(self.take_any(deadline)?);
        let more = self.pool.with_job(self.key, |job| job.next_finished(others));
        for number in more {
            batch.extend(self.take_now(number)?.map(|item| (number, item)));
        }
        Ok(batch)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.pool.abandon(self.key);
    }
}
