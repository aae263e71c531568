//! Whether a process lives, asked of the kernel through a descriptor that a reused pid cannot confuse.

use super::proc;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A descriptor for process `pid`, which need not be a child of ours.
pub(crate) fn open(pid: u32) -> Result<OwnedFd, Errno> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    rustix::process::pidfd_open(pid.ok_or(Errno::SRCH)?, PidfdFlags::empty())
}

/// Whether the process of this descriptor has ended (a zombie has).
pub(crate) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let told = rustix::event::poll(&mut fds, Some(&rustix::fs::Timespec::default()));
    // A descriptor that the program has closed meanwhile (NVAL) says nothing.
    matches!(told, Ok(n) if n > 0) && !fds[0].revents().contains(PollFlags::NVAL)
}

/// As [`has_ended`], asked again by a new descriptor: another thread of the program may have closed the first one and
/// given its number to a file, which can be read at any time.
fn has_surely_ended(pid: u32, pidfd: &OwnedFd) -> bool {
    has_ended(pidfd)
        && match open(pid) {
            Ok(again) => has_ended(&again),
            Err(Errno::SRCH | Errno::INVAL) => true,
            Err(_) => false,
        }
}

/// Whether the process that had this pid and start time has ended, or will never run its program again. The start time
/// is in clock ticks, and only its bits of `mask` are compared. If the kernel will not say (no descriptors left, no
/// `/proc`), the process counts as alive. A start time of zero is unknown: no descriptor was left when it was to be
/// read. Then the pid alone counts.
pub(crate) fn is_gone(pid: u32, start: u64, mask: u64) -> bool {
    is_gone_or(pid, start, mask, |_| false)
}

/// As [`is_gone`], or if `is_over` holds for the state that the process is in.
pub(crate) fn is_gone_or(pid: u32, start: u64, mask: u64, is_over: impl Fn(proc::Stat) -> bool) -> bool {
    let other = |now: u64| start & mask != 0 && now & mask != start & mask;
    match open(pid) {
        // EINVAL: the pid now belongs to a thread that leads no process, so ours is gone.
        Err(Errno::SRCH | Errno::INVAL) => true,
        Err(_) => match proc::start_time(pid) {
            Some(now) => other(now),
            None => no_such_process(pid),
        },
        Ok(pidfd) => {
            // The start time is read while the descriptor is held and before it is polled: if the process has not ended
            // by then, the time read was its own.
            let now = proc::stat(pid);
            let over = |now: proc::Stat| other(now.start) || is_over(now) || proc::is_leaving(pid, now);
            now.is_some_and(over) || has_surely_ended(pid, &pidfd)
        }
    }
}

/// The kernel's answer to [`exit_status`], see `struct pidfd_info` of `linux/pidfd.h`.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    status: i32,
}

/// `PIDFD_GET_INFO`: `_IOWR(0xff, 11, struct pidfd_info)`.
const GET_INFO: libc::Ioctl = 3 << 30 | (size_of::<Info>() as libc::Ioctl) << 16 | 0xff << 8 | 0x0b;
/// `PIDFD_INFO_EXIT`.
const STATUS: u64 = 1 << 3;
/// How long the status of a process that has ended may be delayed: between the end of the process and its being reaped.
const STATUS_DELAY: Duration = Duration::from_millis(100);

/// The status of a process that ended and was reaped, as `wait` reports it, through a descriptor that was opened
/// before. `None` if the kernel does not keep it (before Linux 6.15).
pub(crate) fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let until = Instant::now() + STATUS_DELAY;
    loop {
        let mut info = Info {
            mask: STATUS,
            ..Info::default()
        };
        // SAFETY: the kernel writes at most as many bytes as the request's number says, which is the size of `info`.
        let code = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
        if code == 0 && info.mask & STATUS != 0 {
            return Some(info.status);
        }
        // An older kernel does not know the request, or not this bit, and then says that there is no such process.
        if code != 0 || Instant::now() > until {
            return None;
        }
        // The descriptor hangs up once the process is reaped.
        let mut fds = [PollFd::new(&pidfd, PollFlags::empty())];
        let _ = rustix::event::poll(&mut fds, Some(&SLICE));
    }
}

/// Time between two looks for a delayed status.
const SLICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};

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
    fn a_process_whose_start_could_not_be_read_is_known_by_its_pid() {
        let me = std::process::id();
        assert!(!is_gone(me, 0, u64::MAX));
        let start = proc::start_time(me).unwrap();
        assert!(is_gone(me, start + 1, u64::MAX));
        assert!(is_gone(0, 0, u64::MAX));
    }

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
