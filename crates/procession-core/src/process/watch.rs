//! Ending a process with its parent: for daemonic children and pool workers.
//!
//! `PR_SET_PDEATHSIG` does not serve, because it follows the parent's *thread*; nor does the main thread, which may be
//! busy for ever.

use super::child::process;
use crate::sync::descriptor::{until, Direction};
use crate::sys::proc;
use crate::sys::threads;
use crate::{Deadline, Error, Result, WaitError};
use rustix::io::Errno;
use rustix::process::{getppid, pidfd_open, Pid, PidfdFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(250);
/// How often the parent is checked: one that frees much memory is dead long before its pidfd is readable.
const SLICE: Duration = Duration::from_millis(300);

/// End this process when process `parent` ends: by SIGTERM, and soon after by SIGKILL if it still runs. If the parent
/// is already gone, that is at once. Holds in this process only, not in its children.
pub fn watch_parent(parent: i32) -> Result<()> {
    let Some(parent) = process(parent) else {
        return Err(Error::os("pidfd_open", Errno::INVAL));
    };
    let pidfd = match pidfd_open(parent, PidfdFlags::empty()) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::SRCH) => None,
        Err(e) => return Err(Error::os("pidfd_open", e)),
    };
    let stat = ParentStat::at(parent);
    // If a real parent died meanwhile, this process now has another parent, and the old number may be another
    // process's. (The client is not the real parent of a fork server's child, and cannot be checked in this way.)
    let real = getppid() == Some(parent);
    threads::helper("procession-watch", move || watch(pidfd.as_ref(), &stat, parent, real)).map(drop)
}

fn watch(pidfd: Option<&OwnedFd>, stat: &ParentStat, parent: Pid, real: bool) {
    if let Some(pidfd) = pidfd {
        while !real || getppid() == Some(parent) {
            crate::arena::trim_idle();
            let ended = until(pidfd.as_fd(), Direction::Reading, Deadline::after(SLICE));
            // The program may have closed the pidfd without notice. Then its number is free, or another file's, and the
            // result says nothing.
            match (ended, stat.lives()) {
                (_, Some(false)) | (Ok(true), None) => break,
                // With all signals blocked nothing interrupts the wait.
                (Ok(false) | Err(WaitError::Interrupted), _) => {}
                (Err(_), None) if !real => return,
                _ => std::thread::sleep(SLICE),
            }
        }
    }
    let this = std::process::id() as i32;
    // SAFETY: signals to this very process.
    unsafe { libc::kill(this, libc::SIGTERM) };
    std::thread::sleep(GRACE);
    // SAFETY: as above.
    unsafe { libc::kill(this, libc::SIGKILL) };
}

/// What the watching thread reads. Opened before that thread starts: a program may give a number that it found free to
/// a descriptor of its own (`dup2`), and a thread that the program does not know of must not take that number
/// meanwhile.
struct ParentStat {
    pid: u32,
    file: Option<proc::StatFile>,
    start: Option<u64>,
}

impl ParentStat {
    fn at(parent: Pid) -> Self {
        let pid = parent.as_raw_nonzero().get() as u32;
        let file = proc::StatFile::open(pid);
        let start = file.as_ref().and_then(proc::StatFile::read).map(|stat| stat.start);
        Self { pid, file, start }
    }

    /// Whether the process will ever run its program again, as far as `/proc` tells.
    fn lives(&self) -> Option<bool> {
        let start = self.start?;
        let seen = self.file.as_ref().and_then(proc::StatFile::read);
        if seen.is_some_and(|now| now.start == start && !now.may_be_leaving()) {
            return Some(true);
        }
        // It is leaving, or gone, or the program closed the file: the path distinguishes them.
        Some(proc::stat(self.pid).is_some_and(|now| now.start == start && !proc::is_leaving(self.pid, now)))
    }
}
