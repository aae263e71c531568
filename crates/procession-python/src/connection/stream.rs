//! Objects over a connection whose two ends take turns, as those of a manager's link do.
//!
//! Such a receiver waits for a peer that is at work on its message. So it spins before it sleeps. No more than the message
//! is ever read: whatever else may read from the descriptor finds the next one whole.

use super::frames::{self, Fd};
use super::{bad_length, kept, untouched, Connection};
use crate::descriptor::{cut_short, os_error, room, transfer_by, try_read, until_ready, Part, LONG};
use crate::payload;
use procession_core::sync::descriptor::{Direction, Spinner};
use pyo3::exceptions::{PyEOFError, PyMemoryError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Memory is allocated as bytes arrive, so many at a time, not for the length that was announced.
const STEP: usize = 1 << 26;

/// Sends and receives objects over a connection, one thread at a time.
#[pyclass(frozen, module = "procession._procession")]
pub struct ObjectStream {
    conn: Py<Connection>,
    spinner: Spinner,
    /// Something was sent, at least in part, and nothing whole was received since.
    is_due: AtomicBool,
}

#[pymethods]
impl ObjectStream {
    #[new]
    fn new(conn: Py<Connection>) -> Self {
        Self {
            conn,
            spinner: Spinner::default(),
            is_due: AtomicBool::new(false),
        }
    }

    /// Whether a message was sent, at least in part, and none was received to its end since.
    #[getter]
    fn is_due(&self) -> bool {
        self.is_due.load(Relaxed)
    }

    /// Send an object, which must be picklable.
    fn send(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = obj.py();
        let conn = self.conn.bind(py);
        if !Self::is_direct(conn)? {
            let sent = conn.call_method1("send", (obj,));
            let begun = sent.as_ref().map_or_else(|error| is_of_connection(py, error), |_| true);
            self.is_due.fetch_or(begun, Relaxed);
            return sent.map(drop);
        }
        let fd = || conn.get().writable_fd();
        fd()?;
        let pickled = payload::dumps_whole_in_pieces(obj)?;
        self.is_due.store(true, Relaxed);
        pickled.with_parts(|out| {
            let pieces = || std::iter::once(&out.body).chain(out.more);
            let (head, len) = frames::header(pieces().map(|piece| piece.len()).sum());
            let head = &head[..len];
            let mut parts: Vec<Part> = std::iter::once(&head)
                .chain(pieces())
                .map(|piece| Part::of(piece.as_ptr().cast_mut(), piece.len()))
                .collect();
            frames::write_parts(py, &fd, &mut parts).1
        })?
    }

    /// Receive one object. Raises `EOFError` when the other end is closed and nothing is left.
    ///
    /// After an error in the middle of a message the connection is no longer readable.
    fn recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let conn = self.conn.bind(py);
        if !Self::is_direct(conn)? {
            let received = conn.call_method0("recv");
            let ended = received
                .as_ref()
                .map_or_else(|error| !is_of_connection(py, error), |_| true);
            self.is_due.fetch_and(!ended, Relaxed);
            return received;
        }
        let fd = || conn.get().readable_fd();
        let mut head = [0; 4];
        // Before the first byte an interrupt does no harm.
        let got = self.read(py, &fd, Part::over(&mut head))?;
        if got == 0 {
            return Err(PyEOFError::new_err(()));
        }
        let message = self.message(conn, &fd, head, got).inspect_err(|_| {
            // The place in the stream is lost.
            conn.get().readable.store(false, Relaxed);
        })?;
        self.is_due.store(false, Relaxed);
        match message {
            Message::Short(bytes) => payload::load_pickle(&bytes),
            Message::Long(bytes) => kept::load_pickle(py, bytes),
        }
    }

    /// Close the connection.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.conn.call_method0(py, "close").map(drop)
    }
}

/// A message's bytes.
enum Message<'py> {
    Short(Bound<'py, PyBytes>),
    Long(Vec<u8>),
}

impl ObjectStream {
    /// Whether the methods here may do what those of the connection do. A program may replace them at any time. The end
    /// of a pipe also has messages that are not in the descriptor.
    fn is_direct(conn: &Bound<'_, Connection>) -> PyResult<bool> {
        let is_pipe = conn.get().outgoing().is_some() || conn.get().incoming().is_some();
        Ok(!is_pipe && Connection::is_direct(conn)? && untouched::is_pickler_untouched(conn.py())?)
    }

    /// The message of which the first `got` bytes of the header were read.
    fn message<'py>(
        &self,
        conn: &Bound<'py, Connection>,
        fd: Fd<'_>,
        mut head: [u8; 4],
        got: usize,
    ) -> PyResult<Message<'py>> {
        let py = conn.py();
        self.fill(py, fd, Part::over(&mut head[got..]))?;
        let size = match i32::from_be_bytes(head) {
            -1 => {
                let mut long = [0; 8];
                self.fill(py, fd, Part::over(&mut long))?;
                u64::from_be_bytes(long)
            }
            short => u64::try_from(short).map_err(|_| bad_length(conn))?,
        };
        let size = usize::try_from(size).ok().filter(|&size| isize::try_from(size).is_ok());
        let size = size.ok_or_else(|| bad_length(conn))?;
        if size > kept::SHORT {
            return self.long(py, fd, size).map(Message::Long);
        }
        let (bytes, start) = room(py, size as isize)?;
        self.fill(py, fd, Part::of(start, size))?;
        Ok(Message::Short(bytes))
    }

    /// Read `size` bytes.
    fn long(&self, py: Python<'_>, fd: Fd<'_>, size: usize) -> PyResult<Vec<u8>> {
        let mut bytes = kept::memory();
        while bytes.len() < size {
            let missing = size - bytes.len();
            if bytes.capacity() == bytes.len() {
                let more = bytes.try_reserve_exact(missing.min(STEP));
                more.map_err(|_| PyMemoryError::new_err(format!("no memory for a message of {size} bytes")))?;
            }
            let room = bytes.spare_capacity_mut();
            let part = Part::of(room.as_mut_ptr().cast(), room.len().min(missing));
            let got = self.read(py, fd, part)?;
            if got == 0 {
                return Err(cut_short());
            }
            // SAFETY: the kernel has filled so many bytes behind the vector's length.
            unsafe { bytes.set_len(bytes.len() + got) };
        }
        Ok(bytes)
    }

    /// Fill the part, within a message: any end of file is an error.
    fn fill(&self, py: Python<'_>, fd: Fd<'_>, mut part: Part) -> PyResult<()> {
        while part.len() > 0 {
            match self.read(py, fd, part)? {
                0 => return Err(cut_short()),
                got => part.skip(got),
            }
        }
        Ok(())
    }

    /// Read some bytes, as soon as there are any; none at the end of file.
    fn read(&self, py: Python<'_>, fd: Fd<'_>, part: Part) -> PyResult<usize> {
        let conn = self.conn.get();
        let number = fd()?;
        let attempt = || {
            // Another thread may close the descriptor, whose number may then become another file's.
            if conn.descriptor.load(Relaxed) != number {
                return Some(Err(libc::EBADF));
            }
            Some(try_read(number, part)).filter(|read| !matches!(read, Err(libc::EAGAIN)))
        };
        let tried = if part.len() < LONG {
            attempt().or_else(|| py.detach(|| self.spinner.run(attempt)))
        } else {
            py.detach(|| attempt().or_else(|| self.spinner.run(attempt)))
        };
        match tried {
            Some(Ok(got)) => return Ok(got),
            None => until_ready(py, fd()?, Direction::Reading)?,
            // The ordinary path knows what to do.
            Some(Err(libc::EBADF | libc::EINTR | libc::EOPNOTSUPP | libc::ENOSYS)) => {}
            // The kernel reports an error of a socket once.
            Some(Err(code)) => return Err(os_error(py, code)),
        }
        transfer_by(py, fd, Direction::Reading, &[part])
    }
}

/// Whether an error may be the connection's, and not of the object.
fn is_of_connection(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyOSError>(py) || error.is_instance_of::<PyEOFError>(py)
}
