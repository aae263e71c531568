//! A job as its submitter sees it: tasks go in, items come out. All its state is the parent's own.

use super::collect::Withdrawn;
use super::parent::{Function, Inner};
use super::room::Intake;
use super::workers::Death;
use crate::channel::{Incoming, Message};
use crate::{Deadline, Result, WaitError};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Options of a job's tasks.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskOptions {
    /// Items will be taken as they finish ([`Job::take_any`]).
    pub by_time: bool,
    /// How long a task may run before its worker is stopped.
    pub timeout: Option<Duration>,
    /// How many more times a task is tried if its worker dies.
    pub retries: u32,
}

/// Why a task has neither result nor error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Its worker died.
    Died(Box<Death>),
    /// It ran for longer than this, and its worker was stopped.
    TimedOut(Duration, Box<Death>),
    /// It was withdrawn.
    Cancelled,
    /// It was never submitted: see [`Job::refuse`].
    Refused,
    /// The pool was terminated before it was done.
    Stopped,
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

/// What a wait is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    All,
    Item(u64),
    Any,
}

pub(super) enum Entry {
    /// The task is in this slot, and was submitted with this many bytes of arguments.
    Waiting {
        slot: u32,
        bytes: u32,
    },
    Ready {
        slot: u32,
        raised: bool,
    },
    Lost(Loss),
    Taken,
}

/// The parent's record of a job.
pub(super) struct State {
    pub function: u32,
    pub options: TaskOptions,
    /// The items from number `base` on; all earlier ones were taken.
    pub items: VecDeque<Entry>,
    pub base: u64,
    /// Number of items that are no longer waiting.
    pub finished: u64,
    /// Bytes of arguments of the items that are waiting.
    pub bytes: u64,
    /// The item that was the first in time to fail or to be lost.
    pub failed: Option<u64>,
    /// Finished items that are not taken, in the order in which they finished; kept only for jobs whose items are taken
    /// in that order.
    pub order: Option<VecDeque<u64>>,
    pub sealed: bool,
    /// Whether the pool's `next_completed` reports the job when it is complete.
    pub announce: bool,
    /// The items will not be taken.
    pub abandoned: bool,
    /// Copies of unfinished tasks, for further tries.
    pub spares: HashMap<u64, Spare>,
}

/// A copy of a task, in case its worker dies.
pub(super) struct Spare {
    pub message: Message,
    /// Number of further tries.
    pub left: u32,
}

impl State {
    pub fn new(function: u32, options: TaskOptions) -> Self {
        Self {
            function,
            options,
            items: VecDeque::new(),
            base: 0,
            finished: 0,
            bytes: 0,
            failed: None,
            order: options.by_time.then(VecDeque::new),
            sealed: false,
            announce: false,
            abandoned: false,
            spares: HashMap::new(),
        }
    }

    pub fn submitted(&self) -> u64 {
        self.base + self.items.len() as u64
    }

    pub fn entry(&mut self, item: u64) -> Option<&mut Entry> {
        self.items.get_mut(usize::try_from(item.checked_sub(self.base)?).ok()?)
    }

    pub fn is_complete(&self) -> bool {
        self.sealed && self.finished == self.submitted()
    }

    /// How many more tasks must finish, at least, before the wait for `want` is over.
    pub fn missing(&mut self, want: Want) -> u64 {
        if self.is_complete() {
            return 0;
        }
        match want {
            Want::All => (self.submitted() - self.finished).max(1),
            Want::Item(item) if item < self.base => 0,
            Want::Item(item) => match self.entry(item) {
                Some(Entry::Waiting { .. }) | None => 1,
                Some(_) => 0,
            },
            Want::Any => u64::from(self.order.as_ref().is_some_and(VecDeque::is_empty)),
        }
    }
}

/// A job in a pool: tasks that share a function. If it is dropped, its tasks are still done, but their items are
/// dropped.
pub struct Job {
    pub(super) pool: Arc<Inner>,
    pub(super) key: u32,
}

impl Job {
    /// A number that no other living job of this pool has.
    pub fn id(&self) -> u32 {
        self.key
    }

    /// Add a task and return its number.
    pub fn submit(&self, arguments: Message) -> Result<u64> {
        self.pool.submit(self.key, 0, arguments)
    }

    /// Add a task with a function of its own and return its number.
    pub fn submit_for(&self, function: &Function, arguments: Message) -> Result<u64> {
        self.pool.submit(self.key, function.index, arguments)
    }

    /// Count a task that could not be packed, and return its number. Its item is [`Loss::Refused`].
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

    /// Seal the job and stop its unfinished tasks; they are [`Loss::Cancelled`] at once.
    pub fn cancel(&self) -> Withdrawn {
        self.pool.withdraw(self.key, None)
    }

    /// Stop one task if it is not finished.
    pub fn cancel_one(&self, number: u64) -> Withdrawn {
        self.pool.withdraw(self.key, Some(number))
    }

    /// Stop the tasks that have not begun, and return their numbers. The others go on, and more may come.
    pub fn cancel_pending(&self) -> Vec<u64> {
        self.pool.withdraw_pending(self.key)
    }

    /// Whether a worker is running this task.
    pub fn is_running(&self, number: u64) -> bool {
        self.pool.is_running(self.key, number)
    }

    /// Whether to submit another task, for a pool of this many workers. `None`: regardless of the bytes of the
    /// unfinished tasks.
    pub fn intake(&self, workers: Option<u64>) -> Intake {
        self.pool.with_job(self.key, |job| job.intake(workers))
    }

    /// How many tasks were submitted, and how many of them are finished.
    pub fn progress(&self) -> (u64, u64) {
        self.pool.with_job(self.key, |job| (job.submitted(), job.finished))
    }

    /// The sum of `weight` over the finished tasks.
    pub fn weigh_finished(&self, weight: impl Fn(u64) -> u64) -> u64 {
        self.pool.with_job(self.key, |job| {
            let later = job.items.iter().zip(job.base..);
            let finished = later.filter(|(entry, _)| !matches!(entry, Entry::Waiting { .. }));
            (0..job.base)
                .chain(finished.map(|(_, number)| number))
                .map(weight)
                .sum()
        })
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
        let item = self
            .pool
            .wait_for(deadline, |jobs| match jobs.job(self.key).missing(Want::Item(number)) {
                0 => Ok(self.pool.take(jobs, self.key, number)),
                missing => Err(missing),
            })?;
        Ok(item?)
    }

    /// Take the item of task `number` if it is there.
    pub fn take_now(&self, number: u64) -> Result<Option<Item>> {
        let mut jobs = self.pool.lock();
        self.pool.collect(&mut jobs, 0);
        self.pool.take(&mut jobs, self.key, number)
    }

    /// Take the item that finished first of those not taken. `None`: the job is complete and all were taken. Only for a
    /// job whose options say `by_time`.
    pub fn take_any(&self, deadline: Deadline) -> Result<Option<(u64, Item)>, WaitError> {
        loop {
            self.pool.wait(self.key, Want::Any, deadline)?;
            let Some(number) = self
                .pool
                .with_job(self.key, |job| job.order.as_mut().and_then(VecDeque::pop_front))
            else {
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
        let more = self.pool.with_job(self.key, |job| {
            let order = job.order.as_mut();
            order.map_or_else(Vec::new, |order| order.drain(..order.len().min(others)).collect())
        });
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
