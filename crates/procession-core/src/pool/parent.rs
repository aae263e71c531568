//! The pool as the process that made it sees it: gives out tasks, collects what is finished, buries workers.
//!
//! No thread of its own: whoever submits, waits or buries collects on the way.

use super::job::{Entry, Item, Job, Loss, State as JobState, Want};
use super::shared::{Phase, State, Status, View};
use super::table::{Table, Use};
use crate::arena::Handle;
use crate::channel::{Incoming, Message};
use crate::roll::{self, Owner};
use crate::{family, Deadline, Result, WaitError};
use std::collections::VecDeque;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A pool, owned by the process that made it.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

/// What a dead worker left behind.
#[derive(Debug)]
pub enum Remains {
    /// It had not said that it was ready.
    Unready,
    /// It could not start, and said why.
    Failed(Incoming),
    /// It worked; the task it was at, if any, is lost now.
    Worked {
        /// Whether a task went with it.
        lost: bool,
    },
}

pub(super) struct Inner {
    view: View,
    owner: Owner,
    local: Mutex<Local>,
    /// Grows whenever something happened in `local` that a waiter may wait for.
    version: AtomicU64,
}

struct Local {
    table: Table,
    jobs: Vec<Option<JobState>>,
    free_jobs: Vec<u32>,
    /// The line's last slot.
    tail: u32,
    /// Tasks submitted and not finished.
    unfinished: u64,
    /// Jobs that may still grow.
    unsealed: u64,
    closing: bool,
    /// Complete jobs that were to be announced.
    completed: VecDeque<u32>,
    /// For each waiter how many more tasks must finish before it can have what it wants.
    waiters: Vec<u64>,
    scratch: Vec<u32>,
}

impl Pool {
    /// A pool without workers.
    pub fn new() -> Result<Self> {
        let local = Local {
            table: Table::new(),
            jobs: Vec::new(),
            free_jobs: Vec::new(),
            tail: 0,
            unfinished: 0,
            unsealed: 0,
            closing: false,
            completed: VecDeque::new(),
            waiters: Vec::new(),
            scratch: Vec::new(),
        };
        let owner = family()?.me();
        let inner = Inner {
            view: View::create()?,
            owner,
            local: Mutex::new(local),
            version: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    #[cfg(test)]
    pub(super) fn inner_view(&self) -> &View {
        &self.inner.view
    }

    /// What workers attach to.
    pub fn handle(&self) -> Handle {
        self.inner.view.shared.handle()
    }

    /// Whether this process made the pool: nobody else may use it.
    pub fn is_mine(&self) -> bool {
        self.inner.is_mine()
    }

    /// A new job. `function` is read by every worker that does a task of it; `by_time`: items will be taken as they finish.
    pub fn job(&self, function: Option<Message>, by_time: bool) -> Result<Job> {
        let mut local = self.inner.lock();
        let function = match function {
            Some(message) => {
                let (index, generation) = local.table.take(&self.inner.view, Use::Function)?;
                let slot = self.inner.view.slot(index)?;
                slot.envelope.post(message);
                slot.next.store(0, Relaxed);
                slot.store(State::of(Status::Function, generation, None));
                index
            }
            None => 0,
        };
        let state = JobState {
            function,
            items: VecDeque::new(),
            base: 0,
            finished: 0,
            failed: None,
            order: by_time.then(VecDeque::new),
            sealed: false,
            announce: false,
            abandoned: false,
        };
        local.unsealed += 1;
        let key = local.free_jobs.pop().unwrap_or(local.jobs.len() as u32);
        if key as usize == local.jobs.len() {
            local.jobs.push(Some(state));
        } else {
            local.jobs[key as usize] = Some(state);
        }
        Ok(Job {
            pool: Arc::clone(&self.inner),
            key,
        })
    }

    /// A place for a worker: what [`Worker::attach`](super::Worker::attach) wants. [`bury`](Self::bury) it when its process ended.
    pub fn enlist(&self) -> Result<u32> {
        let (index, generation) = self.inner.lock().table.take(&self.inner.view, Use::Worker)?;
        let slot = self.inner.view.slot(index)?;
        slot.next.store(0, Relaxed);
        slot.aux.store(0, Relaxed);
        slot.store(State::of(Status::Starting, generation, None));
        Ok(index)
    }

    /// Whether the worker in this place has said that it is ready.
    pub fn is_ready(&self, place: u32) -> bool {
        self.inner
            .view
            .slot(place)
            .ok()
            .and_then(super::shared::Slot::load)
            .is_some_and(|state| state.status == Status::Ready)
    }

    /// The process of the worker in `place` has ended: its task is lost, its place is free.
    pub fn bury(&self, place: u32, pid: i32, exitcode: i32) -> Result<Remains> {
        self.inner.bury(place, pid, exitcode)
    }

    /// No more jobs: workers leave once all tasks of sealed jobs were taken.
    pub fn close(&self) {
        let mut local = self.inner.lock();
        local.closing = true;
        self.inner.close_if_done(&local);
        self.inner.tell(&local, 0);
    }

    /// Stop: workers take no more tasks, and all that is unfinished is lost.
    pub fn terminate(&self) {
        let mut local = self.inner.lock();
        local.closing = true;
        self.inner.view.enter(Phase::Terminate);
        self.inner.collect(&mut local, 0);
        for key in 0..local.jobs.len() as u32 {
            local.stop(key);
        }
        self.inner.tell(&local, 0);
    }

    /// Whether there is, or may come, work that nobody has taken: workers that left must be replaced.
    pub fn needs_workers(&self) -> bool {
        let local = self.inner.lock();
        self.inner.view.phase() == Phase::Run
            || (self.inner.view.phase() == Phase::Close && self.inner.view.is_waiting() && local.unfinished > 0)
    }

    /// Whether nothing is left to be done and nothing can come.
    pub fn is_idle(&self) -> bool {
        let mut local = self.inner.lock();
        self.inner.collect(&mut local, 0);
        local.unfinished == 0 && local.unsealed == 0
    }

    /// The next complete job that was to be announced; `None`: there will be none.
    pub fn next_completed(&self, deadline: Deadline) -> Result<Option<u32>, WaitError> {
        self.inner
            .wait_for(deadline, |local| match local.completed.pop_front() {
                Some(key) => Ok(Some(key)),
                None if local.closing && local.unsealed == 0 && local.announced().next().is_none() => Ok(None),
                None => Err(local.until_completed()),
            })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_mine(&self) -> bool {
        family().is_ok_and(|family| family.me() == self.owner)
    }

    pub fn with_job<R>(&self, key: u32, look: impl FnOnce(&mut JobState) -> R) -> R {
        let mut local = self.lock();
        self.collect(&mut local, 0);
        look(local.job(key))
    }

    pub fn submit(&self, key: u32, arguments: Message) -> Result<u64> {
        let mut local = self.lock();
        if self.view.finished() > 0 {
            self.collect(&mut local, 0);
        }
        let item = local.job(key).submitted();
        if self.view.phase() == Phase::Terminate {
            return Ok(local.add(key, Entry::Lost(Loss::Stopped)));
        }
        let (index, generation) = local.table.take(&self.view, Use::Task { job: key, item })?;
        let slot = self.view.slot(index)?;
        slot.aux.store(local.job(key).function, Relaxed);
        slot.envelope.post(arguments);
        let tail = std::mem::replace(&mut local.tail, index);
        self.view.append(tail, index, generation)?;
        let item = local.add(key, Entry::Waiting);
        drop(local);
        self.view.rouse();
        Ok(item)
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
        let mut local = self.lock();
        let item = local.add(key, Entry::Lost(Loss::Refused));
        self.tell(&local, 0);
        item
    }

    pub fn seal(&self, key: u32) {
        let mut local = self.lock();
        if !std::mem::replace(&mut local.job(key).sealed, true) {
            local.unsealed -= 1;
            local.check_complete(key);
            self.close_if_done(&local);
            self.tell(&local, 0);
        }
    }

    pub fn announce(&self, key: u32) {
        let mut local = self.lock();
        local.job(key).announce = true;
        local.check_complete(key);
        self.tell(&local, 0);
    }

    fn close_if_done(&self, local: &Local) {
        if local.closing && local.unsealed == 0 {
            self.view.enter(Phase::Close);
        }
    }

    /// Say that something in `local` changed; `mine` of those who wait know it already. A waiter that looks now gets the lock after us.
    fn tell(&self, local: &Local, mine: usize) {
        self.version.fetch_add(1, SeqCst);
        if local.waiters.len() > mine {
            self.view.shared.done.notify(u32::MAX);
        }
    }

    /// Take note of what workers finished, as `mine` of the waiters.
    fn collect(&self, local: &mut Local, mine: usize) {
        if self.view.finished() == 0 {
            return;
        }
        let mut finished = std::mem::take(&mut local.scratch);
        self.view.take_finished(&mut finished);
        for &index in &finished {
            self.note(local, index);
        }
        local.scratch = finished;
        self.tell(local, mine);
    }

    /// Take note of one finished task.
    fn note(&self, local: &mut Local, index: u32) {
        let (Use::Task { job, item }, generation) = local.table.get(index) else {
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
        if local.settle(job, item, Entry::Ready { slot: index, raised }) {
            if local.job(job).abandoned {
                self.release(local, index);
            }
            local.check_complete(job);
            self.end_if_over(local, job);
        }
    }

    /// A task's slot is no longer needed.
    fn release(&self, local: &mut Local, index: u32) {
        if let Ok(slot) = self.view.slot(index) {
            slot.envelope.discard();
            slot.store(State::of(Status::Free, local.table.get(index).1, None));
            if self.view.pass(index).is_ok() {
                local.table.give_back(index);
            }
        }
    }

    fn bury(&self, place: u32, pid: i32, exitcode: i32) -> Result<Remains> {
        let mut local = self.lock();
        self.collect(&mut local, 0);
        let (Use::Worker, generation) = local.table.get(place) else {
            return Err(crate::Error::Stale("worker"));
        };
        let slot = self.view.slot(place)?;
        let state = slot.load().filter(|state| state.generation == generation);
        let remains = match state.map(|state| state.status) {
            Some(Status::Failed) => slot.envelope.open().map_or(Remains::Unready, Remains::Failed),
            Some(Status::Ready) => Remains::Worked { lost: false },
            _ => Remains::Unready,
        };
        let owner = state.and_then(|state| Owner::from_bits(state.owner));
        let mut lost = false;
        if let Some(owner) = owner {
            lost = self.bury_task(&mut local, slot.next.load(SeqCst), owner, Loss::Died { pid, exitcode });
            self.view.leave_lookout(owner);
        }
        slot.envelope.discard();
        slot.store(State::of(Status::Free, generation, None));
        local.table.give_back(place);
        self.tell(&local, 0);
        drop(local);
        if let Some(owner) = owner {
            // The roll asks the kernel, and gives back what the dead one owned.
            let _ = roll::is_alive(owner);
        }
        // Whatever the dead one was woken for, another shall do.
        self.view.shared.work.notify(u32::MAX);
        Ok(if let Remains::Worked { .. } = remains {
            Remains::Worked { lost }
        } else {
            remains
        })
    }

    /// The task that the dead `owner` had noted down: lost if it still ran, finished if it only had not told yet.
    fn bury_task(&self, local: &mut Local, index: u32, owner: Owner, loss: Loss) -> bool {
        let (Use::Task { job, item }, generation) = local.table.get(index) else {
            return false;
        };
        let Ok(slot) = self.view.slot(index) else {
            return false;
        };
        let state = slot
            .load()
            .filter(|state| state.generation == generation && state.owner == owner.to_bits());
        match state.map(|state| state.status) {
            Some(Status::Running) => {
                let waited_for = local.settle(job, item, Entry::Lost(loss));
                self.release(local, index);
                if waited_for {
                    local.check_complete(job);
                    self.end_if_over(local, job);
                }
                true
            }
            Some(Status::Done | Status::Raised) => {
                self.note(local, index);
                false
            }
            _ => false,
        }
    }

    pub fn take(&self, key: u32, number: u64) -> Result<Option<Item>> {
        let mut local = self.lock();
        let job = local.job(key);
        let Some(entry) = job.entry(number) else {
            return Ok(None);
        };
        if matches!(entry, Entry::Waiting) {
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
                self.release(&mut local, slot);
                Some(if raised {
                    Item::Raised(message?)
                } else {
                    Item::Done(message?)
                })
            }
            Entry::Lost(loss) => Some(Item::Lost(loss)),
            Entry::Taken | Entry::Waiting => None,
        })
    }

    pub fn abandon(&self, key: u32) {
        if !self.is_mine() {
            return;
        }
        let mut local = self.lock();
        local.job(key).abandoned = true;
        if !std::mem::replace(&mut local.job(key).sealed, true) {
            local.unsealed -= 1;
            self.close_if_done(&local);
        }
        self.end_if_over(&mut local, key);
    }

    /// An abandoned job that is complete leaves nothing behind.
    fn end_if_over(&self, local: &mut Local, key: u32) {
        let job = local.job(key);
        if !job.abandoned || !job.is_complete() {
            return;
        }
        let Some(job) = local.jobs[key as usize].take() else {
            return;
        };
        for entry in job.items {
            if let Entry::Ready { slot, .. } = entry {
                self.release(local, slot);
            }
        }
        if job.function != 0 {
            if let Ok(slot) = self.view.slot(job.function) {
                slot.envelope.discard();
                slot.store(State::of(Status::Free, local.table.get(job.function).1, None));
                local.table.give_back(job.function);
            }
        }
        local.completed.retain(|&other| other != key);
        local.free_jobs.push(key);
    }

    pub fn wait(&self, key: u32, want: Want, deadline: Deadline) -> Result<(), WaitError> {
        self.wait_for(deadline, |local| match local.job(key).missing(want) {
            0 => Ok(()),
            missing => Err(missing),
        })
    }

    /// Wait until `look` finds what it looks for; else it says how many tasks, at least, must finish before that can be.
    fn wait_for<R>(
        &self,
        deadline: Deadline,
        mut look: impl FnMut(&mut Local) -> Result<R, u64>,
    ) -> Result<R, WaitError> {
        let mut missing = {
            let mut local = self.lock();
            self.collect(&mut local, 0);
            match look(&mut local) {
                Ok(found) => return Ok(found),
                Err(missing) => {
                    local.waiters.push(missing);
                    self.set_wake(&local);
                    missing
                }
            }
        };
        let mut seen = None;
        let result = self.view.shared.done.wait(deadline, || {
            let version = self.version.load(SeqCst);
            if seen == Some(version) && u64::from(self.view.finished()) < missing {
                return None;
            }
            let mut local = self.lock();
            self.collect(&mut local, 1);
            seen = Some(self.version.load(SeqCst));
            match look(&mut local) {
                Ok(found) => Some(found),
                Err(now) => {
                    local.replace_waiter(missing, now);
                    missing = now;
                    self.set_wake(&local);
                    None
                }
            }
        });
        let mut local = self.lock();
        local.forget_waiter(missing);
        self.set_wake(&local);
        result
    }

    /// SYNC: stored before the waiter's last look at the stack (`SeqCst` both): see `View::push_finished`.
    fn set_wake(&self, local: &Local) {
        let least = local
            .waiters
            .iter()
            .min()
            .map_or(0, |&least| u32::try_from(least).unwrap_or(u32::MAX));
        self.view.shared.wake_at.store(least, SeqCst);
    }
}

impl Local {
    fn job(&mut self, key: u32) -> &mut JobState {
        self.jobs[key as usize]
            .as_mut()
            .expect("a job's record stays until it is dropped and complete")
    }

    /// Append an item to a job; its number.
    fn add(&mut self, key: u32, entry: Entry) -> u64 {
        let job = self.job(key);
        let number = job.submitted();
        job.items.push_back(Entry::Waiting);
        self.unfinished += 1;
        if !matches!(entry, Entry::Waiting) {
            self.settle(key, number, entry);
        }
        number
    }

    /// An item is no longer waiting. `false`: it was not anyway, or its job was stopped, dropped and forgotten while the item still ran.
    fn settle(&mut self, key: u32, number: u64, outcome: Entry) -> bool {
        let Some(job) = &mut self.jobs[key as usize] else {
            return false;
        };
        let abandoned = job.abandoned;
        let Some(entry @ Entry::Waiting) = job.entry(number) else {
            return false;
        };
        let failed = !matches!(outcome, Entry::Ready { raised: false, .. });
        *entry = if abandoned { Entry::Taken } else { outcome };
        job.finished += 1;
        if failed && job.failed.is_none() {
            job.failed = Some(number);
        }
        if let Some(order) = &mut job.order {
            order.push_back(number);
        }
        self.unfinished -= 1;
        true
    }

    /// Nothing more comes of a job.
    fn stop(&mut self, key: u32) {
        let Some(job) = &mut self.jobs[key as usize] else {
            return;
        };
        self.unsealed -= u64::from(!std::mem::replace(&mut job.sealed, true));
        for number in job.base..job.submitted() {
            self.settle(key, number, Entry::Lost(Loss::Stopped));
        }
        self.check_complete(key);
    }

    fn check_complete(&mut self, key: u32) {
        let job = self.job(key);
        if job.announce && job.is_complete() {
            job.announce = false;
            self.completed.push_back(key);
        }
    }

    /// How many tasks must finish before the next announcement can be due.
    fn until_completed(&self) -> u64 {
        let mut announced = self.announced();
        match (announced.next(), announced.next()) {
            (None, _) => u64::MAX,
            (Some(job), None) => (job.submitted() - job.finished).max(1),
            _ => 1,
        }
    }

    /// Jobs to be announced once they are complete.
    fn announced(&self) -> impl Iterator<Item = &JobState> {
        self.jobs.iter().flatten().filter(|job| job.announce)
    }

    fn replace_waiter(&mut self, old: u64, new: u64) {
        if let Some(waiter) = self.waiters.iter_mut().find(|waiter| **waiter == old) {
            *waiter = new;
        }
    }

    fn forget_waiter(&mut self, old: u64) {
        if let Some(at) = self.waiters.iter().position(|&waiter| waiter == old) {
            self.waiters.swap_remove(at);
        }
    }
}
