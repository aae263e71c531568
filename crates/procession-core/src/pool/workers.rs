//! The workers as the parent sees them: their slots, their time, their end.

use super::job::{Entry, Loss};
use super::job_table::JobTable;
use super::parent::Inner;
use super::shared::{now, Note, Slot, State, Status};
use super::table::Use;
use crate::channel::Incoming;
use crate::ids::Owner;
use crate::liveness;
use crate::Result;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

/// How long a worker may take to make a function and its arguments from their bytes, which may include loading modules,
/// before the time limit of the task begins.
const LOADING: Duration = Duration::from_secs(30);

/// How a worker's process ended, as far as the face knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Death {
    /// The process.
    pub pid: i32,
    /// Its exit code, or the negative signal number.
    pub exitcode: i32,
    /// Whether the kernel killed it because memory ran out.
    pub out_of_memory: bool,
    /// Its stack trace, as its language prints it.
    pub stack: Option<String>,
    /// The body of the task that it was running, as far as it is still there. Filled in by `reap`.
    pub arguments: Option<Vec<u8>>,
}

/// What a dead worker left behind.
#[derive(Debug)]
pub enum WorkerEnd {
    /// It had not reported that it was ready.
    Unready {
        /// Whether it had attached to its slot, and so was about to be initialised.
        begun: bool,
    },
    /// It could not start, and gave this reason.
    Failed(Incoming),
    /// It worked. The task that it was running, if any, is lost now or will be tried again.
    Worked {
        /// Whether it was running a task.
        lost: bool,
    },
}

/// The workers that must be stopped.
#[derive(Debug, Default)]
pub struct Overdue {
    /// The indexes of workers that have run their task for too long, or that run a withdrawn one.
    pub worker_indexes: Vec<u32>,
    /// Ask again after this time, or when the pool's notice is set.
    pub again: Option<Duration>,
}

/// What a pool has done and is doing.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Tasks that ended with a result, with an error, or with the death of their worker.
    pub done: u64,
    /// Queued tasks.
    pub queued: u64,
    /// Tasks that workers are running.
    pub running: u64,
    /// The workers.
    pub workers: Vec<WorkerStats>,
}

/// What a worker has done.
#[derive(Clone, Copy, Debug)]
pub struct WorkerStats {
    /// Its index in the pool.
    pub worker_index: u32,
    /// Whether it is running a task.
    pub running: bool,
    /// Tasks done.
    pub tasks: u32,
    /// Time spent on tasks.
    pub busy: Duration,
    /// Time between tasks.
    pub idle: Duration,
    /// Bytes that it was sent with tasks.
    pub received: u64,
    /// Bytes of its results.
    pub sent: u64,
}

/// The parent's record of a worker.
#[derive(Default)]
pub(super) struct WorkerRecord {
    /// The task (slot, generation) that it was last seen running, and when it was first seen running it.
    seen: Option<(u32, u32, Instant)>,
    /// The task (slot, generation) for which it is to be stopped, and the time limit that the task exceeded, unless the
    /// task was withdrawn.
    cancelled: Option<(u32, u32, Option<Duration>)>,
    /// Whether `overdue` has named it.
    named: bool,
}

impl Inner {
    pub fn enlist(&self) -> Result<u32> {
        self.check_is_mine()?;
        let mut jobs = self.lock();
        let (index, generation) = jobs.table.take(&self.view, Use::Worker)?;
        let slot = self.view.slot(index)?;
        slot.next.store(0, Relaxed);
        slot.aux.store(0, Relaxed);
        for word in slot.header.spare_words() {
            word.store(0, Relaxed);
        }
        slot.store(State::of(Status::Starting, generation, None));
        jobs.workers.insert(index, WorkerRecord::default());
        Ok(index)
    }

    fn worker_state(&self, worker_index: u32) -> Option<(&Slot, State)> {
        let slot = self.view.slot(worker_index).ok()?;
        Some((slot, slot.load()?))
    }

    pub fn is_ready(&self, worker_index: u32) -> bool {
        self.worker_state(worker_index)
            .is_some_and(|(_, state)| state.status == Status::Ready)
    }

    pub fn is_busy(&self, worker_index: u32) -> bool {
        let jobs = self.lock();
        self.task_of(&jobs, worker_index).is_some()
    }

    pub fn dismiss(&self, worker_index: u32) {
        let jobs = self.lock();
        if jobs.workers.contains_key(&worker_index) && self.is_mine() {
            if let Ok(slot) = self.view.slot(worker_index) {
                slot.dismiss();
                self.view.shared.work.notify(u32::MAX);
            }
        }
    }

    /// The task that the worker `worker_index` runs: slot, state, job.
    fn task_of(&self, jobs: &JobTable, worker_index: u32) -> Option<(u32, State, u32)> {
        let (slot, state) = self.worker_state(worker_index)?;
        if state.status != Status::Ready {
            return None;
        }
        let index = slot.next.load(SeqCst);
        let (Use::Task { job, .. }, generation) = jobs.table.get(index) else {
            return None;
        };
        let task = self.view.slot(index).ok()?.load()?;
        let its = task.owner == state.owner && task.generation == generation;
        let running = matches!(task.status, Status::Running | Status::Cancelled);
        (its && running).then_some((index, task, job))
    }

    /// Cancel a running task: its result is ignored from now on. `false`: it is finished.
    pub fn cancel_running(&self, jobs: &mut JobTable, index: u32, state: State, after: Option<Duration>) -> bool {
        let Ok(slot) = self.view.slot(index) else {
            return false;
        };
        if !self.is_mine() {
            return false;
        }
        // Find the worker before it can learn of the cancellation, so that `reap` knows the reason.
        let worker_index = jobs.workers.keys().copied().find(|&worker_index| {
            self.worker_state(worker_index)
                .is_some_and(|(_, at)| at.owner == state.owner)
        });
        let cancelled = State {
            status: Status::Cancelled,
            ..state
        };
        if !slot.swap(state, cancelled) {
            return false;
        }
        if let Some(record) = worker_index.and_then(|worker_index| jobs.workers.get_mut(&worker_index)) {
            record.cancelled = Some((index, state.generation, after));
        }
        true
    }

    pub fn overdue(&self) -> Overdue {
        let mut jobs = self.lock();
        self.collect(&mut jobs, 0);
        let mut again = jobs.timed.keys().next().copied();
        let (clock, time) = (now(), Instant::now());
        if again.is_some() {
            for worker_index in jobs.workers.keys().copied().collect::<Vec<_>>() {
                if let Some(left) = self.check_time(&mut jobs, worker_index, clock, time) {
                    again = again.map(|again| again.min(left));
                }
            }
        }
        jobs.next_look = again.and_then(|again| time.checked_add(again));
        let mut worker_indexes = Vec::new();
        for (&worker_index, record) in &mut jobs.workers {
            if record.cancelled.is_some() && !std::mem::replace(&mut record.named, true) {
                worker_indexes.push(worker_index);
            }
        }
        Overdue { worker_indexes, again }
    }

    /// Cancel the task that the worker `worker_index` runs, if it takes too long. Otherwise return how long it may
    /// still take.
    fn check_time(&self, jobs: &mut JobTable, worker_index: u32, clock: u64, time: Instant) -> Option<Duration> {
        let (index, state, job) = self.task_of(jobs, worker_index)?;
        let timeout = jobs.jobs[job as usize].as_ref()?.options.timeout?;
        if state.status != Status::Running {
            return None;
        }
        let since = self.view.slot(worker_index).ok()?.note(Note::Since).load(Relaxed);
        let record = jobs.workers.get_mut(&worker_index)?;
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
        self.cancel_running(jobs, index, state, Some(timeout));
        None
    }

    pub fn reap(&self, worker_index: u32, mut death: Death) -> Result<WorkerEnd> {
        self.check_is_mine()?;
        let mut jobs = self.lock();
        self.collect(&mut jobs, 0);
        let (Use::Worker, generation) = jobs.table.get(worker_index) else {
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
        let record = jobs.workers.remove(&worker_index).unwrap_or_default();
        if let Some(owner) = owner {
            let task = slot.next.load(SeqCst);
            if slot.note(Note::Since).load(Relaxed) != 0 {
                // The function was running, so the result had not begun to overwrite the arguments.
                death.arguments = self.view.slot(task).ok().and_then(|task| task.header.copy_body().ok());
            }
            lost = self.reap_task(&mut jobs, task, owner, &record, death);
            self.view.leave_spinner(owner);
        }
        slot.header.discard();
        slot.store(State::of(Status::Free, generation, None));
        jobs.table.give_back(worker_index);
        self.tell(&jobs, 0);
        drop(jobs);
        if let Some(owner) = owner {
            // The process table asks the kernel, and frees what the dead worker owned.
            let _ = liveness::is_alive(owner);
        }
        // The dead worker may have been woken for work: another must do it.
        self.view.shared.work.notify(u32::MAX);
        Ok(if let WorkerEnd::Worked { .. } = remains {
            WorkerEnd::Worked { lost }
        } else {
            remains
        })
    }

    /// Resolve the task that the dead `owner` had noted. It is lost if it still ran, and finished if only the worker's
    /// report is missing.
    fn reap_task(&self, jobs: &mut JobTable, index: u32, owner: Owner, record: &WorkerRecord, death: Death) -> bool {
        let (Use::Task { job, item, function }, generation) = jobs.table.get(index) else {
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
                if self.try_again(jobs, job, item, function) {
                    self.release(jobs, index);
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
                self.note(jobs, index);
                return false;
            }
            _ => return false,
        };
        // The job of a withdrawn task may be over, and its key in use for another job.
        let waited_for = jobs.waits_for(job, item, index) && jobs.resolve(job, item, Entry::Lost(loss));
        self.release(jobs, index);
        if waited_for {
            jobs.check_complete(job);
            self.end_if_over(jobs, job);
        }
        true
    }

    /// Queue a task whose worker died again, if its job's options allow it.
    fn try_again(&self, jobs: &mut JobTable, key: u32, item: u64, function: u32) -> bool {
        let Some(job) = &mut jobs.jobs[key as usize] else {
            return false;
        };
        if !matches!(job.entry(item), Some(Entry::Waiting { .. })) {
            return false;
        }
        let Some(spare) = job.spares.get_mut(&item) else {
            return false;
        };
        spare.left -= 1;
        let message = if spare.left == 0 {
            job.spares.remove(&item).map(|spare| spare.message)
        } else {
            spare.message.duplicate().ok()
        };
        let Some(Ok(index)) = message.map(|message| self.enqueue(jobs, (key, item, function), message)) else {
            return false;
        };
        if let Some(Entry::Waiting { slot, .. }) = jobs.job(key).entry(item) {
            *slot = index;
        }
        self.view.wake_one();
        true
    }

    pub fn stats(&self) -> Stats {
        let mut jobs = self.lock();
        self.collect(&mut jobs, 0);
        let clock = now();
        let mut workers: Vec<WorkerStats> = jobs
            .workers
            .keys()
            .filter_map(|&worker_index| self.worker_stats(&jobs, worker_index, clock))
            .collect();
        workers.sort_by_key(|worker| worker.worker_index);
        let running = workers.iter().filter(|worker| worker.running).count() as u64;
        Stats {
            done: jobs.done,
            queued: jobs.unfinished.saturating_sub(running),
            running,
            workers,
        }
    }

    fn worker_stats(&self, jobs: &JobTable, worker_index: u32, clock: u64) -> Option<WorkerStats> {
        let (slot, state) = self.worker_state(worker_index)?;
        let note = |note| match state.status {
            Status::Ready => slot.note(note).load(Relaxed),
            _ => 0,
        };
        let passed = |since| if since == 0 { 0 } else { clock.saturating_sub(since) };
        let running = self.task_of(jobs, worker_index).is_some();
        let busy = note(Note::Busy).saturating_add(if running { passed(note(Note::Since)) } else { 0 });
        let life = passed(note(Note::Ready));
        Some(WorkerStats {
            worker_index,
            running,
            tasks: slot.aux.load(Relaxed),
            busy: Duration::from_nanos(busy),
            idle: Duration::from_nanos(life.saturating_sub(busy)),
            received: note(Note::Received),
            sent: note(Note::Sent),
        })
    }
}
