//! Messages as Python objects again. Large buffers stay where they are: the object is the memory of the message.

use super::lone::{self, Kind};
use super::tools;
use crate::common::name;
use procession_core::arena::Block;
use procession_core::channel::Incoming;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::os::raw::c_int;

/// Unpickle a message. In any case, all parts of the message that did not become part of the object are freed.
pub fn loads(py: Python<'_>, mut incoming: Incoming) -> PyResult<Bound<'_, PyAny>> {
    if let Some(kind) = Kind::of(incoming.body()) {
        return lone::load(py, kind, incoming);
    }
    let loads = tools(py)?.loads.bind(py);
    let blocks = incoming.take_buffers();
    let body = match incoming.take_block() {
        Some((block, start)) => Buffer::new(py, block, start)?.into_any(),
        None => PyBytes::new(py, incoming.body()).into_any(),
    };
    if blocks.is_empty() {
        return loads.call1((body,));
    }
    let buffers = blocks
        .into_iter()
        .map(|block| Buffer::new(py, block, 0))
        .collect::<PyResult<Vec<_>>>()?;
    let keywords = PyDict::new(py);
    keywords.set_item(name!(py, "buffers"), buffers)?;
    loads.call((body,), Some(&keywords))
}

/// Return the object of a message's body, if the body is all of the message.
#[pyfunction]
pub fn load_body<'py>(body: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    let py = body.py();
    match Kind::of(body.as_bytes()) {
        Some(kind) => lone::of_body(py, kind, body.as_bytes()),
        None => tools(py)?.loads.bind(py).call1((body,)),
    }
}

/// Memory of the arena as an object with the buffer protocol; freed when nothing refers to it any more. It is shared
/// memory: a child forked while its owner has it sees what the owner writes to it later, and the other way round.
/// Private memory would be copied.
#[pyclass(frozen, module = "procession._procession")]
pub(super) struct Buffer {
    block: Block,
    /// Offset of the bytes shown.
    start: usize,
}

impl Buffer {
    pub(super) fn new(py: Python<'_>, block: Block, start: usize) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, Self { block, start })
    }
}

#[pymethods]
impl Buffer {
    fn __len__(&self) -> usize {
        self.block.len() - self.start
    }

    // `PyO3` requires `unsafe` here. It is sound: the view keeps the object, the object keeps the block, and a block's
    // bytes stay where they are.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let len = (this.block.len() - this.start) as ffi::Py_ssize_t;
        // SAFETY: `view` is valid by the buffer protocol; `start` was checked to lie within the block; the block is
        // this object's alone and lives as long as `slf`, to which the view takes a reference.
        let failed = unsafe {
            let start = this.block.as_ptr().add(this.start);
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start.cast(), len, 0, flags)
        };
        if failed != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }
}
