//! How large the tasks of a job should be if the time that an item takes is not known beforehand.
//!
//! A task should be so large that its own cost, a few microseconds, is a few per cent of it, and so small that no
//! worker is left with the tail.

use super::job::Job;
use crate::Deadline;
use std::time::Duration;

/// How long a task should take.
const TASK_TIME: Duration = Duration::from_micros(200);
/// A task is at most one in this many parts of what is left for one worker, but not less than one in this many parts of
/// `TASK_TIME`.
const PART: u64 = 8;
/// How long to wait for the first items, to learn how long one takes: enough for a worker to wake up and do a short
/// one.
const PROBE_TIME: Duration = Duration::from_micros(150);

/// Cuts a job's items into tasks.
#[derive(Debug)]
pub struct Cutter {
    length: u64,
    workers: u64,
    cut: u64,
}

impl Cutter {
    /// Cut `length` items for this many workers.
    pub fn new(length: u64, workers: usize) -> Self {
        let workers = (workers as u64).max(1);
        Self {
            length,
            workers,
            cut: 0,
        }
    }

    /// Number of items for the next task. May wait for a fraction of a millisecond.
    pub fn next(&mut self, job: &Job) -> u64 {
        if self.cut == 2 * self.workers && job.measured().is_none() {
            // The first few tasks are a probe. If they are not done by then, items take so long that each may be a
            // task.
            let _ = job.wait_for_one(Deadline::after(PROBE_TIME));
        }
        let size = job.measured().map_or(1, |item| self.size(item));
        self.cut += size;
        size
    }

    fn size(&self, item: Duration) -> u64 {
        let worth = (TASK_TIME.as_nanos() / item.as_nanos().max(1)) as u64;
        let left = self.length.saturating_sub(self.cut) / (self.workers * PART);
        left.max(worth / PART).min(worth).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_follow_the_time_of_their_items() {
        let cutter = Cutter::new(1_000_000, 2);
        assert_eq!(cutter.size(Duration::from_nanos(100)), 2_000);
        assert_eq!(cutter.size(Duration::from_micros(10)), 20);
        assert_eq!(cutter.size(Duration::from_millis(1)), 1);
        assert_eq!(cutter.size(Duration::from_secs(100)), 1);
        assert_eq!(
            cutter.size(Duration::ZERO),
            62_500,
            "a clock that stands still is no reason to give one worker all"
        );
    }

    #[test]
    fn tasks_shrink_at_the_end() {
        let cutter = Cutter {
            length: 10_000,
            workers: 2,
            cut: 8_400,
        };
        assert_eq!(cutter.size(Duration::from_micros(1)), 100);
        let cutter = Cutter {
            length: 10_000,
            workers: 2,
            cut: 9_999,
        };
        assert_eq!(cutter.size(Duration::from_micros(1)), 25, "but not to nothing");
    }
}
