//! Tasks on their way: how they are submitted, finished, taken and withdrawn; and the waits for that.

use super::book::Book;
use super::job::{Entry, Item, Loss, Spare, Want};
use super::parent::Inner;
use super::shared::{Phase, State, Status};
use super::table::Use;
use crate::channel::Message;
use crate::sync::wait::Purpose;
use crate::{roll, Deadline, Result, WaitError};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

/// How often a waiter wakes further workers while tasks are in line: the worker that was to claim them may be stopped.
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
        let mut book = self.lock();
        self.collect(&mut book, 0);
        look(book.job(key))
    }

    pub fn submit(&self, key: u32, function: u32, arguments: Message) -> Result<u64> {
        let mut book = self.lock();
        let item = self.add_task(&mut book, key, function, arguments)?;
        drop(book);
        self.view.rouse();
        Ok(item)
    }

    /// Put one more task of a job in line, and return its number. Wakes no worker.
    pub fn add_task(&self, book: &mut Book, key: u32, function: u32, arguments: Message) -> Result<u64> {
        self.only_here()?;
        self.collect(book, 0);
        if self.view.phase() == Phase::Terminate {
            return Ok(book.add(key, Entry::Lost(Loss::Stopped)));
        }
        let terms = book.job(key).terms;
        let spare = (terms.retries > 0).then(|| arguments.duplicate()).transpose()?;
        let item = book.job(key).submitted();
        let bytes = u32::try_from(arguments.size()).unwrap_or(u32::MAX);
        let slot = self.put_in_line(book, (key, item, function), arguments)?;
        book.add(key, Entry::Waiting { slot, bytes });
        if let Some(message) = spare {
            let left = terms.retries;
            book.job(key).spares.insert(item, Spare { message, left });
        }
        if let Some(timeout) = terms.timeout {
            self.see_in_time(book, timeout);
        }
        Ok(item)
    }

    /// Put a task at the line's end, and return its slot. `task` is the job, the task's number, and its own function or
    /// 0.
    pub fn put_in_line(&self, book: &mut Book, task: (u32, u64, u32), arguments: Message) -> Result<u32> {
        let (job, item, function) = task;
        let (index, generation) = book.table.take(&self.view, Use::Task { job, item, function })?;
        let slot = self.view.slot(index)?;
        let function = if function == 0 {
            book.job(job).function
        } else {
            function
        };
        book.table.count_user(book.table.own_function(index), 1);
        slot.aux.store(function, Relaxed);
        slot.envelope.post(arguments);
        book.table.enter_line(index);
        let tail = std::mem::replace(&mut book.tail, index);
        self.view.append(tail, index, generation)?;
        Ok(index)
    }

    /// Have the face look at the workers before a task that begins now can be overdue.
    fn see_in_time(&self, book: &mut Book, timeout: Duration) {
        let Some(due) = Instant::now().checked_add(timeout) else {
            return;
        };
        if book.next_look.is_none_or(|look| due < look) {
            book.next_look = Some(due);
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
        let mut book = self.lock();
        let item = book.add(key, Entry::Lost(Loss::Refused));
        self.tell(&book, 0);
        item
    }

    pub fn seal(&self, key: u32) {
        // A child of fork may have inherited the book locked, by a thread that the child does not have.
        if !self.is_mine() {
            return;
        }
        let mut book = self.lock();
        if book.seal(key) {
            book.check_complete(key);
            self.close_if_done(&book);
            self.tell(&book, 0);
        }
    }

    pub fn announce(&self, key: u32) {
        let mut book = self.lock();
        book.job(key).announce = true;
        book.check_complete(key);
        self.tell(&book, 0);
    }

    /// Stop the unfinished tasks of a job: one item; or all, and then no more will come.
    pub fn withdraw(&self, key: u32, item: Option<u64>) -> Withdrawn {
        if !self.is_mine() {
            return Withdrawn::default();
        }
        let mut book = self.lock();
        self.collect(&mut book, 0);
        if item.is_none() && book.seal(key) {
            self.close_if_done(&book);
        }
        let job = book.job(key);
        let numbers = item.map_or(job.base..job.submitted(), |item| item..item + 1);
        let mut withdrawn = Withdrawn::default();
        for number in numbers {
            let Some(&mut Entry::Waiting { slot: index, .. }) = book.job(key).entry(number) else {
                continue;
            };
            match self.stop_task(&mut book, index) {
                Some(Status::Pending) => withdrawn.pending += 1,
                Some(Status::Running) => withdrawn.running += 1,
                _ => continue,
            }
            book.settle(key, number, Entry::Lost(Loss::Cancelled));
        }
        if withdrawn.pending > 0 {
            let _ = self.view.skip_withdrawn(book.table.len());
        }
        if withdrawn.running > 0 {
            self.notice.set();
        }
        book.check_complete(key);
        self.tell(&book, 0);
        withdrawn
    }

    /// Whether a worker is running a task.
    pub fn is_running(&self, key: u32, item: u64) -> bool {
        let mut book = self.lock();
        let Some(&mut Entry::Waiting { slot: index, .. }) = book.job(key).entry(item) else {
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
        let mut book = self.lock();
        self.collect(&mut book, 0);
        let job = book.job(key);
        let mut withdrawn = Vec::new();
        for number in job.base..job.submitted() {
            let Some(&mut Entry::Waiting { slot: index, .. }) = book.job(key).entry(number) else {
                continue;
            };
            if self.withdraw_task(&mut book, index) {
                book.settle(key, number, Entry::Lost(Loss::Cancelled));
                withdrawn.push(number);
            }
        }
        let _ = self.view.skip_withdrawn(book.table.len());
        book.check_complete(key);
        self.tell(&book, 0);
        withdrawn
    }

    /// Keep a task from being begun; `false` if that is too late.
    fn withdraw_task(&self, book: &mut Book, index: u32) -> bool {
        let (Use::Task { .. }, generation) = book.table.get(index) else {
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
            slot.envelope.discard();
            self.leave_function(book, book.table.own_function(index));
            book.table.give_back_later(index);
        }
        withdrawn
    }

    /// Keep a task from being begun, or its result from being counted. Returns the status it had, or `None` if it is
    /// finished.
    fn stop_task(&self, book: &mut Book, index: u32) -> Option<Status> {
        let (Use::Task { .. }, generation) = book.table.get(index) else {
            return None;
        };
        let slot = self.view.slot(index).ok()?;
        // A worker may claim the task, or finish it, meanwhile: then look again. It cannot do more than these two.
        for _ in 0..3 {
            let state = slot.load().filter(|state| state.generation == generation)?;
            match state.status {
                Status::Pending if self.withdraw_task(book, index) => return Some(Status::Pending),
                Status::Running if self.condemn(book, index, state, None) => return Some(Status::Running),
                Status::Pending | Status::Running => {}
                _ => return None,
            }
        }
        None
    }

    /// Announce that something in `book` changed; `mine` of the waiters know it already. A waiter that looks now gets
    /// the lock after this thread.
    pub fn tell(&self, book: &Book, mine: usize) {
        self.version.fetch_add(1, SeqCst);
        if book.waiters.len() > mine {
            self.view.shared.done.notify(u32::MAX);
        }
        self.tell_feeders(book);
    }

    /// Record what workers finished, on behalf of `mine` of the waiters.
    pub fn collect(&self, book: &mut Book, mine: usize) {
        if self.view.finished() == 0 || !self.is_mine() {
            return;
        }
        let mut finished = std::mem::take(&mut book.scratch);
        self.view.take_finished(&mut finished);
        for &index in &finished {
            self.note(book, index);
        }
        book.scratch = finished;
        self.tell(book, mine);
    }

    /// Record one finished task.
    pub fn note(&self, book: &mut Book, index: u32) {
        let (Use::Task { job, item, .. }, generation) = book.table.get(index) else {
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
        if book.settle(job, item, Entry::Ready { slot: index, raised }) {
            if book.job(job).abandoned {
                self.release(book, index);
            }
            book.check_complete(job);
            self.end_if_over(book, job);
        }
    }

    /// Free the slot of a task that is no longer needed.
    pub fn release(&self, book: &mut Book, index: u32) {
        if let Ok(slot) = self.view.slot(index) {
            slot.envelope.discard();
            self.leave_function(book, book.table.own_function(index));
            slot.store(State::of(Status::Free, book.table.get(index).1, None));
            if self.view.pass(index).is_ok() {
                book.table.give_back(index);
            }
        }
    }

    /// Take an item if it is there.
    pub fn take(&self, book: &mut Book, key: u32, number: u64) -> Result<Option<Item>> {
        self.only_here()?;
        let job = book.job(key);
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
                let message = self.view.slot(slot)?.envelope.open();
                self.release(book, slot);
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
        let mut book = self.lock();
        book.job(key).abandoned = true;
        if book.seal(key) {
            self.close_if_done(&book);
        }
        self.end_if_over(&mut book, key);
    }

    /// Forget an abandoned job once it is complete. It leaves nothing behind.
    pub fn end_if_over(&self, book: &mut Book, key: u32) {
        let job = book.job(key);
        if !job.abandoned || !job.is_complete() {
            return;
        }
        let Some(job) = book.jobs[key as usize].take() else {
            return;
        };
        for entry in job.items {
            if let Entry::Ready { slot, .. } = entry {
                self.release(book, slot);
            }
        }
        self.leave_function(book, job.function);
        book.completed.retain(|&other| other != key);
        book.free_jobs.push(key);
    }

    pub fn wait(&self, key: u32, want: Want, deadline: Deadline) -> Result<(), WaitError> {
        self.wait_for(deadline, |book| match book.job(key).missing(want) {
            0 => Ok(()),
            missing => Err(missing),
        })
    }

    /// Wait until `look` finds what it looks for. Until then `look` returns how many tasks, at least, must finish
    /// first.
    pub fn wait_for<R>(
        &self,
        deadline: Deadline,
        mut look: impl FnMut(&mut Book) -> Result<R, u64>,
    ) -> Result<R, WaitError> {
        self.only_here()?;
        let mut missing = {
            let mut book = self.lock();
            self.collect(&mut book, 0);
            match look(&mut book) {
                Ok(found) => return Ok(found),
                Err(missing) => {
                    book.waiters.push(missing);
                    self.set_wake(&book);
                    missing
                }
            }
        };
        let (mut seen, mut relieved) = (None, roll::now());
        let purpose = Purpose {
            slice: RELIEF,
            ..Purpose::default()
        };
        let result = self.view.shared.done.wait_for(purpose, deadline, || {
            let now = roll::now();
            if now.saturating_sub(relieved) >= RELIEF.as_millis() as u64 {
                relieved = now;
                self.view.relieve();
            }
            let version = self.version.load(SeqCst);
            if seen == Some(version) && u64::from(self.view.finished()) < missing {
                return None;
            }
            let mut book = self.lock();
            self.collect(&mut book, 1);
            seen = Some(self.version.load(SeqCst));
            match look(&mut book) {
                Ok(found) => Some(found),
                Err(now) => {
                    book.replace_waiter(missing, now);
                    missing = now;
                    self.set_wake(&book);
                    None
                }
            }
        });
        let mut book = self.lock();
        book.forget_waiter(missing);
        self.set_wake(&book);
        drop(book);
        if matches!(result, Err(WaitError::Interrupted)) {
            self.view.relieve();
        }
        result
    }

    /// SYNC: the store comes before the waiter's last look at the stack (`SeqCst` both): see `View::push_finished`.
    fn set_wake(&self, book: &Book) {
        let least = book
            .waiters
            .iter()
            .min()
            .map_or(0, |&least| u32::try_from(least).unwrap_or(u32::MAX));
        self.view.shared.wake_at.store(least, SeqCst);
    }
}
