//! Reads and writes of connections during which no signal is missed.
//!
//! `os.read` checks for signals first and then sleeps: a signal that arrives between the two is not handled until
//! something else ends the sleep. So these functions tell the kernel not to sleep (`RWF_NOWAIT`). What cannot be done
//! at once is waited for by the engine, like everything else.

use crate::common::wait;
use procession_core::sync::descriptor::{until, Direction};
use procession_core::Deadline;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyEOFError, PyOSError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};
use std::io::Error;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// From this many bytes on, the interpreter's lock is released for the copy.
pub const LONG: usize = 1 << 12;

/// The number of bytes that a pipe accepts at once if it accepts any.
const PIPE_BUF: usize = 4096;

/// Set if the kernel cannot be told not to sleep on pipes and sockets, which is so before Linux 6.5. Reads and writes
/// then wait for the descriptor first.
static SLEEPS: AtomicBool = AtomicBool::new(false);

/// Part of a buffer.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Part(libc::iovec);

// SAFETY: the code that makes a part holds its buffer until the call is over, and passes it to one thread at a time.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

impl Part {
    pub const EMPTY: Self = Self(libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    });

    /// Bytes to read into.
    pub fn over(bytes: &mut [u8]) -> Self {
        Self::of(bytes.as_mut_ptr(), bytes.len())
    }

    pub fn len(&self) -> usize {
        self.0.iov_len
    }

    pub fn of(start: *mut u8, length: usize) -> Self {
        Self(libc::iovec {
            iov_base: start.cast(),
            iov_len: length,
        })
    }

    pub fn skip(&mut self, count: usize) {
        self.0.iov_base = self.0.iov_base.wrapping_byte_add(count);
        self.0.iov_len -= count;
    }
}

/// A new bytes object, to be filled before any other code sees it, and the address of its bytes.
pub fn room(py: Python<'_>, size: isize) -> PyResult<(Bound<'_, PyBytes>, *mut u8)> {
    // SAFETY: makes a bytes object, to which this function holds the only reference.
    unsafe {
        let raw = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
        let bytes = Bound::from_owned_ptr_or_err(py, raw)?.cast_into_unchecked();
        Ok((bytes, ffi::PyBytes_AsString(raw).cast()))
    }
}

/// Read one message of at most `most` bytes: its length as four bytes in network order, then that many bytes.
///
/// If the length is larger than `most`, or negative, return the length instead.
#[pyfunction]
pub fn read_message(py: Python<'_>, fd: RawFd, most: i32) -> PyResult<Bound<'_, PyAny>> {
    let mut header = [0; 4];
    match fill(py, fd, Part::of(header.as_mut_ptr(), header.len()))? {
        0 => return Err(PyEOFError::new_err(())),
        4 => {}
        _ => return Err(cut_short()),
    }
    let length = i32::from_be_bytes(header);
    if !(0..=most).contains(&length) {
        return Ok(PyInt::new(py, length).into_any());
    }
    let (bytes, start) = room(py, length as isize)?;
    if fill(py, fd, Part::of(start, length as usize))? < length as usize {
        return Err(cut_short());
    }
    Ok(bytes.into_any())
}

pub fn cut_short() -> PyErr {
    PyOSError::new_err("got end of file during message")
}

/// Read until the part is full or the end of file. Returns the number of bytes read.
pub fn fill(py: Python<'_>, fd: RawFd, part: Part) -> PyResult<usize> {
    fill_from(py, || Ok(fd), part)
}

/// As [`fill`], but asks for the descriptor before every read.
pub fn fill_from(py: Python<'_>, fd: impl Fn() -> PyResult<RawFd>, mut part: Part) -> PyResult<usize> {
    let mut filled = 0;
    while part.0.iov_len > 0 {
        let got = transfer_by(py, &fd, Direction::Reading, &[part])?;
        if got == 0 {
            break;
        }
        filled += got;
        part.skip(got);
    }
    Ok(filled)
}

/// Read up to `size` bytes as soon as there is at least one. Return no bytes at the end of file.
#[pyfunction]
pub fn read_descriptor(py: Python<'_>, fd: RawFd, size: isize) -> PyResult<Bound<'_, PyBytes>> {
    let (bytes, start) = room(py, size)?;
    let got = transfer(py, fd, Direction::Reading, &[Part::of(start, size as usize)])?;
    if got == size as usize {
        return Ok(bytes);
    }
    Ok(PyBytes::new(py, &bytes.as_bytes()[..got]))
}

/// Write all of one buffer, or of two.
#[pyfunction]
#[pyo3(signature = (fd, first, second=None))]
pub fn write_descriptor(fd: RawFd, first: &Bound<'_, PyAny>, second: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let py = first.py();
    let (first, second) = (Source::of(first)?, second.map(Source::of).transpose()?);
    let mut parts = [first.part(), second.as_ref().map_or(Part::EMPTY, Source::part)];
    while parts.iter().any(|part| part.0.iov_len > 0) {
        let mut written = transfer(py, fd, Direction::Writing, &parts)?;
        for part in &mut parts {
            let of_this = written.min(part.0.iov_len);
            part.skip(of_this);
            written -= of_this;
        }
    }
    Ok(())
}

/// The data to write, kept alive.
pub enum Source<'a, 'py> {
    Bytes(&'a Bound<'py, PyBytes>),
    Buffer(PyUntypedBuffer),
}

impl<'a, 'py> Source<'a, 'py> {
    pub fn of(object: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            return Ok(Self::Bytes(bytes));
        }
        let buffer = PyUntypedBuffer::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("underlying buffer is not C-contiguous"));
        }
        Ok(Self::Buffer(buffer))
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(),
            Self::Buffer(buffer) if buffer.len_bytes() == 0 => &[],
            // SAFETY: the buffer is contiguous, as `of` checked, and held by `self`. Another thread may change the bytes
            // while they are copied, as it may during any copy of a buffer that Python makes.
            Self::Buffer(buffer) => unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes()) },
        }
    }

    fn part(&self) -> Part {
        match self {
            Self::Bytes(bytes) => Part::of(bytes.as_bytes().as_ptr().cast_mut(), bytes.as_bytes().len()),
            Self::Buffer(buffer) => Part::of(buffer.buf_ptr().cast(), buffer.len_bytes()),
        }
    }
}

/// Make one read or write as soon as it is possible. Returns the number of bytes moved.
fn transfer(py: Python<'_>, fd: RawFd, direction: Direction, parts: &[Part]) -> PyResult<usize> {
    transfer_by(py, || Ok(fd), direction, parts)
}

/// As [`transfer`], but asks for the descriptor after every wait: a signal handler, or another thread, may close it
/// meanwhile, and its number may become another file's.
pub fn transfer_by(
    py: Python<'_>,
    fd: impl Fn() -> PyResult<RawFd>,
    direction: Direction,
    parts: &[Part],
) -> PyResult<usize> {
    let long = parts.iter().map(|part| part.0.iov_len).sum::<usize>() >= LONG;
    loop {
        let fd = fd()?;
        let moved = if SLEEPS.load(Relaxed) {
            when_ready(py, fd, direction, parts)?
        } else if long {
            py.detach(|| call(fd, direction, parts, libc::RWF_NOWAIT))
        } else {
            call(fd, direction, parts, libc::RWF_NOWAIT)
        };
        match moved {
            Ok(moved) => return Ok(moved),
            Err(libc::EINTR) => py.check_signals()?,
            Err(libc::EAGAIN) if !is_nonblocking(fd) => until_ready(py, fd, direction)?,
            Err(libc::EOPNOTSUPP | libc::ENOSYS) if !SLEEPS.swap(true, Relaxed) => {}
            Err(code) => return Err(os_error(py, code)),
        }
    }
}

/// The `OSError` of an errno.
pub fn os_error(py: Python<'_>, code: i32) -> PyErr {
    let text = py
        .import("os")
        .and_then(|os| os.call_method1("strerror", (code,)))
        .map(Bound::unbind);
    text.map_or_else(|error| error, |text| PyOSError::new_err((code, text)))
}

/// Make the system call. `Err` is its errno.
fn call(fd: RawFd, direction: Direction, parts: &[Part], flags: i32) -> Result<usize, i32> {
    let (list, count) = (parts.as_ptr().cast::<libc::iovec>(), parts.len() as i32);
    // SAFETY: the parts lie in buffers that the caller holds; those to be read into are the caller's alone. Another
    // thread may change the bytes while they are written from here, as it may during any copy of a buffer that Python
    // makes.
    let moved = unsafe {
        match direction {
            Direction::Reading => libc::preadv2(fd, list, count, -1, flags),
            Direction::Writing => libc::pwritev2(fd, list, count, -1, flags),
        }
    };
    usize::try_from(moved).map_err(|_| Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Like [`call`], for a kernel that cannot be told not to sleep: wait until the descriptor is ready, then move no more
/// than it accepts at once.
#[cold]
fn when_ready(py: Python<'_>, fd: RawFd, direction: Direction, parts: &[Part]) -> PyResult<Result<usize, i32>> {
    if direction == Direction::Writing {
        match send(fd, parts) {
            Err(libc::ENOTSOCK) => {}
            sent => return Ok(sent),
        }
    }
    until_ready(py, fd, direction)?;
    let Some(first) = parts.iter().find(|part| part.0.iov_len > 0) else {
        return Ok(Ok(0));
    };
    let mut part = *first;
    if direction == Direction::Writing {
        part.0.iov_len = part.0.iov_len.min(PIPE_BUF);
    }
    Ok(py.detach(|| call(fd, direction, &[part], 0)))
}

/// Send what a socket accepts at once.
fn send(fd: RawFd, parts: &[Part]) -> Result<usize, i32> {
    // SAFETY: zeros are a message without an address. Its parts are as in `call`, and are only read.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = parts.as_ptr().cast::<libc::iovec>().cast_mut();
        message.msg_iovlen = parts.len() as _;
        libc::sendmsg(fd, &raw const message, libc::MSG_DONTWAIT)
    };
    usize::try_from(sent).map_err(|_| Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Wait until the descriptor is ready, or has an error or hang-up.
pub fn until_ready(py: Python<'_>, fd: RawFd, direction: Direction) -> PyResult<()> {
    if fd < 0 {
        return Ok(()); // the read or write that follows reports the error
    }
    let fd = borrow(fd);
    wait(py, || until(fd, direction, Deadline::Never)).map(drop)
}

/// A descriptor's number, not negative, as a descriptor.
pub fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    debug_assert!(fd >= 0);
    // SAFETY: not -1. The Python caller must keep it open, as with every descriptor number; calls on one that is not
    // open fail.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// More bytes than a socket or pipe ever holds without a reader, written from this end; `usize::MAX` for other files.
pub fn capacity(fd: RawFd) -> usize {
    let mut size: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: fails if the number is not a socket; writes an int, for which there is room.
    let is_socket = unsafe {
        let (size, len) = ((&raw mut size).cast(), &raw mut len);
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, size, len) == 0
    };
    if is_socket {
        // The kernel accepts pieces of half of this, as long as those before are smaller than all of it.
        return usize::try_from(size).map_or(usize::MAX, |size| size + size / 2);
    }
    // SAFETY: fails if the number is not a pipe.
    let size = unsafe { libc::fcntl(fd, libc::F_GETPIPE_SZ) };
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Read what is there, without waiting. `Err` is the errno.
pub fn try_read(fd: RawFd, part: Part) -> Result<usize, i32> {
    call(fd, Direction::Reading, &[part], libc::RWF_NOWAIT)
}

/// Close a descriptor.
pub fn close(fd: RawFd) -> PyResult<()> {
    // SAFETY: the Python caller passes ownership; fails if the number is not a descriptor.
    if unsafe { libc::close(fd) } == 0 {
        return Ok(());
    }
    match Error::last_os_error() {
        // The kernel has closed it all the same.
        error if error.raw_os_error() == Some(libc::EINTR) => Ok(()),
        error => Err(error.into()),
    }
}

/// Whether the descriptor's owner wants an error instead of a wait.
fn is_nonblocking(fd: RawFd) -> bool {
    // SAFETY: fails if the number is not a descriptor.
    unsafe { libc::fcntl(fd, libc::F_GETFL) & libc::O_NONBLOCK != 0 }
}
