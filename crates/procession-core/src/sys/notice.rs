//! A descriptor by which one thread wakes another that waits for descriptors.

use crate::{Error, Result};
use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::{read, write, Errno};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A flag that one thread sets and another waits for.
#[derive(Debug)]
pub struct Notice(OwnedFd);

impl Notice {
    /// A notice that is not set.
    pub fn new() -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        eventfd(0, flags).map(Self).map_err(|e| Error::os("eventfd", e))
    }

    /// Wake the waiter, now or at its next wait.
    pub fn set(&self) {
        // This can only fail if the notice was set so often already that it stays set.
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }

    /// Wait until it is set or one of `others` is readable. Returns false if `timeout` has passed before that. Clears
    /// the notice.
    pub fn wait(&self, others: &[OwnedFd], timeout: Option<Duration>) -> bool {
        let fds = std::iter::once(self.0.as_fd()).chain(others.iter().map(AsFd::as_fd));
        let mut polls: Vec<PollFd<'_>> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
        let ready = poll(&mut polls, timeout.as_ref());
        let _ = read(&self.0, &mut [0; 8]);
        !matches!(ready, Ok(0)) || timeout.is_none() || ready == Err(Errno::INTR)
    }
}

impl AsFd for Notice {
    /// Readable while the notice is set.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_seen_once() {
        let notice = Notice::new().unwrap();
        let none = Some(Duration::ZERO);
        assert!(!notice.wait(&[], none));
        notice.set();
        notice.set();
        assert!(notice.wait(&[], None));
        assert!(!notice.wait(&[], none));
        let other = Notice::new().unwrap();
        other.set();
        assert!(notice.wait(&[other.0], none));
    }
}
