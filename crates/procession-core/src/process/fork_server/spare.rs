//! A child forked ahead of its request, so that the next client does not wait for a fork. It leaves when no request
//! comes for a while.

use super::server::{Request, Server, Spare};
use super::wire::{Datagram, SIZE};
use crate::arena::Ref;
use crate::sync::descriptor::timespec;
use crate::sys::scm;
use crate::{liveness, Error, Result};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The channel to a spare child: make it before the fork, then [`SpareSlot::taken`] in the fork server,
/// [`SpareSlot::wait`] in the child.
#[derive(Debug)]
pub struct SpareSlot {
    fork_server: OwnedFd,
    child: OwnedFd,
}

impl Server {
    /// Make a slot for a spare child; `None` while there is one.
    pub fn spare_slot(&self) -> Result<Option<SpareSlot>> {
        if self.spare.is_some() {
            return Ok(None);
        }
        let (fork_server, child) = scm::pair()?;
        Ok(Some(SpareSlot { fork_server, child }))
    }
}

impl SpareSlot {
    /// In the fork server: record that the spare child exists. It leaves if no request comes for as long as `waits`:
    /// an idle program has the processes that it started, and no other.
    pub fn taken(self, server: &mut Server, pid: i32, waits: Duration) {
        let (socket, waits) = (self.fork_server, timespec(waits));
        server.spare = Some(Spare { socket, pid, waits });
    }

    /// In the child: wait for a request. `None`: no request came, or the fork server or the client is gone; leave.
    pub fn wait(self) -> Result<Option<Request>> {
        let Self { fork_server, child } = self;
        liveness::set_serving(true);
        drop(fork_server); // otherwise there is no end of file when the fork server dies
        let mut bytes = [0; SIZE];
        let (length, mut fds) = loop {
            match scm::receive(child.as_fd(), &mut bytes) {
                Err(Errno::INTR) => {}
                Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(None),
                Ok(got) => break got,
                Err(e) => return Err(Error::os("recvmsg", e)),
            }
        };
        liveness::set_serving(false);
        let (Some(datagram), Some(channel)) = (Datagram::decode(&bytes[..length]), fds.pop()) else {
            return Ok(None);
        };
        match Ref::attach(datagram.record) {
            Ok(record) => Ok(Some(Request::new(datagram, fds, record, channel))),
            Err(Error::Stale(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Request {
    /// In the fork server: give the request to the spare child. `Err`: there is none, or it died; fork instead.
    pub fn hand_over(self, server: &mut Server) -> Result<(), Self> {
        let Some(spare) = server.spare.take() else {
            return Err(self);
        };
        let fds: Vec<_> = self.fds.iter().chain([self.channel()]).map(AsFd::as_fd).collect();
        // DEATH: a spare child that died before has closed its end; one that dies later is reported like any child.
        if scm::send(spare.socket.as_fd(), &self.datagram().encode(), &fds).is_err() {
            return Err(self);
        }
        self.forked(server, spare.pid);
        Ok(())
    }
}
