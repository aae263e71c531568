//! The pool's lock, and what is done under it: each operation locks the parent's records, changes them and the slots,
//! and tells the waiters.
//!
//! The file is long because all locks and waits of the parent are in it. The steps themselves are left to `slots`,
//! `workers` and `job_table`, the public face to `parent`, `job` and `feed`.

use super::job_record::{JobRecord, Want};
use super::room::Feeder;
use super::shared::{Phase, Status};
use super::slots::{Records, Slots};
use super::types::{Item, JobOptions, Loss, Overdue, Stats, TaskOptions, Withdrawn, WorkerDeath, WorkerEnd};
use crate::arena::Label;
use crate::channel::Message;
use crate::sync::wait::Purpose;
use crate::sys::fork_mutex::{ForkMutex, ForkMutexGuard};
use crate::sys::notice::Notice;
use crate::{liveness, Deadline, Result, WaitError};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How often a waiter wakes further workers while tasks are queued: the worker that was to claim them may be stopped.
const RELIEF: Duration = Duration::from_millis(40);

/// A pool as the process that made it has it, shared by its handles.
pub(super) struct Monitor {
    pub slots: Slots,
    records: ForkMutex<Records>,
    /// Grows whenever something happens in `records` that a waiter may wait for.
    version: AtomicU64,
    /// Tells the face, which manages the workers, to call [`Pool::overdue`](super::Pool::overdue) and
    /// [`Pool::needs_workers`](super::Pool::needs_workers).
    pub notice: Notice,
}

impl Monitor {
    pub fn create(label: Label<'_>) -> Result<Self> {
        Ok(Self {
            slots: Slots::create(label)?,
            records: ForkMutex::new(Records::new()),
            version: AtomicU64::new(0),
            notice: Notice::new()?,
        })
    }

    fn lock(&self) -> ForkMutexGuard<'_, Records> {
        self.records.lock()
    }

    /// Record what workers finished, on behalf of `mine` of the waiters.
    fn collect(&self, records: &mut Records, mine: usize) {
        if self.slots.collect(records) {
            self.tell(records, mine);
        }
    }

    /// Announce that something in `records` changed; `mine` of the waiters know it already. A waiter that checks now
    /// gets the lock after this thread.
    fn tell(&self, records: &Records, mine: usize) {
        self.version.fetch_add(1, SeqCst);
        if records.jobs.waiters() > mine {
            self.slots.view.shared.done.notify(u32::MAX);
        }
        self.tell_feeders(records);
    }

    /// Wake feeders that have room, and record at which number a worker must wake the others.
    ///
    /// SYNC: the number is stored before a feeder's last look at the stack (`SeqCst` both): see
    /// `PoolView::push_finished`.
    fn tell_feeders(&self, records: &Records) {
        let (wanted, ready) = records.jobs.feeders_wake_at();
        let room = &self.slots.view.shared.room.0;
        if room.at.load(SeqCst) != wanted {
            room.at.store(wanted, SeqCst);
        }
        if ready {
            room.count.notify(u32::MAX);
        }
    }

    pub fn with_job<R>(&self, key: u32, look: impl FnOnce(&mut JobRecord<Message>) -> R) -> R {
        let mut records = self.lock();
        self.collect(&mut records, 0);
        look(records.jobs.job(key))
    }

    pub fn add_function(&self, function: Message) -> Result<u32> {
        self.slots.check_is_mine()?;
        self.slots.add_function(&mut self.lock(), function)
    }

    pub fn leave_function(&self, index: u32) {
        if self.slots.is_mine() {
            self.slots.leave_function(&mut self.lock(), index);
        }
    }

    pub fn open(&self, function: u32, options: JobOptions) -> u32 {
        let mut records = self.lock();
        records.table.count_user(function, 1);
        records.jobs.open(function, options)
    }

    /// Add a sealed job of one task. Returns its key, and whether the task was added; then
    /// [`wake_one`](super::shared::PoolView::wake_one) follows.
    pub fn call(&self, function: u32, options: JobOptions, arguments: Message) -> (u32, Result<u64>) {
        let mut records = self.lock();
        records.table.count_user(function, 1);
        let key = records.jobs.open(function, options);
        let added = self.add_task(&mut records, key, 0, None, arguments);
        records.jobs.seal(key);
        self.slots.perform(&mut records);
        (key, added)
    }

    pub fn submit(&self, key: u32, function: u32, own: Option<TaskOptions>, arguments: Message) -> Result<u64> {
        let mut records = self.lock();
        let number = self.add_task(&mut records, key, function, own, arguments)?;
        drop(records);
        self.slots.view.wake_one();
        Ok(number)
    }

    /// Queue one more task of a job, and return its number. Wakes no worker.
    fn add_task(
        &self,
        records: &mut Records,
        key: u32,
        function: u32,
        own: Option<TaskOptions>,
        arguments: Message,
    ) -> Result<u64> {
        self.slots.check_is_mine()?;
        self.collect(records, 0);
        if self.slots.view.phase() == Phase::Terminate {
            return Ok(records.jobs.refuse(key, Loss::Stopped));
        }
        let job = records.jobs.job(key);
        let (options, number) = (own.unwrap_or(job.options.tasks), job.submitted());
        let spare = (options.retries > 0).then(|| arguments.duplicate()).transpose()?;
        let bytes = u32::try_from(arguments.size()).unwrap_or(u32::MAX);
        let queue = options.priority as usize;
        let slot = self.slots.enqueue(records, queue, (key, number, function), arguments)?;
        records.jobs.submit(key, slot, bytes, spare, own);
        if let Some(timeout) = options.timeout {
            self.see_in_time(records, timeout);
        }
        Ok(number)
    }

    /// Have the face check the workers before a task that begins now can be overdue.
    fn see_in_time(&self, records: &mut Records, timeout: Duration) {
        let Some(due) = Instant::now().checked_add(timeout) else {
            return;
        };
        if records.next_look.is_none_or(|look| due < look) {
            records.next_look = Some(due);
            self.notice.set();
        }
    }

    pub fn measured(&self, key: u32) -> Option<Duration> {
        let function = self.lock().jobs.job(key).function;
        self.slots.measured(function)
    }

    pub fn refuse(&self, key: u32) -> u64 {
        let mut records = self.lock();
        let number = records.jobs.refuse(key, Loss::Refused);
        self.tell(&records, 0);
        number
    }

    pub fn seal(&self, key: u32) {
        if !self.slots.is_mine() {
            return;
        }
        let mut records = self.lock();
        if records.jobs.seal(key) {
            self.slots.perform(&mut records);
            self.tell(&records, 0);
        }
    }

    pub fn announce(&self, key: u32) {
        let mut records = self.lock();
        records.jobs.announce(key);
        self.tell(&records, 0);
    }

    pub fn abandon(&self, key: u32) {
        if !self.slots.is_mine() {
            return;
        }
        let mut records = self.lock();
        records.jobs.abandon(key);
        self.slots.perform(&mut records);
    }

    pub fn close(&self) {
        if !self.slots.is_mine() {
            return;
        }
        let mut records = self.lock();
        records.jobs.close();
        self.slots.perform(&mut records);
        self.tell(&records, 0);
        self.notice.set();
    }

    pub fn terminate(&self) {
        if !self.slots.is_mine() {
            return;
        }
        let mut records = self.lock();
        self.slots.enter(Phase::Terminate);
        self.collect(&mut records, 0);
        records.jobs.stop_all();
        self.tell(&records, 0);
        self.notice.set();
    }

    /// Stop the unfinished tasks of a job: one item; or all, and then no more will come.
    pub fn withdraw(&self, key: u32, number: Option<u64>) -> Withdrawn {
        if !self.slots.is_mine() {
            return Withdrawn::default();
        }
        let mut records = self.lock();
        self.collect(&mut records, 0);
        if number.is_none() {
            records.jobs.seal(key);
            self.slots.perform(&mut records);
        }
        let job = records.jobs.job(key);
        let numbers = number.map_or(job.base..job.submitted(), |number| number..number + 1);
        let mut withdrawn = Withdrawn::default();
        for number in numbers {
            let Some(index) = records.jobs.job(key).slot_of(number) else {
                continue;
            };
            match self.slots.stop(&mut records, index) {
                Some(Status::Pending) => withdrawn.pending += 1,
                Some(Status::Running) => withdrawn.running += 1,
                _ => continue,
            }
            records.jobs.lose(key, number, index, Loss::Cancelled);
        }
        if withdrawn.pending > 0 {
            let _ = self.slots.view.skip_withdrawn(records.table.len());
        }
        if withdrawn.running > 0 {
            self.notice.set();
        }
        self.tell(&records, 0);
        withdrawn
    }

    /// Stop the tasks of a job that no worker has begun, all or one, and return their numbers.
    pub fn withdraw_pending(&self, key: u32, number: Option<u64>) -> Vec<u64> {
        if !self.slots.is_mine() {
            return Vec::new();
        }
        let mut records = self.lock();
        self.collect(&mut records, 0);
        let job = records.jobs.job(key);
        let numbers = number.map_or(job.base..job.submitted(), |number| number..number + 1);
        let mut withdrawn = Vec::new();
        for number in numbers {
            let Some(index) = records.jobs.job(key).slot_of(number) else {
                continue;
            };
            if self.slots.withdraw(&mut records, index) {
                records.jobs.lose(key, number, index, Loss::Cancelled);
                withdrawn.push(number);
            }
        }
        let _ = self.slots.view.skip_withdrawn(records.table.len());
        self.tell(&records, 0);
        withdrawn
    }

    /// Whether a worker is running a task.
    pub fn is_running(&self, key: u32, number: u64) -> bool {
        let mut records = self.lock();
        let slot = records.jobs.job(key).slot_of(number);
        slot.is_some_and(|index| self.slots.is_running(index))
    }

    /// Take an item if it is there.
    pub fn take_now(&self, key: u32, number: u64) -> Result<Option<Item>> {
        let mut records = self.lock();
        self.collect(&mut records, 0);
        self.slots.take(&mut records, key, number)
    }

    /// Wait for an item and take it. `None`: there is none, or not any more.
    pub fn take(&self, key: u32, number: u64, deadline: Deadline) -> Result<Option<Item>, WaitError> {
        let item = self.wait_for(deadline, |records| {
            match records.jobs.job(key).missing(Want::Item(number)) {
                0 => Ok(self.slots.take(records, key, number)),
                missing => Err(missing),
            }
        })?;
        Ok(item?)
    }

    pub fn wait(&self, key: u32, want: Want, deadline: Deadline) -> Result<(), WaitError> {
        self.wait_for(deadline, |records| match records.jobs.job(key).missing(want) {
            0 => Ok(()),
            missing => Err(missing),
        })
    }

    /// Wait for the next complete job that was to be announced. `None`: there will be none.
    pub fn next_completed(&self, deadline: Deadline) -> Result<Option<u32>, WaitError> {
        self.wait_for(deadline, |records| records.jobs.next_completed())
    }

    /// Wait until `look` finds what it looks for. Until then `look` returns how many tasks, at least, must finish
    /// first.
    fn wait_for<R>(
        &self,
        deadline: Deadline,
        mut look: impl FnMut(&mut Records) -> Result<R, u64>,
    ) -> Result<R, WaitError> {
        self.slots.check_is_mine()?;
        let view = &self.slots.view;
        let mut missing = {
            let mut records = self.lock();
            self.collect(&mut records, 0);
            match look(&mut records) {
                Ok(found) => return Ok(found),
                Err(missing) => {
                    records.jobs.add_waiter(missing);
                    self.set_wake(&records);
                    missing
                }
            }
        };
        let (mut seen, mut relieved) = (None, liveness::now());
        let purpose = Purpose {
            slice: RELIEF,
            ..Purpose::default()
        };
        let result = view.shared.done.wait_for(purpose, deadline, || {
            let now = liveness::now();
            if now.saturating_sub(relieved) >= RELIEF.as_millis() as u64 {
                relieved = now;
                view.relieve();
            }
            let version = self.version.load(SeqCst);
            if seen == Some(version) && u64::from(view.finished()) < missing {
                return None;
            }
            let mut records = self.lock();
            self.collect(&mut records, 1);
            seen = Some(self.version.load(SeqCst));
            match look(&mut records) {
                Ok(found) => Some(found),
                Err(now) => {
                    records.jobs.replace_waiter(missing, now);
                    missing = now;
                    self.set_wake(&records);
                    None
                }
            }
        });
        let mut records = self.lock();
        records.jobs.forget_waiter(missing);
        self.set_wake(&records);
        drop(records);
        if matches!(result, Err(WaitError::Interrupted)) {
            view.relieve();
        }
        result
    }

    /// SYNC: the store comes before the waiter's last look at the stack (`SeqCst` both): see `PoolView::push_finished`.
    fn set_wake(&self, records: &Records) {
        self.slots.view.shared.wake_at.store(records.jobs.wake_at(), SeqCst);
    }

    /// Wait until there is room, and return how many tasks of the job are unfinished then.
    pub fn wait_for_room(&self, feeder: Feeder, deadline: Deadline) -> Result<u64, WaitError> {
        self.slots.check_is_mine()?;
        let look = || {
            let load = self.with_job(feeder.job, |job| job.load());
            (feeder.room.missing(load) == 0).then_some(load.tasks)
        };
        {
            let mut records = self.lock();
            records.jobs.add_feeder(feeder);
            self.tell_feeders(&records);
        }
        let room = &self.slots.view.shared.room.0;
        let result = room.count.sleep_for(Purpose::default(), deadline, look);
        let mut records = self.lock();
        records.jobs.forget_feeder(feeder);
        self.tell_feeders(&records);
        result
    }

    pub fn enlist(&self) -> Result<u32> {
        self.slots.check_is_mine()?;
        self.slots.enlist(&mut self.lock())
    }

    pub fn is_busy(&self, worker_index: u32) -> bool {
        let mut records = self.lock();
        self.collect(&mut records, 0);
        self.slots.is_busy(&records, worker_index)
    }

    pub fn dismiss(&self, worker_index: u32) {
        self.slots.dismiss(&self.lock(), worker_index);
    }

    pub fn overdue(&self) -> Overdue {
        let mut records = self.lock();
        self.collect(&mut records, 0);
        self.slots.overdue(&mut records)
    }

    pub fn reap(&self, worker_index: u32, death: WorkerDeath) -> Result<WorkerEnd> {
        self.slots.check_is_mine()?;
        let mut records = self.lock();
        self.collect(&mut records, 0);
        let (end, owner) = self.slots.reap(&mut records, worker_index, death)?;
        self.tell(&records, 0);
        drop(records);
        if let Some(owner) = owner {
            // The process table asks the kernel, and frees what the dead worker owned.
            let _ = liveness::is_alive(owner);
        }
        // The dead worker may have been woken for work: another must do it.
        self.slots.view.shared.work.notify(u32::MAX);
        Ok(end)
    }

    /// Whether there is, or may come, work that no worker has taken.
    pub fn needs_workers(&self) -> bool {
        let records = self.lock();
        match self.slots.view.phase() {
            Phase::Run => true,
            Phase::Close => self.slots.view.is_waiting() && records.jobs.unfinished() > 0,
            Phase::Terminate => false,
        }
    }

    pub fn is_idle(&self) -> bool {
        let mut records = self.lock();
        self.collect(&mut records, 0);
        records.jobs.is_idle()
    }

    pub fn stats(&self) -> Stats {
        let mut records = self.lock();
        self.collect(&mut records, 0);
        self.slots.stats(&records)
    }
}
