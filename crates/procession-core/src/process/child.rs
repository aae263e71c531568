//! A child process: its sentinel, its end, signals to it.

use super::record::ChildRecord;
use super::Exit;
use crate::arena::Ref;
use crate::liveness;
use crate::sync::descriptor::until_end;
use crate::sys::fork_mutex::{ForkMutex, ForkMutexGuard};
use crate::sys::signal::{is_child, pidfd_send_signal, reap};
use crate::sys::{pidfd, proc};
use crate::trace::{self, What};
use crate::{Deadline, Error, Result, WaitError};
use rustix::event::{eventfd, EventfdFlags};
use rustix::io::Errno;
use rustix::process::{pidfd_open, waitid, Pid, PidfdFlags, WaitId, WaitIdOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long [`Child::try_wait`] gives a fork server to report an end that the kernel has already announced.
const REPORT: Duration = Duration::from_secs(1);

/// A child of this process, or one that a fork server made for it.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    /// Its start time, if that could be read. It identifies the exit code that the child itself noted.
    start: Option<u64>,
    watch: Watch,
    /// Only for a fork server's child: the record of its exit status.
    record: Option<Ref<ChildRecord>>,
    exit: ForkMutex<Option<Exit>>,
}

/// A descriptor reserved before a child is made, so that one is left for its pidfd. Close it first.
#[derive(Debug)]
pub(super) struct ReservedFd(#[expect(dead_code, reason = "dropping it is its use")] OwnedFd);

impl ReservedFd {
    pub(super) fn new() -> Result<Self> {
        Watch::ended_fd().map(Self)
    }
}

/// What becomes readable when the child ends.
#[derive(Debug)]
enum Watch {
    /// The kernel's own handle on the process.
    Pidfd(OwnedFd),
    /// The child ended before its pidfd could be opened. This descriptor is always readable.
    Ended(OwnedFd),
}

impl Child {
    /// A child that this very thread just forked. If no descriptor is left for it, it is killed.
    pub fn forked(pid: i32) -> Result<Self> {
        Self::own(pid, liveness::confirm_reserved(pid as u32))
    }

    /// A child that this process just made and that is not reaped yet. An error kills and reaps it.
    pub(super) fn own(pid: i32, start: Option<u64>) -> Result<Self> {
        Self::made(pid, start).inspect_err(|_| {
            if is_child(pid) {
                // SAFETY: a signal to a child that is not reaped, so the number is still its own.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                reap(pid);
            }
        })
    }

    /// A child that this process itself just forked or spawned.
    pub fn adopt(pid: i32) -> Result<Self> {
        Self::made(pid, None)
    }

    fn made(pid: i32, start: Option<u64>) -> Result<Self> {
        let watch = Watch::open(pid)?;
        let start = start.or_else(|| proc::start_time(pid as u32));
        trace::note_alone(What::ProcessStart, pid as u64);
        Ok(Self {
            pid,
            start,
            watch,
            record: None,
            exit: ForkMutex::new(None),
        })
    }

    /// A child that a fork server forked for this process. If no descriptor is left for it, it is killed.
    pub(super) fn of_fork_server(pid: i32, record: Ref<ChildRecord>) -> Result<Self> {
        let mut watch = Watch::open(pid).inspect_err(|_| {
            if record.exit().is_none() {
                // SAFETY: a signal to a process that was not reported as ended just now. Reports come before the number
                // is free again.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        })?;
        trace::note_alone(What::ProcessStart, pid as u64);
        // SYNC: a fork server reports an end before it reaps. If the end is not reported yet, the number still was this
        // child's when the pidfd was opened.
        if record.exit().is_some() {
            watch = Watch::ended()?;
        }
        Ok(Self {
            pid,
            start: None,
            watch,
            record: Some(record),
            exit: ForkMutex::new(None),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor that polls readable once the child has ended.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        let (Watch::Pidfd(fd) | Watch::Ended(fd)) = &self.watch;
        fd.as_fd()
    }

    /// How it ended, if it has.
    pub fn try_wait(&self) -> Result<Option<Exit>, WaitError> {
        if let Some(exit) = *self.exit() {
            return Ok(Some(exit));
        }
        let exit = match &self.record {
            None => self.reap()?,
            Some(record) if record.exit().is_some() || self.ended(Deadline::Now)? => {
                self.reported(record, Deadline::after(REPORT))?
            }
            Some(_) => None,
        };
        if exit.is_some() {
            liveness::has_ended(self.pid);
        }
        Ok(exit)
    }

    /// Wait until it ends; `None` if the deadline passed.
    pub fn wait(&self, deadline: Deadline) -> Result<Option<Exit>, WaitError> {
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(Some(exit));
            }
            if deadline.is_over() {
                return Ok(None);
            }
            self.ended(deadline)?;
        }
    }

    /// Send it a signal. Does nothing if it has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let Watch::Pidfd(fd) = &self.watch else {
            return Ok(());
        };
        match pidfd_send_signal(fd.as_fd(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(Error::os("pidfd_send_signal", e)),
        }
    }

    fn exit(&self) -> ForkMutexGuard<'_, Option<Exit>> {
        self.exit.lock()
    }

    /// Whether the kernel says that it ended; waits for that until the deadline.
    fn ended(&self, deadline: Deadline) -> Result<bool, WaitError> {
        until_end(self.sentinel(), self.pid as u32, deadline)
    }

    /// Collect the status of this process's own child. Holds the lock, so that no second thread finds the child gone
    /// and its status not yet noted.
    fn reap(&self) -> Result<Option<Exit>, WaitError> {
        let mut known = self.exit();
        if known.is_none() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let Watch::Pidfd(pidfd) = &self.watch else {
                *known = Some(self.noted_exit());
                return Ok(*known);
            };
            *known = match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
                Ok(status) => status.as_ref().map(Exit::from_status),
                // Another part of the program reaped it; or the kernel did, because SIGCHLD is ignored; or this process
                // was forked since and the child is its sibling, which may still run.
                Err(Errno::CHILD) if self.ended(Deadline::Now)? => {
                    let status = pidfd::exit_status(pidfd.as_fd());
                    Some(status.map_or_else(|| self.noted_exit(), Exit::from_raw))
                }
                Err(Errno::CHILD | Errno::INTR) => None,
                Err(e) => return Err(Error::os("waitid", e).into()),
            };
        }
        Ok(*known)
    }

    /// The exit code that the child itself noted before it exited: the only source where the kernel keeps no status.
    fn noted_exit(&self) -> Exit {
        liveness::noted_exit(self.pid as u32, self.start).map_or(Exit::Unknown, Exit::Code)
    }

    /// The status of an ended child, from the fork server that made it; `Unknown` if the fork server died before it
    /// reported.
    fn reported(&self, record: &ChildRecord, deadline: Deadline) -> Result<Option<Exit>, WaitError> {
        let reported = record.wait_exit(deadline)?;
        if reported.is_some() {
            *self.exit() = reported;
        }
        Ok(reported)
    }
}

impl Watch {
    fn open(pid: i32) -> Result<Self> {
        let Some(process) = process(pid) else {
            return Err(Error::os("pidfd_open", Errno::INVAL));
        };
        match pidfd_open(process, PidfdFlags::empty()) {
            Ok(fd) => Ok(Self::Pidfd(fd)),
            Err(Errno::SRCH) => Self::ended(),
            Err(e) => Err(Error::os("pidfd_open", e)),
        }
    }

    fn ended() -> Result<Self> {
        Self::ended_fd().map(Self::Ended)
    }

    fn ended_fd() -> Result<OwnedFd> {
        eventfd(1, EventfdFlags::CLOEXEC).map_err(|e| Error::os("eventfd", e))
    }
}

/// A process id as rustix takes it.
pub(super) fn process(pid: i32) -> Option<Pid> {
    (pid > 0).then(|| Pid::from_raw(pid)).flatten()
}
