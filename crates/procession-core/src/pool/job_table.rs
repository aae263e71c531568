//! The parent's table of jobs: their items, how these ended, and how many tasks each waiter waits for.

use super::job::{Entry, Loss, State as JobState, TaskOptions};
use super::room::Feeder;
use super::table::Table;
use crate::pool::workers::WorkerRecord;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

pub(super) struct JobTable {
    pub table: Table,
    pub jobs: Vec<Option<JobState>>,
    pub free_jobs: Vec<u32>,
    /// The workers, by index.
    pub workers: HashMap<u32, WorkerRecord>,
    /// The queue's last slot.
    pub tail: u32,
    /// Number of tasks submitted and not finished.
    pub unfinished: u64,
    /// Number of tasks that ended with a result, with an error, or with the death of their worker.
    pub done: u64,
    /// Number of jobs that may still grow.
    pub unsealed: u64,
    pub closing: bool,
    /// Complete jobs that were to be announced.
    pub completed: VecDeque<u32>,
    /// For each waiter, how many more tasks must finish before it can have what it wants.
    pub waiters: Vec<u64>,
    /// The threads that wait for room in a job.
    pub feeders: Vec<Feeder>,
    /// For each time limit, the number of unfinished tasks that have it.
    pub timed: BTreeMap<Duration, u64>,
    /// When the face will next check for overdue tasks.
    pub next_look: Option<Instant>,
    pub scratch: Vec<u32>,
}

impl JobTable {
    pub fn new() -> Self {
        Self {
            table: Table::new(),
            jobs: Vec::new(),
            free_jobs: Vec::new(),
            workers: HashMap::new(),
            tail: 0,
            unfinished: 0,
            done: 0,
            unsealed: 0,
            closing: false,
            completed: VecDeque::new(),
            waiters: Vec::new(),
            feeders: Vec::new(),
            timed: BTreeMap::new(),
            next_look: None,
            scratch: Vec::new(),
        }
    }

    /// Add a job and return its key.
    pub fn open(&mut self, function: u32, options: TaskOptions) -> u32 {
        self.table.count_user(function, 1);
        let state = JobState::new(function, options);
        self.unsealed += 1;
        if let Some(key) = self.free_jobs.pop() {
            self.jobs[key as usize] = Some(state);
            return key;
        }
        self.jobs.push(Some(state));
        self.jobs.len() as u32 - 1
    }

    pub fn job(&mut self, key: u32) -> &mut JobState {
        self.jobs[key as usize]
            .as_mut()
            .expect("a job's record stays until it is dropped and complete")
    }

    /// Append an item to a job and return its number.
    pub fn add(&mut self, key: u32, entry: Entry) -> u64 {
        let job = self.job(key);
        let number = job.submitted();
        let timeout = job.options.timeout;
        job.items.push_back(Entry::Waiting { slot: 0, bytes: 0 });
        self.unfinished += 1;
        if let Some(timeout) = timeout {
            *self.timed.entry(timeout).or_default() += 1;
        }
        match entry {
            Entry::Waiting { bytes, .. } => {
                let job = self.job(key);
                job.bytes += u64::from(bytes);
                *job.items.back_mut().expect("pushed above") = entry;
            }
            ended => drop(self.resolve(key, number, ended)),
        }
        number
    }

    /// Whether a job's item waits for the task in the slot `index`.
    pub fn waits_for(&mut self, key: u32, number: u64, index: u32) -> bool {
        let job = self.jobs[key as usize].as_mut();
        matches!(job.and_then(|job| job.entry(number)), Some(&mut Entry::Waiting { slot, .. }) if slot == index)
    }

    /// Record that an item is no longer waiting. `false`: it was not waiting, or its job was stopped, dropped and
    /// forgotten while the item still ran.
    pub fn resolve(&mut self, key: u32, number: u64, ended: Entry) -> bool {
        let Some(job) = &mut self.jobs[key as usize] else {
            return false;
        };
        let abandoned = job.abandoned;
        let Some(entry) = job.entry(number) else {
            return false;
        };
        let Entry::Waiting { bytes, .. } = *entry else {
            return false;
        };
        let failed = !matches!(ended, Entry::Ready { raised: false, .. });
        let ran = matches!(
            ended,
            Entry::Ready { .. } | Entry::Lost(Loss::Died(_) | Loss::TimedOut(..))
        );
        *entry = if abandoned { Entry::Taken } else { ended };
        job.finished += 1;
        job.bytes -= u64::from(bytes);
        if failed && job.failed.is_none() {
            job.failed = Some(number);
        }
        if let Some(order) = &mut job.order {
            order.push_back(number);
        }
        if job.options.retries > 0 {
            job.spares.remove(&number);
        }
        let timeout = job.options.timeout;
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
        let is_new = !std::mem::replace(&mut self.job(key).sealed, true);
        self.unsealed -= u64::from(is_new);
        is_new
    }

    /// Stop all jobs: what is unfinished is lost.
    pub fn stop_all(&mut self) {
        for key in 0..self.jobs.len() as u32 {
            if let Some(job) = &self.jobs[key as usize] {
                let numbers = job.base..job.submitted();
                self.seal(key);
                for number in numbers {
                    self.resolve(key, number, Entry::Lost(Loss::Stopped));
                }
                self.check_complete(key);
            }
        }
    }

    pub fn check_complete(&mut self, key: u32) {
        let job = self.job(key);
        if job.announce && job.is_complete() {
            job.announce = false;
            self.completed.push_back(key);
        }
    }

    /// How many tasks must finish before the next announcement can be due.
    pub fn until_completed(&self) -> u64 {
        let mut announced = self.announced();
        match (announced.next(), announced.next()) {
            (None, _) => u64::MAX,
            (Some(job), None) => (job.submitted() - job.finished).max(1),
            _ => 1,
        }
    }

    /// Jobs to be announced once they are complete.
    pub fn announced(&self) -> impl Iterator<Item = &JobState> {
        self.jobs.iter().flatten().filter(|job| job.announce)
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
}
