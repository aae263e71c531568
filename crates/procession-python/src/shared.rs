//! Bindings of the memory of `Value` and `Array`, as a buffer.

use crate::common::raise;
use crate::payload;
use procession_core::ids::Handle;
use procession_core::shared::SharedBytes as Engine;
use procession_core::{family, Error};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::os::raw::c_int;

const NAME: &str = "shared memory";

/// Zero-filled memory that all processes of the family share.
#[pyclass(frozen, module = "procession._procession")]
pub struct SharedBytes(Engine);

#[pymethods]
impl SharedBytes {
    #[new]
    fn new(py: Python<'_>, size: usize) -> PyResult<Self> {
        py.detach(|| Engine::create(size)).map(Self).map_err(raise)
    }

    #[getter]
    fn size(&self) -> usize {
        self.0.len()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let handle = self.0.handle();
        payload::attach_handle(handle);
        let attach = py.import("procession._procession")?.getattr("attach_shared")?;
        let id = family().map_err(raise)?.id();
        Ok((attach, (id, handle.to_bits()).into_pyobject(py)?))
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("view is null"));
        }
        let engine = &slf.get().0;
        // SAFETY: `view` is the interpreter's, to be filled in. The bytes exist as long as `slf`, to which the view
        // holds a reference.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                engine.as_ptr().cast(),
                engine.len() as ffi::Py_ssize_t,
                0,
                flags,
            )
        };
        if filled < 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }
}

impl SharedBytes {
    /// The engine's reference.
    pub fn engine(&self) -> &Engine {
        &self.0
    }
}

/// Attach to the shared bytes that a handle of this family refers to.
#[pyfunction]
pub fn attach_shared(id: u128, handle: u64) -> PyResult<SharedBytes> {
    if id != family().map_err(raise)?.id() {
        return Err(raise(Error::Foreign(NAME)));
    }
    let handle = Handle::from_bits(handle).ok_or_else(|| raise(Error::Stale(NAME)))?;
    Engine::attach(handle).map(SharedBytes).map_err(raise)
}
