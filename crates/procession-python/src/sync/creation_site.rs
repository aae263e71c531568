//! The line of the user's program that makes a lock.

use crate::common::{name, Cached};
use pyo3::ffi;
use pyo3::prelude::*;

/// The number of frames to search: classes between the program and this package add only a few.
const DEPTH: usize = 16;

/// File and line of the nearest caller outside this package.
pub fn caller(py: Python<'_>) -> Option<(String, u32)> {
    static PACKAGE: Cached<String> = Cached::new();
    // SAFETY: attached; the frame is borrowed from the running thread.
    let mut frame = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetFrame().cast()) }?;
    // The current frame is the package's own: it runs `__init__`.
    let package = PACKAGE.get_or_make(|| file_of(&frame).map(folder).ok_or(()));
    let package = package.map_or("", String::as_str);
    for _ in 0..DEPTH {
        let file = file_of(&frame)?;
        if package.is_empty() || !file.starts_with(package) {
            // SAFETY: attached, and it is a frame.
            let line = unsafe { ffi::PyFrame_GetLineNumber(frame.as_ptr().cast()) };
            return u32::try_from(line).ok().map(|line| (file, line));
        }
        // SAFETY: attached, and it is a frame; a new reference or null.
        frame = unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyFrame_GetBack(frame.as_ptr().cast()).cast()) }?;
    }
    None
}

fn file_of(frame: &Bound<'_, PyAny>) -> Option<String> {
    // SAFETY: attached, and it is a frame; a new reference.
    let code = unsafe { Bound::from_owned_ptr_or_opt(frame.py(), ffi::PyFrame_GetCode(frame.as_ptr().cast()).cast()) }?;
    let name = code.getattr(name!(frame.py(), "co_filename")).ok()?;
    name.extract().ok()
}

fn folder(mut file: String) -> String {
    file.truncate(file.rfind('/').map_or(0, |end| end + 1));
    file
}
