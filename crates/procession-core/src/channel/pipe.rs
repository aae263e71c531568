//! A pipe between two processes: frames over a socket pair, in the format of `multiprocessing.connection`.
//! Leaves to the faces what a frame means.
//!
//! A frame is its length, then that many bytes. The length is 4 bytes in network order, or -1 in 4 bytes and the length
//! in 8.

use crate::{Deadline, Error, Result};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Frames up to this length are written together with their header, in one write.
const TOGETHER: usize = 16 * 1024;

/// One end of a two-way pipe of frames. Ends are closed when dropped.
#[derive(Debug)]
pub struct Pipe {
    stream: UnixStream,
}

impl Pipe {
    /// Create two connected ends.
    pub fn pair() -> Result<(Self, Self)> {
        let (a, b) = UnixStream::pair().map_err(|error| Error::os("socketpair", error))?;
        Ok((Self { stream: a }, Self { stream: b }))
    }

    /// Make an end from a descriptor that was passed on.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { stream: fd.into() }
    }

    /// Send one frame. Fails with kind `BrokenPipe` if no process holds the other end any more.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let mut message = Vec::with_capacity(12 + frame.len().min(TOGETHER));
        if let Ok(len) = i32::try_from(frame.len()) {
            message.extend(len.to_be_bytes());
        } else {
            message.extend((-1i32).to_be_bytes());
            message.extend((frame.len() as u64).to_be_bytes());
        }
        let written = if frame.len() <= TOGETHER {
            message.extend(frame);
            (&self.stream).write_all(&message)
        } else {
            (&self.stream)
                .write_all(&message)
                .and_then(|()| (&self.stream).write_all(frame))
        };
        written.map_err(|error| Error::os("write to a pipe", error))
    }

    /// Receive one frame; `None` at end of file. It is an error if the peer ends in the middle of a frame.
    pub fn recv(&self) -> Result<Option<Vec<u8>>> {
        let mut short = [0; 4];
        if !self.fill(&mut short)? {
            return Ok(None);
        }
        let len = match i32::from_be_bytes(short) {
            -1 => {
                let mut long = [0; 8];
                if !self.fill(&mut long)? {
                    return Err(Error::Corrupt("a pipe ended in the middle of a frame"));
                }
                u64::from_be_bytes(long)
            }
            len => u64::try_from(len).map_err(|_| Error::Corrupt("a frame of negative length"))?,
        };
        // The length is only the peer's claim, so memory grows with the bytes that arrive.
        let mut frame = Vec::new();
        let got = (&self.stream)
            .take(len)
            .read_to_end(&mut frame)
            .map_err(|error| Error::os("read from a pipe", error))?;
        if (got as u64) < len {
            return Err(Error::Corrupt("a pipe ended in the middle of a frame"));
        }
        Ok(Some(frame))
    }

    /// End the pipe for every process that has a copy of this end. The other end reads the end of file.
    pub fn shutdown(&self) -> Result<()> {
        match self.stream.shutdown(Shutdown::Both) {
            // The other end ended it first.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            ended => ended.map_err(|error| Error::os("shutdown", error)),
        }
    }

    /// Whether `recv` would find something (a frame or the end of file) by the deadline.
    pub fn poll(&self, deadline: Deadline) -> Result<bool> {
        loop {
            let left = deadline
                .remaining()
                .map(|left| Timespec::try_from(left).map_err(|_| Error::Corrupt("a timeout beyond the clock's range")))
                .transpose()?;
            match poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], left.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::os("poll", error)),
            }
        }
    }

    /// Fill `bytes`; `false` at end of file before the first byte.
    fn fill(&self, bytes: &mut [u8]) -> Result<bool> {
        let mut got = 0;
        while got < bytes.len() {
            match (&self.stream).read(&mut bytes[got..]) {
                Ok(0) if got == 0 => return Ok(false),
                Ok(0) => return Err(Error::Corrupt("a pipe ended in the middle of a frame")),
                Ok(more) => got += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The peer was killed with data unread.
                Err(error) if error.kind() == ErrorKind::ConnectionReset && got == 0 => return Ok(false),
                Err(error) => return Err(Error::os("read from a pipe", error)),
            }
        }
        Ok(true)
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl From<Pipe> for OwnedFd {
    fn from(pipe: Pipe) -> Self {
        pipe.stream.into()
    }
}
