//! Memory for pickles that are received and gone once they are unpickled.
//!
//! The first touch of a page takes longer than a copy, and the C library gives a message's pages back to the system as
//! soon as it is freed.

use crate::common::lock;
use crate::payload;
use pyo3::ffi;
use pyo3::prelude::*;
use std::os::raw::c_int;
use std::sync::Mutex;

/// A message of more bytes is read into memory that is kept.
pub(super) const SHORT: usize = 1 << 12;
/// The most memory that is kept, by all connections of the process together.
const KEPT: usize = 1 << 22;

/// Never waited for: a child may have been forked while another thread held it.
static MEMORY: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// The memory kept, if no other thread uses it. It has no bytes.
pub(super) fn memory() -> Vec<u8> {
    MEMORY
        .try_lock()
        .map(|mut memory| std::mem::take(&mut *memory))
        .unwrap_or_default()
}

/// Keep the memory for the next message, if it is the largest so far.
fn keep(mut bytes: Vec<u8>) {
    bytes.clear();
    if bytes.capacity() > KEPT {
        return;
    }
    if let Ok(mut memory) = MEMORY.try_lock() {
        if memory.capacity() < bytes.capacity() {
            std::mem::swap(&mut *memory, &mut bytes);
        }
    }
}

/// The object of a whole pickle, whose memory is kept for the next message.
pub(super) fn load_pickle(py: Python<'_>, pickle: Vec<u8>) -> PyResult<Bound<'_, PyAny>> {
    let lent = Bound::new(py, Lent::new(pickle))?;
    let object = payload::load_pickle(lent.as_any());
    keep(lent.get().taken_back());
    object
}

/// A message while it is unpickled, as an object with the buffer protocol.
#[pyclass(frozen, module = "procession._procession")]
pub(super) struct Lent(Mutex<LentMemory>);

struct LentMemory {
    bytes: Vec<u8>,
    /// How many views of the bytes there are.
    views: usize,
}

impl Lent {
    fn new(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(LentMemory { bytes, views: 0 }))
    }

    /// The memory, unless code of the program has kept a view of it.
    fn taken_back(&self) -> Vec<u8> {
        let mut memory = lock(&self.0);
        if memory.views == 0 {
            std::mem::take(&mut memory.bytes)
        } else {
            Vec::new()
        }
    }

    /// Count another view, and return the bytes that it shows.
    fn lend(&self) -> (*const u8, usize) {
        let mut memory = lock(&self.0);
        memory.views += 1;
        (memory.bytes.as_ptr(), memory.bytes.len())
    }

    fn give_back(&self) {
        lock(&self.0).views -= 1;
    }
}

#[pymethods]
impl Lent {
    // `PyO3` requires `unsafe` here. It is sound: the view keeps the object, and the bytes stay where they are as long as
    // there is a view.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let (start, size) = slf.get().lend();
        let (start, size) = (start.cast_mut().cast(), size as ffi::Py_ssize_t);
        // SAFETY: `view` is valid by the buffer protocol. It is read-only, and the vector is neither changed nor dropped
        // while a view is counted and `slf` lives, to which the view takes a reference.
        if unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, size, 1, flags) } != 0 {
            slf.get().give_back();
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }

    // As above.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.give_back();
    }
}
