//! Frames over a descriptor: a message's length, four bytes in network order, and its bytes. -1 announces a length of
//! eight bytes; numbers below that name a message in shared memory, and are the whole frame.

use super::kept;
use crate::common::{raise, wait};
use crate::descriptor::{borrow, cut_short, fill_from, os_error, room, transfer_by, try_read, Part};
use procession_core::channel::{Incoming, Lane};
use procession_core::sync::descriptor::{until, Direction};
use procession_core::Deadline;
use pyo3::exceptions::PyEOFError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::os::fd::RawFd;

/// Memory for longer messages is allocated as their bytes arrive, not for the length that the peer announces.
const AT_ONCE: u64 = 1 << 18;
/// The most parts that the kernel takes at once.
const AT_MOST: usize = 1024;
/// How often a receiver looks for a frame that its sender has announced and not written yet, before it sleeps.
const TRIES: u32 = 4;

/// What a receiver reads from the descriptor.
pub(super) enum Frame<'py> {
    Bytes(Bound<'py, PyBytes>),
    /// Bytes that the receiver only unpickles, in memory that is kept.
    Kept(Vec<u8>),
    /// So many bytes follow.
    Longer(u64),
    /// The header of a frame that names a message in shared memory.
    Named(i32),
    /// A message that is longer than allowed.
    Refused,
    /// Not from the descriptor: what was handed to a receiver that died.
    Left(Incoming),
}

/// The header of a frame of this length, and the header's own length.
pub(super) fn header(len: usize) -> ([u8; 12], usize) {
    let mut head = [0; 12];
    if let Ok(short) = i32::try_from(len) {
        head[..4].copy_from_slice(&short.to_be_bytes());
        return (head, 4);
    }
    head[..4].copy_from_slice(&(-1i32).to_be_bytes());
    head[4..].copy_from_slice(&(len as u64).to_be_bytes());
    (head, 12)
}

/// The descriptor, which is asked for right before each use: any code may run while something is waited for.
pub(super) type Fd<'a> = &'a dyn Fn() -> PyResult<RawFd>;

/// Write all of the pieces, two at most. Returns how many bytes were written, whatever the end.
pub(super) fn write_all(py: Python<'_>, fd: Fd<'_>, pieces: &[&[u8]]) -> (usize, PyResult<()>) {
    let mut parts = [Part::EMPTY; 2];
    for (part, piece) in parts.iter_mut().zip(pieces) {
        *part = Part::of(piece.as_ptr().cast_mut(), piece.len());
    }
    write_parts(py, fd, &mut parts)
}

/// Write all of the parts, which are bytes that the caller holds. Returns how many were written, whatever the end.
pub(super) fn write_parts(py: Python<'_>, fd: Fd<'_>, parts: &mut [Part]) -> (usize, PyResult<()>) {
    let (mut total, mut begun) = (0, 0);
    while let Some(first) = parts.get(begun) {
        if first.len() == 0 {
            begun += 1;
            continue;
        }
        let some = begun..parts.len().min(begun + AT_MOST);
        let mut written = match transfer_by(py, fd, Direction::Writing, &parts[some.clone()]) {
            Ok(written) => written,
            Err(error) => return (total, Err(error)),
        };
        total += written;
        for part in &mut parts[some] {
            let of_this = written.min(part.len());
            part.skip(of_this);
            written -= of_this;
        }
    }
    (total, Ok(()))
}

/// What becomes of the bytes of a frame.
#[derive(Clone, Copy)]
pub(super) enum Use {
    /// They are unpickled, and gone then.
    Pickle,
    /// The program gets them; no more than so many, if a number is given.
    Bytes(Option<u64>),
}

/// Read a frame, waiting for it.
pub(super) fn read<'py>(py: Python<'py>, fd: Fd<'_>, lane: Option<&Lane>, then: Use) -> PyResult<Frame<'py>> {
    let mut head = [0; 4];
    let got = match begin(py, fd, lane, &mut head)? {
        Begin::Left(incoming) => return Ok(Frame::Left(incoming)),
        Begin::Bytes(0) => return Err(PyEOFError::new_err(())),
        Begin::Bytes(got) => got,
    };
    read_all(py, fd, &mut head[got..])?;
    let size = match i32::from_be_bytes(head) {
        -1 => {
            let mut long = [0; 8];
            read_all(py, fd, &mut long)?;
            u64::from_be_bytes(long)
        }
        short => match u64::try_from(short) {
            Ok(size) => size,
            Err(_) => return Ok(Frame::Named(short)),
        },
    };
    if matches!(then, Use::Bytes(Some(most)) if size > most) {
        return Ok(Frame::Refused);
    }
    if size > AT_ONCE {
        return Ok(Frame::Longer(size));
    }
    if matches!(then, Use::Pickle) && size > kept::SHORT as u64 {
        let mut bytes = kept::memory();
        bytes.resize(size as usize, 0);
        read_all(py, fd, &mut bytes)?;
        return Ok(Frame::Kept(bytes));
    }
    let (bytes, start) = room(py, size as isize)?;
    if fill_from(py, fd, Part::of(start, size as usize))? < size as usize {
        return Err(cut_short());
    }
    Ok(Frame::Bytes(bytes))
}

enum Begin {
    /// So many bytes of the header; none at the end of file.
    Bytes(usize),
    Left(Incoming),
}

/// Wait for a frame, and read the first bytes of its header.
fn begin(py: Python<'_>, fd: Fd<'_>, lane: Option<&Lane>, head: &mut [u8; 4]) -> PyResult<Begin> {
    let Some(lane) = lane else {
        return Ok(Begin::Bytes(fill_from(py, fd, Part::over(head))?));
    };
    // Without a frame that was announced, only the end of file is there to be read: it is waited for at once.
    let mut tries = if lane.is_pending() { TRIES } else { 0 };
    loop {
        if let Some(incoming) = lane.take_left().map_err(raise)? {
            return Ok(Begin::Left(incoming));
        }
        if lane.is_plain() {
            // The program may have made the descriptor non-blocking.
            return Ok(Begin::Bytes(fill_from(py, fd, Part::over(head))?));
        }
        for _ in 0..tries {
            match try_read(fd()?, Part::over(head)) {
                Ok(got) => return Ok(Begin::Bytes(got)),
                Err(libc::EAGAIN) => {}
                // The kernel reports an error of a socket once.
                Err(code) if ![libc::EINTR, libc::EOPNOTSUPP, libc::ENOSYS].contains(&code) => {
                    return Err(os_error(py, code));
                }
                // The ordinary path knows what to do.
                Err(_) => return Ok(Begin::Bytes(fill_from(py, fd, Part::over(head))?)),
            }
        }
        let awaited = borrow(fd()?);
        wait(py, || {
            if lane.has_left() {
                return Ok(true);
            }
            until(awaited, Direction::Reading, Deadline::Never)
        })?;
        tries = 1;
    }
}

/// Read bytes within a message, where any end of file is an error.
fn read_all(py: Python<'_>, fd: Fd<'_>, bytes: &mut [u8]) -> PyResult<()> {
    if fill_from(py, fd, Part::over(bytes))? < bytes.len() {
        return Err(cut_short());
    }
    Ok(())
}

/// `size` bytes from `offset` on, by default all of them. The error is what is wrong with the arguments.
pub(super) fn part(bytes: &[u8], offset: isize, size: Option<isize>) -> Result<&[u8], &'static str> {
    let offset = usize::try_from(offset).map_err(|_| "offset is negative")?;
    let left = bytes.get(offset..).ok_or("buffer length < offset")?;
    match size.map(usize::try_from) {
        None => Ok(left),
        Some(Err(_)) => Err("size is negative"),
        Some(Ok(size)) => left.get(..size).ok_or("buffer length < offset + size"),
    }
}
