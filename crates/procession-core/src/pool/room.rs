//! How far submitting may run ahead of the workers.
//!
//! Submitting may run ahead as far as keeps the workers busy: a job's unfinished tasks are bounded in number and in
//! bytes of arguments. The number starts small, and grows when a feeder finds on waking that the workers had almost run
//! out of tasks. So slow tasks, or quick feeders, leave the queue short.

use super::parent::Inner;
use super::Job;
use crate::sync::wait::Purpose;
use crate::{Deadline, WaitError};
use std::sync::atomic::Ordering::SeqCst;

/// Bytes of arguments of a job's unfinished tasks from which on no more are submitted, unless workers would be idle.
const BYTES: u64 = 4 << 20;
/// The limit up to which the number of unfinished tasks beyond one for each worker grows.
const MOST: u64 = 4096;

/// The condition that a feeder waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Room {
    /// At most this many tasks are unfinished,
    tasks: u64,
    /// and their arguments have at most this many bytes,
    bytes: u64,
    /// unless fewer than this many are unfinished.
    least: u64,
}

impl Room {
    /// How many tasks must finish, at least, before the condition holds.
    fn missing(self, job: &super::job::State) -> u64 {
        let tasks = job.submitted() - job.finished;
        if job.sealed || tasks < self.least {
            return 0;
        }
        let over = tasks.saturating_sub(self.tasks);
        if job.bytes <= self.bytes {
            return over;
        }
        // As if all tasks had the same size, but no later than when fewer than the least are left.
        let of_bytes = tasks - (u128::from(tasks) * u128::from(self.bytes) / u128::from(job.bytes)) as u64;
        over.max(of_bytes).min(tasks - self.least + 1).max(1)
    }
}

/// Whether a job takes another task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intake {
    /// The job takes another task.
    Open,
    /// Not now: its unfinished tasks have too many bytes of arguments.
    Full,
    /// It was sealed, or the pool was terminated.
    Over,
}

impl super::job::State {
    fn is_full(&self, workers: u64) -> bool {
        self.bytes >= BYTES && self.submitted() - self.finished >= least(workers)
    }

    /// With this many workers; `None`: whatever the size.
    pub fn intake(&self, workers: Option<u64>) -> Intake {
        if self.sealed {
            Intake::Over
        } else if workers.is_some_and(|workers| self.is_full(workers)) {
            Intake::Full
        } else {
            Intake::Open
        }
    }
}

/// A thread that waits for room in a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Feeder {
    job: u32,
    room: Room,
}

/// Decides how much of a job may be submitted, and when.
#[derive(Debug)]
pub struct Feed {
    /// The bound on unfinished tasks beyond one for each worker; `None`: only their bytes are bounded.
    ahead: Option<u64>,
}

impl Feed {
    /// Start with this many unfinished tasks beyond one for each worker; `None`: any number.
    pub fn new(ahead: Option<u64>) -> Self {
        Self { ahead }
    }

    /// How many more tasks of `job` may be submitted now, with this many workers. `None`: wait. 0: no more will be
    /// taken.
    pub fn ready(&self, job: &Job, workers: u64) -> Option<u64> {
        job.pool.with_job(job.key, |job| {
            if job.sealed {
                return Some(0);
            }
            let tasks = job.submitted() - job.finished;
            let most = self.ahead.map_or(u64::MAX, |ahead| workers + ahead);
            (tasks < most && !job.is_full(workers)).then(|| most - tasks)
        })
    }

    /// Wait until the workers have done about half of what was submitted. [`ready`](Self::ready) tells what to do then.
    pub fn wait(&mut self, job: &Job, workers: u64, deadline: Deadline) -> Result<(), WaitError> {
        let room = Room {
            tasks: self.ahead.map_or(u64::MAX, |ahead| workers + ahead / 2),
            bytes: BYTES / 2,
            least: least(workers),
        };
        let left = job.pool.wait_for_room(Feeder { job: job.key, room }, deadline)?;
        if let Some(ahead) = &mut self.ahead {
            if left < workers + *ahead / 4 {
                *ahead = (*ahead).max((*ahead * 2).min(MOST));
            }
        }
        Ok(())
    }
}

/// The number of unfinished tasks that is always allowed: for each worker the one that it runs, and the next.
fn least(workers: u64) -> u64 {
    2 * workers.max(1)
}

impl Inner {
    /// Wait until there is room, and return how many tasks of the job are unfinished then.
    fn wait_for_room(&self, feeder: Feeder, deadline: Deadline) -> Result<u64, WaitError> {
        self.check_is_mine()?;
        let look = || {
            let mut jobs = self.lock();
            self.collect(&mut jobs, 0);
            let job = jobs.job(feeder.job);
            (feeder.room.missing(job) == 0).then(|| job.submitted() - job.finished)
        };
        {
            let mut jobs = self.lock();
            jobs.feeders.push(feeder);
            self.tell_feeders(&jobs);
        }
        let result = self
            .view
            .shared
            .room
            .0
            .count
            .sleep_for(Purpose::default(), deadline, look);
        let mut jobs = self.lock();
        if let Some(at) = jobs.feeders.iter().position(|one| *one == feeder) {
            jobs.feeders.swap_remove(at);
        }
        self.tell_feeders(&jobs);
        result
    }

    /// Wake feeders that have room, and record at which number a worker must wake the others.
    ///
    /// SYNC: the number is stored before a feeder's last look at the stack (`SeqCst` both): see `View::push_finished`.
    pub fn tell_feeders(&self, jobs: &super::job_table::JobTable) {
        let missing = |feeder: &Feeder| match &jobs.jobs[feeder.job as usize] {
            Some(job) => feeder.room.missing(job),
            None => 0,
        };
        let (mut least, mut ready) = (u64::MAX, false);
        for missing in jobs.feeders.iter().map(missing) {
            ready |= missing == 0;
            least = least.min(missing.max(1));
        }
        let wanted = if jobs.feeders.is_empty() { 0 } else { least };
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let at = &self.view.shared.room.0.at;
        if at.load(SeqCst) != wanted {
            at.store(wanted, SeqCst);
        }
        if ready {
            self.view.shared.room.0.count.notify(u32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::job::{State, TaskOptions};

    /// A job of this many unfinished tasks, each with this many bytes.
    fn job(tasks: u64, bytes: u64) -> State {
        let mut job = State::new(0, TaskOptions::default());
        job.base = tasks + 7;
        job.finished = 7;
        job.bytes = tasks * bytes;
        job
    }

    #[test]
    fn room_is_missing_as_long_as_the_workers_have_enough() {
        let room = Room {
            tasks: 10,
            bytes: 1000,
            least: 4,
        };
        assert_eq!(room.missing(&job(10, 1)), 0);
        assert_eq!(room.missing(&job(15, 1)), 5, "too many");
        assert_eq!(room.missing(&job(10, 200)), 5, "too large");
        assert_eq!(
            room.missing(&job(5, 1_000_000)),
            2,
            "but never so that workers are idle"
        );
        assert_eq!(room.missing(&job(3, 1_000_000)), 0);
        let sealed = State {
            sealed: true,
            ..job(1000, 1000)
        };
        assert_eq!(room.missing(&sealed), 0, "a sealed job lets its feeders go on");
    }

    #[test]
    fn a_job_is_full_by_its_bytes() {
        let large = BYTES / 4;
        assert_eq!(job(3, large).intake(Some(1)), Intake::Open);
        assert_eq!(job(4, large).intake(Some(1)), Intake::Full);
        assert_eq!(job(4, large).intake(None), Intake::Open, "without a bound");
        assert_eq!(
            job(4, large).intake(Some(3)),
            Intake::Open,
            "each worker has one, and the next"
        );
    }
}
