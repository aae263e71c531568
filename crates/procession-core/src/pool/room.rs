//! How far submitting may run ahead of the workers.
//!
//! Submitting may run ahead as far as keeps the workers busy: a job's unfinished tasks are bounded in number and in
//! bytes of arguments. These are the conditions alone; which code checks them, and waits, is left to `feed` and `monitor`.

/// Bytes of arguments of a job's unfinished tasks from which on no more are submitted, unless workers would be idle.
pub(super) const BYTES: u64 = 4 << 20;

/// A job's unfinished tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Load {
    pub tasks: u64,
    /// Bytes of their arguments.
    pub bytes: u64,
    /// Whether no more tasks will come.
    pub sealed: bool,
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

impl Load {
    pub fn is_full(self, workers: u64) -> bool {
        self.bytes >= BYTES && self.tasks >= least(workers)
    }

    /// With this many workers; `None`: whatever the size.
    pub fn intake(self, workers: Option<u64>) -> Intake {
        if self.sealed {
            Intake::Over
        } else if workers.is_some_and(|workers| self.is_full(workers)) {
            Intake::Full
        } else {
            Intake::Open
        }
    }
}

/// The condition that a feeder waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Room {
    /// At most this many tasks are unfinished,
    pub tasks: u64,
    /// and their arguments have at most this many bytes,
    pub bytes: u64,
    /// unless fewer than this many are unfinished.
    pub least: u64,
}

impl Room {
    /// How many tasks must finish, at least, before the condition holds.
    pub fn missing(self, load: Load) -> u64 {
        let tasks = load.tasks;
        if load.sealed || tasks < self.least {
            return 0;
        }
        let over = tasks.saturating_sub(self.tasks);
        if load.bytes <= self.bytes {
            return over;
        }
        // As if all tasks had the same size, but no later than when fewer than the least are left.
        let of_bytes = tasks - (u128::from(tasks) * u128::from(self.bytes) / u128::from(load.bytes)) as u64;
        over.max(of_bytes).min(tasks - self.least + 1).max(1)
    }
}

/// A thread that waits for room in a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Feeder {
    pub job: u32,
    pub room: Room,
}

/// The number of unfinished tasks that is always allowed: for each worker the one that it runs, and the next.
pub(super) fn least(workers: u64) -> u64 {
    2 * workers.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job of this many unfinished tasks, each with this many bytes.
    fn load(tasks: u64, bytes: u64) -> Load {
        Load {
            tasks,
            bytes: tasks * bytes,
            sealed: false,
        }
    }

    #[test]
    fn room_is_missing_as_long_as_the_workers_have_enough() {
        let room = Room {
            tasks: 10,
            bytes: 1000,
            least: 4,
        };
        assert_eq!(room.missing(load(10, 1)), 0);
        assert_eq!(room.missing(load(15, 1)), 5, "too many");
        assert_eq!(room.missing(load(10, 200)), 5, "too large");
        assert_eq!(
            room.missing(load(5, 1_000_000)),
            2,
            "but never so that workers are idle"
        );
        assert_eq!(room.missing(load(3, 1_000_000)), 0);
        let sealed = Load {
            sealed: true,
            ..load(1000, 1000)
        };
        assert_eq!(room.missing(sealed), 0, "a sealed job lets its feeders go on");
    }

    #[test]
    fn a_job_is_full_by_its_bytes() {
        let large = BYTES / 4;
        assert_eq!(load(3, large).intake(Some(1)), Intake::Open);
        assert_eq!(load(4, large).intake(Some(1)), Intake::Full);
        assert_eq!(load(4, large).intake(None), Intake::Open, "without a bound");
        assert_eq!(
            load(4, large).intake(Some(3)),
            Intake::Open,
            "each worker has one, and the next"
        );
    }
}
