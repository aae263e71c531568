//! Whether a process lives, asked of the kernel by a descriptor that cannot be confused by a reused pid.

use super::proc;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use std::os::fd::OwnedFd;

/// A descriptor for process `pid`, which need not be a child of ours.
pub(crate) fn open(pid: u32) -> Result<OwnedFd, Errno> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    rustix::process::pidfd_open(pid.ok_or(Errno::SRCH)?, PidfdFlags::empty())
}

/// Whether the process of this descriptor has ended (a zombie has).
pub(crate) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(rustix::event::poll(&mut fds, Some(&rustix::fs::Timespec::default())), Ok(n) if n > 0)
}

/// Whether the process that had this pid and start time (in clock ticks; only the bits of `mask` are compared) has ended, or will never run
/// its program again. When the kernel will not say (no descriptors left, no `/proc`), it counts as alive.
pub(crate) fn is_gone(pid: u32, start: u64, mask: u64) -> bool {
    match open(pid) {
        // EINVAL: the pid now belongs to a thread that leads no process, so ours is gone.
        Err(Errno::SRCH | Errno::INVAL) => true,
        Err(_) => match proc::start_time(pid) {
            Some(now) => now & mask != start & mask,
            None => no_such_process(pid),
        },
        Ok(pidfd) => {
            // The start time is read while the descriptor is held and before it is polled: if the process has not ended
            // by then, the time read was its own.
            let now = proc::stat(pid);
            let over = |now: proc::Stat| now.start & mask != start & mask || proc::is_leaving(pid, now);
            now.is_some_and(over) || has_ended(&pidfd)
        }
    }
}

fn no_such_process(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return true;
    };
    matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_gone_and_a_living_process_is_not() {
        let mut child = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let start = proc::start_time(pid).unwrap();
        assert!(!is_gone(pid, start, u64::MAX));
        assert!(is_gone(pid, start + 1, u64::MAX), "another start time: another process");
        let pidfd = open(pid).unwrap();
        child.kill().unwrap();
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        assert!(is_gone(pid, start, u64::MAX), "a zombie counts as dead");
        child.wait().unwrap();
        assert!(is_gone(pid, start, u64::MAX));
    }
}
