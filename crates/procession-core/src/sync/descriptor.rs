//! Waiting for a descriptor in the same way as for an object: in slices if the caller has to react to signals.

use super::spin::Spin;
use super::wait::{announce_join, is_interruptible, next_slice, SLICE};
use crate::{Deadline, Error, WaitError};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What a descriptor is to be ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Data, or the end of the stream, can be read.
    Reading,
    /// Data can be written.
    Writing,
}

/// A reader's record of whether spinning for its descriptor paid lately.
#[derive(Debug, Default)]
pub struct Spinner(Spin);

impl Spinner {
    /// Whether [`run`](Self::run) would try now. If not, this takes its place.
    pub fn seems_worth_it(&self) -> bool {
        self.0.cores().is_some()
    }

    /// Try for a moment, if that seems worth it, until an attempt yields a value.
    pub fn run<T>(&self, attempt: impl FnMut() -> Option<T>) -> Option<T> {
        self.0.run(attempt)
    }
}

/// Wait until a descriptor is ready, or has an error or hang-up; false when the deadline passed. Returns `Interrupted`
/// when a signal handler ran and, if the caller is [`Interruptible`](super::wait::Interruptible), after each slice.
pub fn until(fd: BorrowedFd<'_>, direction: Direction, deadline: Deadline) -> Result<bool, WaitError> {
    let flags = match direction {
        Direction::Reading => PollFlags::IN,
        Direction::Writing => PollFlags::OUT,
    };
    let mut fds = [PollFd::new(&fd, flags)];
    crate::arena::trim_idle();
    let sliced = is_interruptible();
    let timeout = if sliced {
        Some(next_slice(SLICE, deadline))
    } else {
        deadline.remaining()
    };
    match poll(&mut fds, timeout.map(timespec).as_ref()) {
        Ok(0) if sliced && !deadline.is_over() => Err(WaitError::Interrupted),
        Ok(n) => Ok(n > 0),
        Err(Errno::INTR) => Err(WaitError::Interrupted),
        Err(error) => Err(Error::os("poll", error).into()),
    }
}

/// As [`until`], for the descriptor of process `pid`, which becomes readable when that ends.
pub(crate) fn until_end(fd: BorrowedFd<'_>, pid: u32, deadline: Deadline) -> Result<bool, WaitError> {
    // Only what waits without end can be in a deadlock.
    let _announced = deadline.is_never().then(|| announce_join(pid, deadline));
    until(fd, Direction::Reading, deadline)
}

pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
