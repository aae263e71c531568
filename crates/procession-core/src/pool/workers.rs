//! The workers as the parent sees them: their slots, their time, their end.
//!
//! As in `slots`, the caller holds the lock of the parent's records. How a worker process is started and noticed to be
//! dead is left to the faces.

use super::shared::{now, SlotNote, StateWord, Status};
use super::slots::{Records, Slots, WorkerRecord};
use super::table::Use;
use super::types::{Loss, Overdue, Stats, WorkerDeath, WorkerEnd, WorkerStats};
use crate::ids::Owner;
use crate::Result;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

/// How long a worker may take to make a function and its arguments from their bytes, which may include loading modules,
/// before the time limit of the task begins.
const LOADING: Duration = Duration::from_secs(30);

impl Slots {
    pub fn enlist(&self, records: &mut Records) -> Result<u32> {
        let (index, generation) = records.table.take(&self.view, Use::Worker)?;
        let slot = self.view.slot(index)?;
        slot.next.store(0, Relaxed);
        slot.aux.store(0, Relaxed);
        for word in slot.header.spare_words() {
            word.store(0, Relaxed);
        }
        slot.store(StateWord::of(Status::Starting, generation, None));
        records.workers.insert(index, WorkerRecord::default());
        Ok(index)
    }

    pub fn is_ready(&self, worker_index: u32) -> bool {
        self.worker_state(worker_index)
            .is_some_and(|(_, state)| state.status == Status::Ready)
    }

    pub fn is_busy(&self, records: &Records, worker_index: u32) -> bool {
        self.task_of(records, worker_index).is_some()
    }

    pub fn dismiss(&self, records: &Records, worker_index: u32) {
        if records.workers.contains_key(&worker_index) && self.is_mine() {
            if let Ok(slot) = self.view.slot(worker_index) {
                slot.dismiss();
                self.view.shared.work.notify(u32::MAX);
            }
        }
    }

    /// The task that the worker `worker_index` runs, or has finished and not reported: slot, state, job and item.
    fn task_of(&self, records: &Records, worker_index: u32) -> Option<(u32, StateWord, (u32, u64))> {
        let (slot, state) = self.worker_state(worker_index)?;
        if state.status != Status::Ready {
            return None;
        }
        let index = slot.next.load(SeqCst);
        let (Use::Task { job, item, .. }, generation) = records.table.get(index) else {
            return None;
        };
        let task = self.view.slot(index).ok()?.load()?;
        let its = task.owner == state.owner && task.generation == generation;
        let running = match task.status {
            Status::Running | Status::Cancelled => true,
            Status::Done | Status::Raised => records.jobs.find(job).is_some_and(|job| job.waits_for(item, index)),
            _ => false,
        };
        (its && running).then_some((index, task, (job, item)))
    }

    pub fn overdue(&self, records: &mut Records) -> Overdue {
        let mut again = records.jobs.shortest_timeout();
        let (clock, time) = (now(), Instant::now());
        if again.is_some() {
            for worker_index in records.workers.keys().copied().collect::<Vec<_>>() {
                if let Some(left) = self.check_time(records, worker_index, clock, time) {
                    again = again.map(|again| again.min(left));
                }
            }
        }
        records.next_look = again.and_then(|again| time.checked_add(again));
        let mut worker_indexes = Vec::new();
        for (&worker_index, record) in &mut records.workers {
            if record.cancelled.is_some() && !std::mem::replace(&mut record.named, true) {
                worker_indexes.push(worker_index);
            }
        }
        Overdue { worker_indexes, again }
    }

    /// Cancel the task that the worker `worker_index` runs, if it takes too long. Otherwise return how long it may
    /// still take.
    fn check_time(&self, records: &mut Records, worker_index: u32, clock: u64, time: Instant) -> Option<Duration> {
        let (index, state, (job, item)) = self.task_of(records, worker_index)?;
        let timeout = records.jobs.find(job)?.timeout_of(item)?;
        if state.status != Status::Running {
            return None;
        }
        let since = self.view.slot(worker_index).ok()?.note(SlotNote::Since).load(Relaxed);
        let record = records.workers.get_mut(&worker_index)?;
        let first = match record.seen {
            Some((slot, generation, first)) if (slot, generation) == (index, state.generation) => first,
            _ => record.seen.insert((index, state.generation, time)).2,
        };
        let (took, limit) = if since == 0 {
            // The task is claimed, but its function is not called yet.
            (time.saturating_duration_since(first), timeout.saturating_add(LOADING))
        } else {
            (Duration::from_nanos(clock.saturating_sub(since)), timeout)
        };
        let left = limit.saturating_sub(took);
        if !left.is_zero() {
            return Some(left);
        }
        self.cancel_running(records, index, state, Some(timeout));
        None
    }

    /// Free the slot of a dead worker, and resolve the task that it had noted. Returns what it left behind, and its
    /// identity if it had attached. What workers finished must have been collected.
    pub fn reap(
        &self,
        records: &mut Records,
        worker_index: u32,
        mut death: WorkerDeath,
    ) -> Result<(WorkerEnd, Option<Owner>)> {
        let (Use::Worker, generation) = records.table.get(worker_index) else {
            return Err(crate::Error::Stale("worker"));
        };
        let slot = self.view.slot(worker_index)?;
        let state = slot.load().filter(|state| state.generation == generation);
        let owner = state.and_then(|state| Owner::from_bits(state.owner));
        let unready = WorkerEnd::Unready { begun: owner.is_some() };
        let remains = match state.map(|state| state.status) {
            Some(Status::Failed) => slot.header.open().map_or(unready, WorkerEnd::Failed),
            Some(Status::Ready) => WorkerEnd::Worked { lost: false },
            _ => unready,
        };
        let mut lost = false;
        let record = records.workers.remove(&worker_index).unwrap_or_default();
        if let Some(owner) = owner {
            let task = slot.next.load(SeqCst);
            if slot.note(SlotNote::Since).load(Relaxed) != 0 {
                // The function was running, so the result had not begun to overwrite the arguments.
                death.arguments = self.view.slot(task).ok().and_then(|task| task.header.copy_body().ok());
            }
            lost = self.reap_task(records, task, owner, &record, death);
            self.view.leave_spinner(owner);
        }
        self.leave_function(records, record.function);
        if let WorkerEnd::Worked { .. } = remains {
            let past = &self.view.shared.past.0;
            past.workers.fetch_add(1, Relaxed);
            past.done.fetch_add(slot.aux.load(Relaxed).into(), Relaxed);
            past.failed
                .fetch_add(slot.note(SlotNote::Failed).load(Relaxed), Relaxed);
        }
        slot.header.discard();
        slot.store(StateWord::of(Status::Free, generation, None));
        records.table.give_back(worker_index);
        let end = if let WorkerEnd::Worked { .. } = remains {
            WorkerEnd::Worked { lost }
        } else {
            remains
        };
        Ok((end, owner))
    }

    /// Resolve the task that the dead `owner` had noted. It is lost if it still ran, and finished if only the worker's
    /// report is missing.
    fn reap_task(
        &self,
        records: &mut Records,
        index: u32,
        owner: Owner,
        record: &WorkerRecord,
        death: WorkerDeath,
    ) -> bool {
        let (Use::Task { job, item, function }, generation) = records.table.get(index) else {
            return false;
        };
        let Ok(slot) = self.view.slot(index) else {
            return false;
        };
        let state = slot
            .load()
            .filter(|state| state.generation == generation && state.owner == owner.to_bits());
        let loss = match state.map(|state| state.status) {
            Some(Status::Running) => {
                if self.try_again(records, index, (job, item, function)) {
                    self.release(records, index);
                    return true;
                }
                Loss::Died(Box::new(death))
            }
            Some(Status::Cancelled) => match record.cancelled {
                Some((slot, of, Some(after))) if (slot, of) == (index, generation) => {
                    Loss::TimedOut(after, Box::new(death))
                }
                // The item was resolved when the task was withdrawn.
                _ => Loss::Cancelled,
            },
            Some(Status::Done | Status::Raised) => {
                self.note(records, index);
                return false;
            }
            _ => return false,
        };
        records.jobs.lose(job, item, index, loss);
        self.release(records, index);
        self.perform(records);
        true
    }

    /// Queue the task in the slot `index`, whose worker died, again, if its job's options allow it.
    fn try_again(&self, records: &mut Records, index: u32, task: (u32, u64, u32)) -> bool {
        let (key, item, _) = task;
        let message = records.jobs.retry(key, item, index, |message| message.duplicate().ok());
        let queue = records.table.queue_of(index);
        let Some(Ok(index)) = message.map(|message| self.enqueue(records, queue, task, message)) else {
            return false;
        };
        records.jobs.requeued(key, item, index);
        self.view.wake_one();
        true
    }

    pub fn stats(&self, records: &Records) -> Stats {
        let clock = now();
        let mut workers: Vec<WorkerStats> = records
            .workers
            .keys()
            .filter_map(|&worker_index| self.worker_stats(records, worker_index, clock))
            .collect();
        workers.sort_by_key(|worker| worker.worker_index);
        let running = workers.iter().filter(|worker| worker.running).count() as u64;
        Stats {
            done: records.jobs.done(),
            queued: records.jobs.unfinished().saturating_sub(running),
            running,
            workers,
        }
    }

    fn worker_stats(&self, records: &Records, worker_index: u32, clock: u64) -> Option<WorkerStats> {
        let (slot, state) = self.worker_state(worker_index)?;
        let note = |note| match state.status {
            Status::Ready => slot.note(note).load(Relaxed),
            _ => 0,
        };
        let passed = |since| if since == 0 { 0 } else { clock.saturating_sub(since) };
        let running = self.task_of(records, worker_index).is_some();
        let busy = note(SlotNote::Busy).saturating_add(if running { passed(note(SlotNote::Since)) } else { 0 });
        let life = passed(note(SlotNote::Ready));
        Some(WorkerStats {
            worker_index,
            running,
            tasks: slot.aux.load(Relaxed),
            busy: Duration::from_nanos(busy),
            idle: Duration::from_nanos(life.saturating_sub(busy)),
            received: note(SlotNote::Received),
            sent: note(SlotNote::Sent),
        })
    }
}
