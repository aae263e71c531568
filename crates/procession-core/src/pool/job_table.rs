//! The table of jobs: a state machine without locks, shared memory or system calls.
//!
//! Each method that changes it is an event: a task is submitted, finished, lost or taken, a job is sealed or dropped.
//! What must be done in return is queued as [`JobAction`]s, which `slots` carries out; which waiters must be told
//! follows from [`wake_at`](JobTable::wake_at) and [`feeders_wake_at`](JobTable::feeders_wake_at), which `monitor`
//! asks.

use super::job_record::{ItemState, JobRecord, TaskCopy};
use super::room::Feeder;
use super::types::{JobOptions, Loss, TaskOptions};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The capacity up to which the queue of actions is kept while it is empty.
const ACTIONS_KEPT: usize = 1024;

/// What an event makes necessary outside the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum JobAction {
    /// Free the slot of a task that is no longer needed.
    Release(u32),
    /// The function in this slot has one user less.
    LeaveFunction(u32),
    /// No more tasks will come: workers may leave when the queue is empty.
    Close,
}

/// The jobs: their items, how these ended, and how many tasks each waiter waits for. `M` is the type of the tasks'
/// messages.
pub(super) struct JobTable<M> {
    jobs: Vec<Option<JobRecord<M>>>,
    free_keys: Vec<u32>,
    /// Number of tasks submitted and not finished.
    unfinished: u64,
    /// Number of tasks that ended with a result, with an error, or with the death of their worker.
    done: u64,
    /// Number of jobs that may still grow.
    unsealed: u64,
    closing: bool,
    /// Complete jobs that were to be announced.
    completed: VecDeque<u32>,
    /// For each waiter, how many more tasks must finish before it can have what it wants.
    waiters: Vec<u64>,
    /// The threads that wait for room in a job.
    feeders: Vec<Feeder>,
    /// For each time limit, the number of unfinished tasks that have it.
    timed: BTreeMap<Duration, u64>,
    actions: VecDeque<JobAction>,
}

impl<M> JobTable<M> {
    pub fn new() -> Self {
        Self {
            jobs: Vec::new(),
            free_keys: Vec::new(),
            unfinished: 0,
            done: 0,
            unsealed: 0,
            closing: false,
            completed: VecDeque::new(),
            waiters: Vec::new(),
            feeders: Vec::new(),
            timed: BTreeMap::new(),
            actions: VecDeque::new(),
        }
    }

    /// The next action to be carried out, before the table's lock is released.
    pub fn next_action(&mut self) -> Option<JobAction> {
        let action = self.actions.pop_front();
        if action.is_none() && self.actions.capacity() > ACTIONS_KEPT {
            self.actions = VecDeque::new();
        }
        action
    }

    /// Number of tasks submitted and not finished.
    pub fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// Number of tasks that ended with a result, with an error, or with the death of their worker.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Whether no task is unfinished and none can come.
    pub fn is_idle(&self) -> bool {
        self.unfinished == 0 && self.unsealed == 0
    }

    /// The shortest time limit of an unfinished task.
    pub fn shortest_timeout(&self) -> Option<Duration> {
        self.timed.keys().next().copied()
    }

    pub fn job(&mut self, key: u32) -> &mut JobRecord<M> {
        self.jobs[key as usize]
            .as_mut()
            .expect("a job's record stays until it is dropped and complete")
    }

    /// The job of this key, unless it was forgotten.
    pub fn find(&self, key: u32) -> Option<&JobRecord<M>> {
        self.jobs[key as usize].as_ref()
    }

    /// Add a job and return its key.
    pub fn open(&mut self, function: u32, options: JobOptions) -> u32 {
        let record = JobRecord::new(function, options);
        self.unsealed += 1;
        if let Some(key) = self.free_keys.pop() {
            self.jobs[key as usize] = Some(record);
            return key;
        }
        self.jobs.push(Some(record));
        self.jobs.len() as u32 - 1
    }

    /// Append an item whose task is in this slot, and return its number. `own`: the options of the task, if they may
    /// differ from the job's.
    pub fn submit(&mut self, key: u32, slot: u32, bytes: u32, copy: Option<M>, own: Option<TaskOptions>) -> u64 {
        let job = self.job(key);
        let number = job.submitted();
        job.items.push_back(ItemState::Waiting { slot, bytes });
        job.bytes += u64::from(bytes);
        let TaskOptions { timeout, retries, .. } = own.unwrap_or(job.options.tasks);
        if timeout != job.options.tasks.timeout {
            job.own_timeouts.insert(number, timeout);
        }
        if let Some(message) = copy {
            job.copies.insert(number, TaskCopy { message, left: retries });
        }
        self.unfinished += 1;
        if let Some(timeout) = timeout {
            *self.timed.entry(timeout).or_default() += 1;
        }
        number
    }

    /// Append an item that is lost already, and return its number.
    pub fn refuse(&mut self, key: u32, loss: Loss) -> u64 {
        let number = self.submit(key, 0, 0, None, None);
        self.resolve(key, number, ItemState::Lost(loss));
        number
    }

    /// A worker finished the task in `slot`.
    pub fn finish(&mut self, key: u32, number: u64, slot: u32, raised: bool) {
        if self.resolve(key, number, ItemState::Ready { slot, raised }) {
            if self.job(key).abandoned {
                self.actions.push_back(JobAction::Release(slot));
            }
            self.check_complete(key);
            self.forget_if_over(key);
        }
    }

    /// The task in `slot` will not be finished. An item that does not wait for it any more is left alone: the job of a
    /// withdrawn task may be over, and its key in use for another job.
    pub fn lose(&mut self, key: u32, number: u64, slot: u32, loss: Loss) {
        if self.waits_for(key, number, slot) && self.resolve(key, number, ItemState::Lost(loss)) {
            self.check_complete(key);
            self.forget_if_over(key);
        }
    }

    /// The worker that ran the task in `slot` died. Returns the message with which the task is to be queued again, if
    /// its job's options allow another try; [`requeued`](Self::requeued) follows.
    pub fn retry(&mut self, key: u32, number: u64, slot: u32, duplicate: impl FnOnce(&M) -> Option<M>) -> Option<M> {
        if !self.waits_for(key, number, slot) {
            return None;
        }
        let copies = &mut self.job(key).copies;
        let copy = copies.get_mut(&number)?;
        copy.left -= 1;
        if copy.left == 0 {
            copies.remove(&number).map(|copy| copy.message)
        } else {
            duplicate(&copy.message)
        }
    }

    /// A task that is tried again is in this slot now.
    pub fn requeued(&mut self, key: u32, number: u64, now_in: u32) {
        if let Some(ItemState::Waiting { slot, .. }) = self.job(key).entry(number) {
            *slot = now_in;
        }
    }

    /// Whether a job's item waits for the task in this slot.
    fn waits_for(&mut self, key: u32, number: u64, slot: u32) -> bool {
        let job = self.jobs[key as usize].as_mut();
        job.is_some_and(|job| job.slot_of(number) == Some(slot))
    }

    /// Record that an item is no longer waiting. `false`: it was not waiting, or its job was stopped, dropped and
    /// forgotten while the item still ran.
    fn resolve(&mut self, key: u32, number: u64, ended: ItemState) -> bool {
        let Some(job) = &mut self.jobs[key as usize] else {
            return false;
        };
        let abandoned = job.abandoned;
        let Some(entry) = job.entry(number) else {
            return false;
        };
        let ItemState::Waiting { bytes, .. } = *entry else {
            return false;
        };
        let failed = !matches!(ended, ItemState::Ready { raised: false, .. });
        let ran = matches!(
            ended,
            ItemState::Ready { .. } | ItemState::Lost(Loss::Died(_) | Loss::TimedOut(..))
        );
        *entry = if abandoned { ItemState::Taken } else { ended };
        job.finished += 1;
        job.bytes -= u64::from(bytes);
        if failed && job.failed.is_none() {
            job.failed = Some(number);
        }
        if let Some(order) = &mut job.order {
            order.push_back(number);
        }
        if !job.copies.is_empty() {
            job.copies.remove(&number);
        }
        let timeout = job.timeout_of(number);
        if !job.own_timeouts.is_empty() {
            job.own_timeouts.remove(&number);
        }
        self.unfinished -= 1;
        self.done += u64::from(ran);
        if let Some(count) = timeout.and_then(|timeout| self.timed.get_mut(&timeout)) {
            *count -= 1;
            self.timed.retain(|_, count| *count > 0);
        }
        true
    }

    /// Seal a job: there will be no more tasks. Returns whether that is new.
    pub fn seal(&mut self, key: u32) -> bool {
        let is_new = self.mark_sealed(key);
        if is_new {
            self.close_if_over();
            self.check_complete(key);
        }
        is_new
    }

    fn mark_sealed(&mut self, key: u32) -> bool {
        let is_new = !std::mem::replace(&mut self.job(key).sealed, true);
        self.unsealed -= u64::from(is_new);
        is_new
    }

    /// No more jobs will come.
    pub fn close(&mut self) {
        self.closing = true;
        self.close_if_over();
    }

    fn close_if_over(&mut self) {
        if self.closing && self.unsealed == 0 {
            self.actions.push_back(JobAction::Close);
        }
    }

    /// Stop all jobs: what is unfinished is lost, and no more will come. Workers leave for another reason, so this asks
    /// for no action.
    pub fn stop_all(&mut self) {
        self.closing = true;
        for key in 0..self.jobs.len() as u32 {
            if let Some(job) = &self.jobs[key as usize] {
                let numbers = job.base..job.submitted();
                self.mark_sealed(key);
                for number in numbers {
                    self.resolve(key, number, ItemState::Lost(Loss::Stopped));
                }
                self.check_complete(key);
            }
        }
    }

    /// The job's items will not be taken. The job is forgotten once it is complete.
    pub fn abandon(&mut self, key: u32) {
        self.job(key).abandoned = true;
        self.seal(key);
        self.forget_if_over(key);
    }

    /// Forget an abandoned job once it is complete. Frees all that is left of it.
    fn forget_if_over(&mut self, key: u32) {
        let job = self.job(key);
        if !job.abandoned || !job.is_complete() {
            return;
        }
        let Some(job) = self.jobs[key as usize].take() else {
            return;
        };
        for entry in job.items {
            if let ItemState::Ready { slot, .. } = entry {
                self.actions.push_back(JobAction::Release(slot));
            }
        }
        self.actions.push_back(JobAction::LeaveFunction(job.function));
        self.completed.retain(|&other| other != key);
        self.free_keys.push(key);
    }

    /// Have [`next_completed`](Self::next_completed) report the job when it is complete.
    pub fn announce(&mut self, key: u32) {
        self.job(key).announce = true;
        self.check_complete(key);
    }

    fn check_complete(&mut self, key: u32) {
        let job = self.job(key);
        if job.announce && job.is_complete() {
            job.announce = false;
            self.completed.push_back(key);
        }
    }

    /// The next complete job that was to be announced. `None`: there will be none. An error says how many tasks, at
    /// least, must finish before there is one.
    pub fn next_completed(&mut self) -> Result<Option<u32>, u64> {
        if let Some(key) = self.completed.pop_front() {
            return Ok(Some(key));
        }
        let mut announced = self.jobs.iter().flatten().filter(|job| job.announce);
        match (announced.next(), announced.next()) {
            (None, _) if self.closing && self.unsealed == 0 => Ok(None),
            (None, _) => Err(u64::MAX),
            (Some(job), None) => Err(job.unfinished().max(1)),
            _ => Err(1),
        }
    }

    /// A waiter waits until this many more tasks are finished.
    pub fn add_waiter(&mut self, missing: u64) {
        self.waiters.push(missing);
    }

    pub fn replace_waiter(&mut self, old: u64, new: u64) {
        if let Some(waiter) = self.waiters.iter_mut().find(|waiter| **waiter == old) {
            *waiter = new;
        }
    }

    pub fn forget_waiter(&mut self, old: u64) {
        if let Some(at) = self.waiters.iter().position(|&waiter| waiter == old) {
            self.waiters.swap_remove(at);
        }
    }

    pub fn waiters(&self) -> usize {
        self.waiters.len()
    }

    /// How many tasks must finish before a waiter is to be told; 0: none waits.
    pub fn wake_at(&self) -> u32 {
        let least = self.waiters.iter().min();
        least.map_or(0, |&least| u32::try_from(least).unwrap_or(u32::MAX))
    }

    pub fn add_feeder(&mut self, feeder: Feeder) {
        self.feeders.push(feeder);
    }

    pub fn forget_feeder(&mut self, feeder: Feeder) {
        if let Some(at) = self.feeders.iter().position(|one| *one == feeder) {
            self.feeders.swap_remove(at);
        }
    }

    /// How many tasks must finish before a feeder is to be told (0: none waits), and whether one is to be told now.
    pub fn feeders_wake_at(&self) -> (u32, bool) {
        let missing = |feeder: &Feeder| match &self.jobs[feeder.job as usize] {
            Some(job) => feeder.room.missing(job.load()),
            None => 0,
        };
        let (mut least, mut ready) = (u64::MAX, false);
        for missing in self.feeders.iter().map(missing) {
            ready |= missing == 0;
            least = least.min(missing.max(1));
        }
        let wanted = if self.feeders.is_empty() { 0 } else { least };
        (u32::try_from(wanted).unwrap_or(u32::MAX), ready)
    }
}
