//! Whole lines for a buffered stream that several processes write to.
//!
//! When the next piece does not fit, a `BufferedWriter` writes out all that it was given in earlier calls. So if each
//! piece ends with a line, each write to the file does. None of this code is bytecode, between which signal handlers
//! run: a handler finds a piece either kept or passed on.

use crate::common::lock;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyTuple};
use std::sync::Mutex;

/// As much as this does not wait for its line end. It is Python's `io.DEFAULT_BUFFER_SIZE`, so that no more waits here
/// than in the buffer.
const LONGEST: usize = 8192;

/// Passes pieces that end with a line to a buffered writer.
#[pyclass(frozen, module = "procession._procession")]
pub struct Lines {
    write: Py<PyAny>,
    flush: Py<PyAny>,
    seek: Py<PyAny>,
    tell: Py<PyAny>,
    truncate: Py<PyAny>,
    /// The limit on the bytes of one write to the file, unless a line is longer. If set, each piece is flushed at once.
    most: Option<usize>,
    /// The start of an unfinished line.
    rest: Mutex<Vec<u8>>,
}

#[pymethods]
impl Lines {
    /// The cycle is broken at the writer, which has these methods in its dictionary.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        [&self.write, &self.flush, &self.seek, &self.tell, &self.truncate]
            .into_iter()
            .try_for_each(|method| visit.call(method))
    }

    #[new]
    #[pyo3(signature = (buffer, most=None))]
    fn new(buffer: &Bound<'_, PyAny>, most: Option<usize>) -> PyResult<Self> {
        let method = |name| buffer.getattr(name).map(Bound::unbind);
        Ok(Self {
            write: method("write")?,
            flush: method("flush")?,
            seek: method("seek")?,
            tell: method("tell")?,
            truncate: method("truncate")?,
            most,
            rest: Mutex::default(),
        })
    }

    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = data.py();
        let data = match data.cast::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            Err(_) => py
                .get_type::<PyBytes>()
                .call1((PyMemoryView::from(data)?,))?
                .cast_into()?,
        };
        let lines = self.lines(data.as_bytes());
        self.pass_on(py, &lines)?;
        Ok(data.as_bytes().len())
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.pass_on_rest(py)?;
        self.flush.call0(py).map(drop)
    }

    #[pyo3(signature = (*args))]
    fn seek(&self, args: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.pass_on_rest(args.py())?;
        self.seek.call1(args.py(), args)
    }

    fn tell(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.pass_on_rest(py)?;
        self.tell.call0(py)
    }

    #[pyo3(signature = (*args))]
    fn truncate(&self, args: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.pass_on_rest(args.py())?;
        self.truncate.call1(args.py(), args)
    }
}

impl Lines {
    /// The lines that `data` completes, to be passed on. The start of an unfinished line is kept, up to
    /// `LONGEST` bytes.
    fn lines(&self, data: &[u8]) -> Vec<u8> {
        let mut rest = lock(&self.rest);
        let end = data.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let kept = if end == 0 { rest.len() } else { 0 };
        let end = if kept + data.len() - end < LONGEST {
            end
        } else {
            data.len()
        };
        if end == 0 {
            rest.extend_from_slice(data);
            return Vec::new();
        }
        let (ended, begun) = data.split_at(end);
        let mut lines = std::mem::replace(&mut *rest, begun.to_vec());
        lines.extend_from_slice(ended);
        lines
    }

    fn pass_on_rest(&self, py: Python<'_>) -> PyResult<()> {
        let rest = std::mem::take(&mut *lock(&self.rest));
        self.pass_on(py, &rest)
    }

    fn pass_on(&self, py: Python<'_>, mut lines: &[u8]) -> PyResult<()> {
        while !lines.is_empty() {
            let piece;
            (piece, lines) = lines.split_at(self.most.map_or(lines.len(), |most| end_of_piece(lines, most)));
            self.write.call1(py, (PyBytes::new(py, piece),))?;
            if self.most.is_some() {
                self.flush.call0(py)?;
            }
        }
        Ok(())
    }
}

/// The end of as many lines as fit in `most` bytes, but of at least one.
fn end_of_piece(lines: &[u8], most: usize) -> usize {
    let is_end = |&byte: &u8| byte == b'\n';
    let (near, far) = lines.split_at(lines.len().min(most));
    if far.is_empty() {
        return near.len();
    }
    near.iter()
        .rposition(is_end)
        .or_else(|| far.iter().position(is_end).map(|at| near.len() + at))
        .map_or(lines.len(), |at| at + 1)
}
