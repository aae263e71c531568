//! The label of an object: the name that the program gives it, and the line that makes it.

use crate::common::{name, Cached};
use procession_core::arena::Label;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// The number of frames to search: classes between the program and this package add only a few.
const DEPTH: usize = 16;

/// What an object is called.
pub struct Called {
    name: Option<String>,
    made: Option<(String, u32)>,
}

impl Called {
    /// An object that the calling line makes.
    pub fn here(py: Python<'_>, name: Option<&Bound<'_, PyString>>) -> Self {
        Self {
            name: name.map(|name| name.to_string_lossy().into_owned()),
            made: caller(py),
        }
    }

    pub fn label(&self) -> Label<'_> {
        Label {
            name: self.name.as_deref(),
            made: self.made.as_ref().map(|(file, line)| (file.as_str(), *line)),
        }
    }
}

/// File and line of the nearest caller outside this package.
fn caller(py: Python<'_>) -> Option<(String, u32)> {
    static PACKAGE: Cached<String> = Cached::new();
    // SAFETY: attached; the frame is borrowed from the running thread.
    let mut frame = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetFrame().cast()) }?;
    let package = PACKAGE.get_or_make(|| {
        let file: String = py.import("procession")?.getattr("__file__")?.extract()?;
        PyResult::Ok(folder(&file))
    });
    let package = package.map_or("", String::as_str);
    for _ in 0..DEPTH {
        let name = file_of(&frame)?;
        let file = name.to_str().ok()?;
        if package.is_empty() || !file.starts_with(package) {
            // SAFETY: attached, and it is a frame.
            let line = unsafe { ffi::PyFrame_GetLineNumber(frame.as_ptr().cast()) };
            return u32::try_from(line).ok().map(|line| (file.to_owned(), line));
        }
        // SAFETY: attached, and it is a frame; a new reference or null.
        frame = unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyFrame_GetBack(frame.as_ptr().cast()).cast()) }?;
    }
    None
}

fn file_of<'py>(frame: &Bound<'py, PyAny>) -> Option<Bound<'py, PyString>> {
    // SAFETY: attached, and it is a frame; a new reference.
    let code = unsafe { Bound::from_owned_ptr_or_opt(frame.py(), ffi::PyFrame_GetCode(frame.as_ptr().cast()).cast()) }?;
    code.getattr(name!(frame.py(), "co_filename")).ok()?.cast_into().ok()
}

/// The folder of a file, with the slash at its end.
fn folder(file: &str) -> String {
    file[..file.rfind('/').map_or(0, |end| end + 1)].to_owned()
}
