//! A pipe between two processes: frames over a socket pair.

use crate::{Deadline, Result};
use std::os::fd::OwnedFd;

/// One end of a two-way pipe of frames.
#[derive(Debug)]
pub struct Pipe {
    fd: OwnedFd,
}

impl Pipe {
    /// Two connected ends.
    pub fn pair() -> Result<(Self, Self)> {
        todo!()
    }

    /// An end from a descriptor that was passed on.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Send one frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let _ = (&self.fd, frame);
        todo!()
    }

    /// Receive one frame; `None` at end of file.
    pub fn recv(&self) -> Result<Option<Vec<u8>>> {
        todo!()
    }

    /// Whether `recv` would find something (a frame or the end of file) by the deadline.
    pub fn poll(&self, deadline: Deadline) -> Result<bool> {
        let _ = deadline;
        todo!()
    }
}
