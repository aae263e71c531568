//! Asking a fork_server for a child.

use super::channel::{living, Channel};
use super::wire::Ask;
use crate::arena::Ref;
use crate::process::child::SetAside;
use crate::process::record::{ChildRecord, Reply};
use crate::process::Child;
use crate::sys::scm;
use crate::{liveness, Deadline, Error, Result, WaitError};
use rustix::io::Errno;

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// A request under way. Dropping it before it is answered withdraws it.
#[derive(Debug)]
pub struct Pending {
    record: Ref<ChildRecord>,
    set_aside: Mutex<Option<SetAside>>,
    channel: Arc<Channel>,
}

/// Ask for a child that works on the mailbox `token` and gets duplicates of `fds`. `None`: no fork_server lives, start one.
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
    let ask = Ask {
        record: record.handle(),
        token,
        parent: std::process::id() as i32,
    };
    let fds: Vec<_> = fds.iter().copied().chain([socket]).collect();
    let set_aside = Mutex::new(Some(SetAside::new()?));
    match scm::send(socket, &ask.encode(), &fds) {
        Ok(()) => Ok(Some(Pending {
            record,
            set_aside,
            channel,
        })),
        Err(Errno::PIPE | Errno::CONNRESET) => Ok(None),
        Err(Errno::INTR) => Err(WaitError::Interrupted),
        Err(e) => Err(Error::os("sendmsg", e).into()),
    }
}

impl Pending {
    /// Wait until the child exists. `None`: the fork_server died before it made one; start another and ask again.
    pub fn wait(&self, deadline: Deadline) -> Result<Option<Child>, WaitError> {
        match self.record.wait_reply(deadline, || self.channel.lives())? {
            Reply::Child(pid) => {
                drop(self.set_aside.lock().unwrap_or_else(PoisonError::into_inner).take());
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
