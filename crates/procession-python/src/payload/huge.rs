//! Copies of large messages into Python objects. Memory that is new to the process costs more by its page faults than by
//! the copy, so the kernel is asked for huge pages, as numpy does for its arrays.

use pyo3::ffi;
use pyo3::prelude::*;
use std::mem::MaybeUninit;

/// Objects of at least this many bytes get huge pages. Smaller ones are mostly in memory that was used before.
const FROM: usize = 4 << 20;
/// A multiple of the size of common huge pages.
const HUGE: usize = 2 << 20;

/// A copy as `bytes`. The constructor of `PyO3` panics if there is no memory.
pub(super) fn bytes<'py>(py: Python<'py>, from: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let len = from.len() as ffi::Py_ssize_t;
    if from.len() < FROM {
        // SAFETY: the result is a new object with a copy of these bytes, or an error.
        return unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(from.as_ptr().cast(), len)) };
    }
    // SAFETY: the result is a new object of this many bytes, or an error. Nothing else has seen it when they are written.
    unsafe {
        let made = ffi::PyBytes_FromStringAndSize(std::ptr::null(), len);
        let made = Bound::from_owned_ptr_or_err(py, made)?;
        fill(py, ffi::PyBytes_AsString(made.as_ptr()).cast(), from);
        Ok(made)
    }
}

/// A copy as `bytearray`.
pub(super) fn byte_array<'py>(py: Python<'py>, from: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let len = from.len() as ffi::Py_ssize_t;
    if from.len() < FROM {
        // SAFETY: as above.
        return unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyByteArray_FromStringAndSize(from.as_ptr().cast(), len))
        };
    }
    // SAFETY: as above.
    unsafe {
        let made = ffi::PyByteArray_FromStringAndSize(std::ptr::null(), len);
        let made = Bound::from_owned_ptr_or_err(py, made)?;
        fill(py, ffi::PyByteArray_AsString(made.as_ptr()).cast(), from);
        Ok(made)
    }
}

/// Copy to memory that was not used yet.
///
/// # Safety
/// There must be `from.len()` bytes, which nothing else uses.
unsafe fn fill(py: Python<'_>, to: *mut u8, from: &[u8]) {
    let before = to.align_offset(HUGE);
    if let Some(len) = from.len().checked_sub(before) {
        // SAFETY: the advice is on whole pages within the bytes, and does not change them. A refusal only costs time.
        unsafe { libc::madvise(to.add(before).cast(), len / HUGE * HUGE, libc::MADV_HUGEPAGE) };
    }
    // SAFETY: the caller vouches for the bytes; a message lies in the arena, never in a new object.
    let to = unsafe { std::slice::from_raw_parts_mut(to.cast::<MaybeUninit<u8>>(), from.len()) };
    // SAFETY: a byte is a byte that may not be initialised.
    let from = unsafe { std::slice::from_raw_parts(from.as_ptr().cast::<MaybeUninit<u8>>(), from.len()) };
    // Other threads run meanwhile; none of them knows of the new object.
    py.detach(|| to.copy_from_slice(from));
}
