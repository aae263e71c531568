//! How a face submits the items of an iterable: as far ahead of the workers as keeps them busy.
//!
//! The bound on unfinished tasks starts small, and grows when a feeder finds on waking that the workers had almost run
//! out of tasks. So slow tasks, or quick feeders, leave the queue short. The conditions are those of `room`.

use super::job::Job;
use super::room::{least, Feeder, Room, BYTES};
use crate::{Deadline, WaitError};

/// The limit up to which the number of unfinished tasks beyond one for each worker grows.
const MOST: u64 = 4096;

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
        let load = job.pool.with_job(job.key, |job| job.load());
        if load.sealed {
            return Some(0);
        }
        let most = self.ahead.map_or(u64::MAX, |ahead| workers + ahead);
        (load.tasks < most && !load.is_full(workers)).then(|| most - load.tasks)
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
