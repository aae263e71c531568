//! The fork server's loop: requests in, ends of children out.

use super::channel::attach;
use super::wire::{Datagram, SIZE};
use crate::arena::{self, Ref};
use crate::process::record::ChildRecord;
use crate::process::Exit;
use crate::sync::descriptor::timespec;
use crate::sys::scm;
use crate::sys::signal::{ended_child, is_child, reap, ChildSignals};
use crate::{family, liveness, Error, Result, WaitError};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How often the fork server looks for ended children without a signal: another thread, which a preloaded module may
/// have started, can swallow SIGCHLD.
const SWEEP: Duration = Duration::from_secs(1);

/// The server side. Its process must have one thread.
#[derive(Debug)]
pub struct Server {
    socket: OwnedFd,
    signals: ChildSignals,
    children: HashMap<i32, Ref<ChildRecord>>,
    pub(super) spare: Option<Spare>,
}

/// The waiting spare child, as the fork server sees it.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) socket: OwnedFd,
    pub(super) pid: i32,
    /// How long it waits for a request.
    pub(super) waits: Timespec,
}

/// What the fork server is to do next.
#[derive(Debug)]
pub enum ServerCommand {
    /// Fork, then [`Request::in_child`] and [`Request::forked`] or [`Request::failed`].
    Fork(Request),
    /// Leave: no process is left that could send a request.
    Quit,
}

/// A request to fork.
#[derive(Debug)]
pub struct Request {
    /// The mailbox with the child's instructions.
    pub token: u64,
    /// The process that sent the request.
    pub parent: i32,
    /// The descriptors for the child.
    pub fds: Vec<OwnedFd>,
    record: Ref<ChildRecord>,
    channel: OwnedFd,
}

impl Server {
    /// Serve the requests that come in through `socket`.
    pub fn new(socket: OwnedFd) -> Result<Self> {
        family()?.me();
        liveness::set_serving(true);
        // The children inherit the shared objects that a preloaded module made, and these must outlive the fork server.
        if arena::has_no_references() {
            liveness::forks_inherit_nothing();
        }
        Ok(Self {
            socket,
            signals: ChildSignals::listen()?,
            children: HashMap::new(),
            spare: None,
        })
    }

    /// Wait for the next request, and reap ended children meanwhile. `Interrupted` if a signal handler ran.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<ServerCommand, WaitError> {
        let sweep = timespec(SWEEP);
        loop {
            let signals = self.signals.fd();
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(&signals, PollFlags::IN),
            ];
            let timeout = match &self.spare {
                Some(spare) => Some(&spare.waits),
                None => (!self.children.is_empty()).then_some(&sweep),
            };
            match poll(&mut fds, timeout) {
                Ok(_) => {}
                Err(Errno::INTR) => return Err(WaitError::Interrupted),
                Err(e) => return Err(Error::os("poll", e).into()),
            }
            let requested = !fds[0].revents().is_empty();
            let signalled = !fds[1].revents().is_empty();
            if signalled || !requested {
                self.signals.drain();
                self.reap();
            }
            if !signalled && !requested {
                self.report_missing();
                self.spare = None; // its end of file lets it leave
            }
            if requested {
                if let Some(event) = self.receive()? {
                    return Ok(event);
                }
            }
        }
    }

    /// Receive one datagram; `None` if it is no valid request.
    fn receive(&self) -> Result<Option<ServerCommand>, WaitError> {
        let mut bytes = [0; SIZE];
        let (length, mut fds) = match scm::receive(self.socket.as_fd(), &mut bytes) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(Some(ServerCommand::Quit)),
            Ok(got) => got,
            Err(Errno::MSGSIZE) => return Self::refuse(&bytes).map(|()| None),
            Err(Errno::INTR) => return Err(WaitError::Interrupted),
            Err(e) => return Err(Error::os("recvmsg", e).into()),
        };
        let (Some(datagram), Some(channel)) = (Datagram::decode(&bytes[..length]), fds.pop()) else {
            return Ok(None);
        };
        // The record of a client that is gone is gone too. Any other error ends the fork server, which is how the
        // client learns of it.
        let record = match Ref::<ChildRecord>::attach(datagram.record) {
            Ok(record) => record,
            Err(Error::Stale(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !record.take(family()?.me()) {
            return Ok(None);
        }
        Ok(Some(ServerCommand::Fork(Request::new(datagram, fds, record, channel))))
    }

    /// Refuse a request for whose descriptors this process has no room.
    fn refuse(bytes: &[u8]) -> Result<(), WaitError> {
        let Some(datagram) = Datagram::decode(bytes) else {
            return Ok(());
        };
        match Ref::<ChildRecord>::attach(datagram.record) {
            Ok(record) if record.take(family()?.me()) => record.failed(Errno::MFILE.raw_os_error()),
            Ok(_) | Err(Error::Stale(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Report and reap all ended children.
    fn reap(&mut self) {
        while let Some((pid, status)) = ended_child() {
            // SYNC: reported before it is reaped, so that a client that finds no report knows that the pid is still
            // this child's.
            if let Some(record) = self.children.remove(&pid) {
                record.exited(status.map_or_else(Exit::Signal, Exit::Code));
            }
            reap(pid);
        }
    }

    /// Report the ended children that another part of this process reaped.
    fn report_missing(&mut self) {
        self.children.retain(|&pid, record| {
            let is_ours = is_child(pid);
            if !is_ours {
                record.exited(liveness::noted_exit(pid as u32, None).map_or(Exit::Unknown, Exit::Code));
            }
            is_ours
        });
    }
}

impl Request {
    pub(super) fn new(datagram: Datagram, fds: Vec<OwnedFd>, record: Ref<ChildRecord>, channel: OwnedFd) -> Self {
        Self {
            token: datagram.token,
            parent: datagram.parent,
            fds,
            record,
            channel,
        }
    }

    pub(super) fn datagram(&self) -> Datagram {
        Datagram {
            record: self.record.handle(),
            token: self.token,
            parent: self.parent,
        }
    }

    pub(super) fn channel(&self) -> &OwnedFd {
        &self.channel
    }

    /// In the fork server, after the fork: record the child.
    pub fn forked(self, server: &mut Server, pid: i32) {
        crate::liveness::confirm_reserved(pid as u32);
        self.record.running(pid);
        server.children.insert(pid, self.record);
    }

    /// In the fork server, if the fork failed: report that.
    pub fn failed(self, errno: i32) {
        self.record.failed(errno);
    }

    /// In the child, before anything else: restore the signal mask, close the fork server's descriptors, take over the
    /// client's channel. `None` if the client no longer waits: leave at once. Otherwise the descriptors for the child.
    pub fn in_child(self, server: Server) -> Result<Option<Vec<OwnedFd>>> {
        let fork_server = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        // The children's records are the fork server's: dropping this copy of them frees nothing.
        let Server {
            socket, signals, spare, ..
        } = server;
        drop((socket, spare));
        signals.restore();
        // A reference inherited from the fork server would not be counted, and this one must outlive the fork server.
        let record = match Ref::<ChildRecord>::attach(self.record.handle()) {
            Err(Error::Stale(_)) => return Ok(None),
            attached => attached?,
        };
        if !record.running(std::process::id() as i32) {
            return Ok(None);
        }
        attach(self.channel, fork_server)?;
        liveness::set_parent(self.parent as u32);
        Ok(Some(self.fds))
    }
}
