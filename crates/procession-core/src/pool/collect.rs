//! The stages of a task: submitted, finished, taken or withdrawn; and the waits for them.

use super::job::{Entry, Item, Loss, Spare, Want};
use super::job_table::JobTable;
use super::parent::Inner;
use super::shared::{Phase, State, Status};
use super::table::Use;
use crate::channel::Message;
use crate::sync::wait::Purpose;
use crate::{liveness, Deadline, Result, WaitError};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

/// How often a waiter wakes further workers while tasks are queued: the worker that was to claim them may be stopped.
const RELIEF: Duration = Duration::from_millis(40);

/// The result of a withdrawal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Withdrawn {
    /// Tasks that had not begun.
    pub pending: u64,
    /// Tasks that ran. Their workers are to be stopped: see [`Pool::overdue`](super::Pool::overdue).
    pub running: u64,
}

impl Inner {
    pub fn with_job<R>(&self, key: u32, look: impl FnOnce(&mut super::job::State) -> R) -> R {
        let mut jobs = self.lock();
        self.collect(&mut jobs, 0);
        look(jobs.job(key))
    }

    pub fn submit(&self, key: u32, function: u32, arguments: Message) -> Result<u64> {
        let mut jobs = self.lock();
        let item = self.add_task(&mut jobs, key, function, arguments)?;
        drop(jobs);
        self.view.wake_one();
        Ok(item)
    }

    /// Queue one more task of a job, and return its number. Wakes no worker.
    pub fn add_task(&self, jobs: &mut JobTable, key: u32, function: u32, arguments: Message) -> Result<u64> {
        self.check_is_mine()?;
        self.collect(jobs, 0);
        if self.view.phase() == Phase::Terminate {
            return Ok(jobs.add(key, Entry::Lost(Loss::Stopped)));
        }
        let options = jobs.job(key).options;
        let spare = (options.retries > 0).then(|| arguments.duplicate()).transpose()?;
        let item = jobs.job(key).submitted();
        let bytes = u32::try_from(arguments.size()).unwrap_or(u32::MAX);
        let slot = self.enqueue(jobs, (key, item, function), arguments)?;
        jobs.add(key, Entry::Waiting { slot, bytes });
        if let Some(message) = spare {
            let left = options.retries;
            jobs.job(key).spares.insert(item, Spare { message, left });
        }
        if let Some(timeout) = options.timeout {
            self.see_in_time(jobs, timeout);
        }
        Ok(item)
    }

    /// Append a task to the queue, and return its slot. `task` is the job, the task's number, and its own function or
    /// 0.
    pub fn enqueue(&self, jobs: &mut JobTable, task: (u32, u64, u32), arguments: Message) -> Result<u32> {
        let (job, item, function) = task;
        let (index, generation) = jobs.table.take(&self.view, Use::Task { job, item, function })?;
        let slot = self.view.slot(index)?;
        let function = if function == 0 {
            jobs.job(job).function
        } else {
            function
        };
        jobs.table.count_user(jobs.table.own_function(index), 1);
        slot.aux.store(function, Relaxed);
        slot.header.post(arguments);
        jobs.table.enqueue(index);
        let tail = std::mem::replace(&mut jobs.tail, index);
        self.view.append(tail, index, generation)?;
        Ok(index)
    }

    /// Have the face check the workers before a task that begins now can be overdue.
    fn see_in_time(&self, jobs: &mut JobTable, timeout: Duration) {
        let Some(due) = Instant::now().checked_add(timeout) else {
            return;
        };
        if jobs.next_look.is_none_or(|look| due < look) {
            jobs.next_look = Some(due);
            self.notice.set();
        }
    }

    pub fn measured(&self, key: u32) -> Option<Duration> {
        let function = self.lock().job(key).function;
        let nanos = self
            .view
            .slot(function)
            .ok()
            .filter(|_| function != 0)?
            .next
            .load(Relaxed);
        (nanos != 0).then(|| Duration::from_nanos(u64::from(nanos)))
    }

    pub fn refuse(&self, key: u32) -> u64 {
        let mut jobs = self.lock();
        let item = jobs.add(key, Entry::Lost(Loss::Refused));
        self.tell(&jobs, 0);
        item
    }

    pub fn seal(&self, key: u32) {
        // A child of fork may have inherited the jobs locked, by a thread that the child does not have.
        if !self.is_mine() {
            return;
        }
        let mut jobs = self.lock();
        if jobs.seal(key) {
            jobs.check_complete(key);
            self.close_if_done(&jobs);
            self.tell(&jobs, 0);
        }
    }

    pub fn announce(&self, key: u32) {
        let mut jobs = self.lock();
        jobs.job(key).announce = true;
        jobs.check_complete(key);
        self.tell(&jobs, 0);
    }

    /// Stop the unfinished tasks of a job: one item; or all, and then no more will come.
    pub fn withdraw(&self, key: u32, item: Option<u64>) -> Withdrawn {
        if !self.is_mine() {
            return Withdrawn::default();
        }
        let mut jobs = self.lock();
        self.collect(&mut jobs, 0);
        if item.is_none() && jobs.seal(key) {
            self.close_if_done(&jobs);
        }
        let job = jobs.job(key);
        let numbers = item.map_or(job.base..job.submitted(), |item| item..item + 1);
        let mut withdrawn = Withdrawn::default();
        for number in numbers {
            let Some(&mut Entry::Waiting { slot: index, .. }) = jobs.job(key).entry(number) else {
                continue;
            };
            match self.stop_task(&mut jobs, index) {
                Some(Status::Pending) => withdrawn.pending += 1,
                Some(Status::Running) => withdrawn.running += 1,
                _ => continue,
            }
            jobs.resolve(key, number, Entry::Lost(Loss::Cancelled));
        }
        if withdrawn.pending > 0 {
            let _ = self.view.skip_withdrawn(jobs.table.len());
        }
        if withdrawn.running > 0 {
            self.notice.set();
        }
        jobs.check_complete(key);
        self.tell(&jobs, 0);
        withdrawn
    }

    /// Whether a worker is running a task.
    pub fn is_running(&self, key: u32, item: u64) -> bool {
        let mut jobs = self.lock();
        let Some(&mut Entry::Waiting { slot: index, .. }) = jobs.job(key).entry(item) else {
            return false;
        };
        let state = self.view.slot(index).ok().and_then(super::shared::Slot::load);
        state.is_some_and(|state| state.status == Status::Running)
    }

    /// Stop the tasks of a job that no worker has begun, and return their numbers.
    pub fn withdraw_pending(&self, key: u32) -> Vec<u64> {
        if !self.is_mine() {
            return Vec::new();
        }
        let mut jobs = self.lock();
        self.collect(&mut jobs, 0);
        let job = jobs.job(key);
        let mut withdrawn = Vec::new();
        for number in job.base..job.submitted() {
            let Some(&mut Entry::Waiting { slot: index, .. }) = jobs.job(key).entry(number) else {
                continue;
            };
            if self.withdraw_task(&mut jobs, index) {
                jobs.resolve(key, number, Entry::Lost(Loss::Cancelled));
                withdrawn.push(number);
            }
        }
        let _ = self.view.skip_withdrawn(jobs.table.len());
        jobs.check_complete(key);
        self.tell(&jobs, 0);
        withdrawn
    }

    /// Keep a task from being begun; `false` if that is too late.
    fn withdraw_task(&self, jobs: &mut JobTable, index: u32) -> bool {
        let (Use::Task { .. }, generation) = jobs.table.get(index) else {
            return false;
        };
        if !self.is_mine() {
            return false;
        }
        let Ok(slot) = self.view.slot(index) else {
            return false;
        };
        let pending = slot
            .load()
            .filter(|state| state.generation == generation && state.status == Status::Pending);
        let withdrawn = pending.is_some_and(|state| slot.swap(state, State::of(Status::Free, generation, None)));
        if withdrawn {
            slot.header.discard();
            self.leave_function(jobs, jobs.table.own_function(index));
            jobs.table.give_back_later(index);
        }
        withdrawn
    }

    /// Keep a task from being begun, or its result from being counted. Returns the status it had, or `None` if it is
    /// finished.
    fn stop_task(&self, jobs: &mut JobTable, index: u32) -> Option<Status> {
        let (Use::Task { .. }, generation) = jobs.table.get(index) else {
            return None;
        };
        let slot = self.view.slot(index).ok()?;
        // A worker may claim the task, or finish it, meanwhile: then look again. It cannot do more than these two.
        for _ in 0..3 {
            let state = slot.load().filter(|state| state.generation == generation)?;
            match state.status {
                Status::Pending if self.withdraw_task(jobs, index) => return Some(Status::Pending),
                Status::Running if self.cancel_running(jobs, index, state, None) => return Some(Status::Running),
                Status::Pending | Status::Running => {}
                _ => return None,
            }
        }
        None
    }

    /// Announce that something in `jobs` changed; `mine` of the waiters know it already. A waiter that checks now gets
    /// the lock after this thread.
    pub fn tell(&self, jobs: &JobTable, mine: usize) {
        self.version.fetch_add(1, SeqCst);
        if jobs.waiters.len() > mine {
            self.view.shared.done.notify(u32::MAX);
        }
        self.tell_feeders(jobs);
    }

    /// Record what workers finished, on behalf of `mine` of the waiters.
    pub fn collect(&self, jobs: &mut JobTable, mine: usize) {
        if self.view.finished() == 0 || !self.is_mine() {
            return;
        }
        let mut finished = std::mem::take(&mut jobs.scratch);
        self.view.take_finished(&mut finished);
        for &index in &finished {
            self.note(jobs, index);
        }
        jobs.scratch = finished;
        self.tell(jobs, mine);
    }

    /// Record one finished task.
    pub fn note(&self, jobs: &mut JobTable, index: u32) {
        let (Use::Task { job, item, .. }, generation) = jobs.table.get(index) else {
            return;
        };
        let Ok(slot) = self.view.slot(index) else {
            return;
        };
        let raised = match slot.load() {
            Some(state) if state.generation == generation && state.status == Status::Done => false,
            Some(state) if state.generation == generation && state.status == Status::Raised => true,
            _ => return,
        };
        if jobs.resolve(job, item, Entry::Ready { slot: index, raised }) {
            if jobs.job(job).abandoned {
                self.release(jobs, index);
            }
            jobs.check_complete(job);
            self.end_if_over(jobs, job);
        }
    }

    /// Free the slot of a task that is no longer needed.
    pub fn release(&self, jobs: &mut JobTable, index: u32) {
        if let Ok(slot) = self.view.slot(index) {
            slot.header.discard();
            self.leave_function(jobs, jobs.table.own_function(index));
            slot.store(State::of(Status::Free, jobs.table.get(index).1, None));
            if self.view.pass(index).is_ok() {
                jobs.table.give_back(index);
            }
        }
    }

    /// Take an item if it is there.
    pub fn take(&self, jobs: &mut JobTable, key: u32, number: u64) -> Result<Option<Item>> {
        self.check_is_mine()?;
        let job = jobs.job(key);
        let Some(entry) = job.entry(number) else {
            return Ok(None);
        };
        if matches!(entry, Entry::Waiting { .. }) {
            return Ok(None);
        }
        let entry = std::mem::replace(entry, Entry::Taken);
        while matches!(job.items.front(), Some(Entry::Taken)) {
            job.items.pop_front();
            job.base += 1;
        }
        Ok(match entry {
            Entry::Ready { slot, raised } => {
                let message = self.view.slot(slot)?.header.open();
                self.release(jobs, slot);
                Some(if raised {
                    Item::Raised(message?)
                } else {
                    Item::Done(message?)
                })
            }
            Entry::Lost(loss) => Some(Item::Lost(loss)),
            Entry::Taken | Entry::Waiting { .. } => None,
        })
    }

    pub fn abandon(&self, key: u32) {
        if !self.is_mine() {
            return;
        }
        let mut jobs = self.lock();
        jobs.job(key).abandoned = true;
        if jobs.seal(key) {
            self.close_if_done(&jobs);
        }
        self.end_if_over(&mut jobs, key);
    }

    /// Forget an abandoned job once it is complete. Frees all that is left of it.
    pub fn end_if_over(&self, jobs: &mut JobTable, key: u32) {
        let job = jobs.job(key);
        if !job.abandoned || !job.is_complete() {
            return;
        }
        let Some(job) = jobs.jobs[key as usize].take() else {
            return;
        };
        for entry in job.items {
            if let Entry::Ready { slot, .. } = entry {
                self.release(jobs, slot);
            }
        }
        self.leave_function(jobs, job.function);
        jobs.completed.retain(|&other| other != key);
        jobs.free_jobs.push(key);
    }

    pub fn wait(&self, key: u32, want: Want, deadline: Deadline) -> Result<(), WaitError> {
        self.wait_for(deadline, |jobs| match jobs.job(key).missing(want) {
            0 => Ok(()),
            missing => Err(missing),
        })
    }

    /// Wait until `look` finds what it looks for. Until then `look` returns how many tasks, at least, must finish
    /// first.
    pub fn wait_for<R>(
        &self,
        deadline: Deadline,
        mut look: impl FnMut(&mut JobTable) -> Result<R, u64>,
    ) -> Result<R, WaitError> {
        self.check_is_mine()?;
        let mut missing = {
            let mut jobs = self.lock();
            self.collect(&mut jobs, 0);
            match look(&mut jobs) {
                Ok(found) => return Ok(found),
                Err(missing) => {
                    jobs.waiters.push(missing);
                    self.set_wake(&jobs);
                    missing
                }
            }
        };
        let (mut seen, mut relieved) = (None, liveness::now());
        let purpose = Purpose {
            slice: RELIEF,
            ..Purpose::default()
        };
        let result = self.view.shared.done.wait_for(purpose, deadline, || {
            let now = liveness::now();
            if now.saturating_sub(relieved) >= RELIEF.as_millis() as u64 {
                relieved = now;
                self.view.relieve();
            }
            let version = self.version.load(SeqCst);
            if seen == Some(version) && u64::from(self.view.finished()) < missing {
                return None;
            }
            let mut jobs = self.lock();
            self.collect(&mut jobs, 1);
            seen = Some(self.version.load(SeqCst));
            match look(&mut jobs) {
                Ok(found) => Some(found),
                Err(now) => {
                    jobs.replace_waiter(missing, now);
                    missing = now;
                    self.set_wake(&jobs);
                    None
                }
            }
        });
        let mut jobs = self.lock();
        jobs.forget_waiter(missing);
        self.set_wake(&jobs);
        drop(jobs);
        if matches!(result, Err(WaitError::Interrupted)) {
            self.view.relieve();
        }
        result
    }

    /// SYNC: the store comes before the waiter's last look at the stack (`SeqCst` both): see `View::push_finished`.
    fn set_wake(&self, jobs: &JobTable) {
        let least = jobs
            .waiters
            .iter()
            .min()
            .map_or(0, |&least| u32::try_from(least).unwrap_or(u32::MAX));
        self.view.shared.wake_at.store(least, SeqCst);
    }
}
