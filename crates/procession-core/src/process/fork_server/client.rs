//! Requesting a child from a fork server.

use super::channel::{living, Channel};
use super::wire::Datagram;
use crate::arena::Ref;
use crate::process::child::ReservedFd;
use crate::process::record::{ChildRecord, Reply};
use crate::process::Child;
use crate::sys::scm;
use crate::{liveness, Deadline, Error, Result, WaitError};
use rustix::io::Errno;

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// A request in progress. Dropping it before the reply withdraws it.
#[derive(Debug)]
pub struct Pending {
    record: Ref<ChildRecord>,
    reserved_fd: Mutex<Option<ReservedFd>>,
    channel: Arc<Channel>,
}

/// Request a child that takes the mailbox `token` and gets duplicates of `fds`. `None`: no fork server lives, start
/// one.
pub fn request(token: u64, fds: &[BorrowedFd<'_>]) -> Result<Option<Pending>, WaitError> {
    if fds.len() >= scm::MAX_FDS {
        return Err(Error::os("sendmsg", Errno::TOOMANYREFS).into());
    }
    liveness::check_room()?;
    let Some(channel) = living() else {
        return Ok(None);
    };
    let Some(socket) = channel.socket() else {
        return Ok(None);
    };
    let record = Ref::<ChildRecord>::create()?;
    let datagram = Datagram {
        record: record.handle(),
        token,
        parent: std::process::id() as i32,
    };
    let fds: Vec<_> = fds.iter().copied().chain([socket]).collect();
    let reserved_fd = Mutex::new(Some(ReservedFd::new()?));
    match scm::send(socket, &datagram.encode(), &fds) {
        Ok(()) => Ok(Some(Pending {
            record,
            reserved_fd,
            channel,
        })),
        Err(Errno::PIPE | Errno::CONNRESET) => Ok(None),
        Err(Errno::INTR) => Err(WaitError::Interrupted),
        Err(e) => Err(Error::os("sendmsg", e).into()),
    }
}

impl Pending {
    /// Wait until the child exists. `None`: the fork server died before it made one; start another and repeat the
    /// request.
    pub fn wait(&self, deadline: Deadline) -> Result<Option<Child>, WaitError> {
        match self.record.wait_reply(deadline, || self.channel.lives())? {
            Reply::Child(pid) => {
                drop(self.reserved_fd.lock().unwrap_or_else(PoisonError::into_inner).take());
                Ok(Some(Child::of_fork_server(pid, self.record.clone())?))
            }
            Reply::Failed(errno) => Err(Error::os("fork", std::io::Error::from_raw_os_error(errno)).into()),
            Reply::Void => Ok(None),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.record.abandon();
    }
}
