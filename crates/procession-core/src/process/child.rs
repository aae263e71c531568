//! A child process: its sentinel, its end, signals to it.

use super::record::ChildRecord;
use super::Exit;
use crate::arena::Ref;
use crate::roll;
use crate::sync::descriptor::{until, Direction};
use crate::sys::signal::pidfd_send_signal;
use crate::{Deadline, Error, Result, WaitError};
use rustix::event::{eventfd, EventfdFlags};
use rustix::io::Errno;
use rustix::process::{pidfd_open, waitid, Pid, PidfdFlags, WaitId, WaitIdOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long [`Child::try_wait`] gives a zygote to report an end that the kernel has already announced.
const REPORT: Duration = Duration::from_secs(1);

/// A child of this process, or one that a zygote made for it.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    watch: Watch,
    /// Of a zygote's child; its exit status arrives there.
    record: Option<Ref<ChildRecord>>,
    exit: Mutex<Option<Exit>>,
}

/// What becomes readable when the child ends.
#[derive(Debug)]
enum Watch {
    /// The kernel's own handle on the process.
    Pidfd(OwnedFd),
    /// It ended before we could open one: a descriptor that is always readable.
    Ended(OwnedFd),
}

impl Child {
    /// A child that this thread itself just forked.
    pub fn forked(pid: i32) -> Result<Self> {
        roll::confirm_reserved(pid as u32);
        Self::adopt(pid)
    }

    /// A child that this process itself just forked or spawned.
    pub fn adopt(pid: i32) -> Result<Self> {
        let watch = Watch::open(pid)?;
        let exit = matches!(watch, Watch::Ended(_)).then_some(Exit::Unknown);
        Ok(Self {
            pid,
            watch,
            record: None,
            exit: Mutex::new(exit),
        })
    }

    /// A child that a zygote forked for us.
    pub(super) fn of_zygote(pid: i32, record: Ref<ChildRecord>) -> Result<Self> {
        let mut watch = Watch::open(pid)?;
        // SYNC: a zygote reports an end before it reaps. Not reported yet means that the number still was this child's when we opened it.
        if record.exit().is_some() {
            watch = Watch::ended()?;
        }
        Ok(Self {
            pid,
            watch,
            record: Some(record),
            exit: Mutex::new(None),
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
            roll::has_ended(self.pid);
        }
        Ok(exit)
    }

    /// Wait until it ends; `None` when the deadline passed.
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

    /// Send it a signal; nothing happens if it has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let Watch::Pidfd(fd) = &self.watch else {
            return Ok(());
        };
        match pidfd_send_signal(fd.as_fd(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(Error::os("pidfd_send_signal", e)),
        }
    }

    fn exit(&self) -> MutexGuard<'_, Option<Exit>> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the kernel says that it ended, waiting for it until the deadline.
    fn ended(&self, deadline: Deadline) -> Result<bool, WaitError> {
        until(self.sentinel(), Direction::Reading, deadline)
    }

    /// Collect our own child's status. Under the lock, so that of two threads none finds the child gone and its status not yet noted.
    fn reap(&self) -> Result<Option<Exit>, WaitError> {
        let mut known = self.exit();
        if known.is_none() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            *known = match waitid(WaitId::PidFd(self.sentinel()), options) {
                Ok(status) => status.as_ref().map(Exit::from_status),
                // Somebody else reaped it, or SIGCHLD is ignored; or we were forked since and it is our sibling: then it may still run.
                Err(Errno::CHILD) if self.ended(Deadline::Now)? => Some(Exit::Unknown),
                Err(Errno::CHILD | Errno::INTR) => None,
                Err(e) => return Err(Error::os("waitid", e).into()),
            };
        }
        Ok(*known)
    }

    /// The status of a child that ended, from the zygote that made it; `Unknown` if that one died without saying.
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
        eventfd(1, EventfdFlags::CLOEXEC)
            .map(Self::Ended)
            .map_err(|e| Error::os("eventfd", e))
    }
}

/// A process id as rustix takes it.
pub(super) fn process(pid: i32) -> Option<Pid> {
    (pid > 0).then(|| Pid::from_raw(pid)).flatten()
}
