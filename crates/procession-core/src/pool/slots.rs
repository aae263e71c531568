//! What the parent does with tasks in shared memory: it queues and stops them, takes their results, frees their slots.
//!
//! The caller holds the lock of the parent's [`Records`]. Locks, waits and the waking of waiters are left to `monitor`,
//! the slots of workers to `workers`.

use super::job_record::ItemState;
use super::job_table::{JobAction, JobTable};
use super::shared::{Phase, PoolSlot, PoolView, StateWord, Status, QUEUES};
use super::table::{Table, Use};
use super::types::Item;
use crate::arena::Label;
use crate::channel::Message;
use crate::ids::Owner;
use crate::trace::What;
use crate::{family, Error, Result};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The parent's own memory: what is in which slot, the jobs, the workers.
pub(super) struct Records {
    pub table: Table,
    pub jobs: JobTable<Message>,
    /// The workers, by index.
    pub workers: HashMap<u32, WorkerRecord>,
    /// The last slot of each queue.
    tails: [u32; QUEUES],
    /// When the face will next check for overdue tasks.
    pub next_look: Option<Instant>,
    scratch: Vec<u32>,
}

/// The parent's record of a worker.
#[derive(Default)]
pub(super) struct WorkerRecord {
    /// The task (slot, generation) that it was last seen running, and when it was first seen running it.
    pub seen: Option<(u32, u32, Instant)>,
    /// The task (slot, generation) for which it is to be stopped, and the time limit that the task exceeded, unless the
    /// task was withdrawn.
    pub cancelled: Option<(u32, u32, Option<Duration>)>,
    /// The slot of that task's function, of which the worker counts as a user until it is reaped: it may be reading the
    /// function, or about to write there what an item took. Zero: none.
    pub function: u32,
    /// Whether `overdue` has named it.
    pub named: bool,
}

impl Records {
    pub fn new() -> Self {
        Self {
            table: Table::new(),
            jobs: JobTable::new(),
            workers: HashMap::new(),
            tails: std::array::from_fn(|queue| queue as u32),
            next_look: None,
            scratch: Vec::new(),
        }
    }
}

/// The parent's view of what is shared.
pub(super) struct Slots {
    pub view: PoolView,
    owner: Owner,
}

impl Slots {
    pub fn create(label: Label<'_>) -> Result<Self> {
        Ok(Self {
            view: PoolView::create(label)?,
            owner: family()?.me(),
        })
    }

    pub fn is_mine(&self) -> bool {
        family().is_ok_and(|family| family.me() == self.owner)
    }

    /// Fail in a child of the process that made the pool. The child has a copy of the records, and must not touch
    /// shared memory.
    pub fn check_is_mine(&self) -> Result<()> {
        if self.is_mine() {
            Ok(())
        } else {
            Err(Error::Inherited("pool"))
        }
    }

    pub fn enter(&self, phase: Phase) {
        if self.is_mine() {
            self.view.enter(phase);
        }
    }

    /// Carry out what the table of jobs asks for.
    pub fn perform(&self, records: &mut Records) {
        while let Some(action) = records.jobs.next_action() {
            match action {
                JobAction::Release(index) => self.release(records, index),
                JobAction::LeaveFunction(index) => self.leave_function(records, index),
                JobAction::Close => self.enter(Phase::Close),
            }
        }
    }

    /// Write a function into a slot, with one user, and return the slot.
    pub fn add_function(&self, records: &mut Records, function: Message) -> Result<u32> {
        let (index, generation) = records.table.take(&self.view, Use::Function { users: 1 })?;
        let slot = self.view.slot(index)?;
        slot.header.post(function);
        slot.next.store(0, Relaxed);
        slot.store(StateWord::of(Status::Function, generation, None));
        Ok(index)
    }

    /// Count one user less of the function in this slot, and free the function if there is none left.
    pub fn leave_function(&self, records: &mut Records, index: u32) {
        if index == 0 || records.table.count_user(index, -1) > 0 {
            return;
        }
        if let Ok(slot) = self.view.slot(index) {
            slot.header.discard();
            slot.store(StateWord::of(Status::Free, records.table.get(index).1, None));
            records.table.give_back(index);
        }
    }

    /// How long an item of this function took lately, as the workers report.
    pub fn measured(&self, function: u32) -> Option<Duration> {
        let nanos = self
            .view
            .slot(function)
            .ok()
            .filter(|_| function != 0)?
            .next
            .load(Relaxed);
        (nanos != 0).then(|| Duration::from_nanos(u64::from(nanos)))
    }

    /// Append a task to this queue, and return its slot. `task` is the job, the task's number, and its own function or
    /// 0.
    pub fn enqueue(
        &self,
        records: &mut Records,
        queue: usize,
        task: (u32, u64, u32),
        arguments: Message,
    ) -> Result<u32> {
        let (job, item, function) = task;
        let (index, generation) = records.table.take(&self.view, Use::Task { job, item, function })?;
        let slot = self.view.slot(index)?;
        let function = if function == 0 {
            records.jobs.job(job).function
        } else {
            function
        };
        records.table.count_user(records.table.own_function(index), 1);
        slot.aux.store(function, Relaxed);
        slot.header.post(arguments);
        records.table.enqueue(index, queue);
        self.view.trace(What::TaskSubmit, index, generation);
        let tail = std::mem::replace(&mut records.tails[queue], index);
        self.view.append(tail, index, generation)?;
        Ok(index)
    }

    /// Whether a worker is running the task in this slot.
    pub fn is_running(&self, index: u32) -> bool {
        let state = self.view.slot(index).ok().and_then(PoolSlot::load);
        state.is_some_and(|state| state.status == Status::Running)
    }

    /// Keep a task from being begun; `false` if that is too late.
    pub fn withdraw(&self, records: &mut Records, index: u32) -> bool {
        let (Use::Task { .. }, generation) = records.table.get(index) else {
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
        let withdrawn = pending.is_some_and(|state| slot.swap(state, StateWord::of(Status::Free, generation, None)));
        if withdrawn {
            slot.header.discard();
            self.leave_function(records, records.table.own_function(index));
            records.table.give_back_later(index);
        }
        withdrawn
    }

    /// Keep a task from being begun, or its result from being counted. Returns the status it had, or `None` if it is
    /// finished.
    pub fn stop(&self, records: &mut Records, index: u32) -> Option<Status> {
        let (Use::Task { .. }, generation) = records.table.get(index) else {
            return None;
        };
        let slot = self.view.slot(index).ok()?;
        // A worker may claim the task, or finish it, meanwhile: then look again. It cannot do more than these two.
        for _ in 0..3 {
            let state = slot.load().filter(|state| state.generation == generation)?;
            match state.status {
                Status::Pending if self.withdraw(records, index) => return Some(Status::Pending),
                Status::Running if self.cancel_running(records, index, state, None) => return Some(Status::Running),
                Status::Pending | Status::Running => {}
                _ => return None,
            }
        }
        None
    }

    /// Cancel a running task: its result is ignored from now on. `false`: it is finished.
    pub fn cancel_running(&self, records: &mut Records, index: u32, state: StateWord, after: Option<Duration>) -> bool {
        let Ok(slot) = self.view.slot(index) else {
            return false;
        };
        if !self.is_mine() {
            return false;
        }
        let (Use::Task { job, function, .. }, _) = records.table.get(index) else {
            return false;
        };
        // Find the worker before it can learn of the cancellation, so that `reap` knows the reason.
        let worker_index = records.workers.keys().copied().find(|&worker_index| {
            self.worker_state(worker_index)
                .is_some_and(|(_, at)| at.owner == state.owner)
        });
        let cancelled = StateWord {
            status: Status::Cancelled,
            ..state
        };
        if !slot.swap(state, cancelled) {
            return false;
        }
        if let Some(record) = worker_index.and_then(|worker_index| records.workers.get_mut(&worker_index)) {
            record.cancelled = Some((index, state.generation, after));
            // A task with a function of its own keeps it until its slot is released.
            if function == 0 && record.function == 0 {
                record.function = records.jobs.job(job).function;
                records.table.count_user(record.function, 1);
            }
        }
        true
    }

    pub fn worker_state(&self, worker_index: u32) -> Option<(&PoolSlot, StateWord)> {
        let slot = self.view.slot(worker_index).ok()?;
        Some((slot, slot.load()?))
    }

    /// Record what workers finished. Returns whether there was anything.
    pub fn collect(&self, records: &mut Records) -> bool {
        if self.view.finished() == 0 || !self.is_mine() {
            return false;
        }
        let mut finished = std::mem::take(&mut records.scratch);
        self.view.take_finished(&mut finished);
        for &index in &finished {
            self.note(records, index);
        }
        records.scratch = finished;
        true
    }

    /// Record one finished task.
    pub fn note(&self, records: &mut Records, index: u32) {
        let (Use::Task { job, item, .. }, generation) = records.table.get(index) else {
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
        self.view.trace(What::TaskResult, index, generation);
        records.jobs.finish(job, item, index, raised);
        self.perform(records);
    }

    /// Free the slot of a task that is no longer needed.
    pub fn release(&self, records: &mut Records, index: u32) {
        if let Ok(slot) = self.view.slot(index) {
            slot.header.discard();
            self.leave_function(records, records.table.own_function(index));
            slot.store(StateWord::of(Status::Free, records.table.get(index).1, None));
            if self.view.pass(records.table.queue_of(index), index).is_ok() {
                records.table.give_back(index);
            }
        }
    }

    /// Take an item if it is there.
    pub fn take(&self, records: &mut Records, key: u32, number: u64) -> Result<Option<Item>> {
        self.check_is_mine()?;
        Ok(match records.jobs.job(key).take(number) {
            Some(ItemState::Ready { slot, raised }) => {
                let message = self.view.slot(slot)?.header.open();
                self.release(records, slot);
                Some(if raised {
                    Item::Raised(message?)
                } else {
                    Item::Done(message?)
                })
            }
            Some(ItemState::Lost(loss)) => Some(Item::Lost(loss)),
            Some(ItemState::Taken | ItemState::Waiting { .. }) | None => None,
        })
    }
}
