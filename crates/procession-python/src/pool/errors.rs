//! The exceptions of tasks, made by `_pool/errors.py`.

use super::worker::Mode;
use crate::common::Cached;
use crate::payload;
use procession_core::channel::Incoming;
use procession_core::pool::WorkerDeath;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyModule};
use std::time::Duration;

/// A function of the module that makes the errors.
pub fn helper<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: Cached<Py<PyModule>> = Cached::new();
    let module = MODULE.get_or_make(|| py.import("procession._pool.errors").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

/// The value of an error that counts as a task's result: an `Exception`. Any other (an interrupt, an exit) is passed
/// on, except in a thread of the package: there it comes from the code that the task brings.
pub fn catchable(py: Python<'_>, error: PyErr) -> PyResult<Bound<'_, PyAny>> {
    if error.is_instance_of::<PyException>(py) || helper(py, "_is_result")?.call1((error.value(py),))?.is_truthy()? {
        Ok(error.into_value(py).into_bound(py).into_any())
    } else {
        Err(error)
    }
}

/// The exception of a task after the death of its worker, or after the worker was stopped because the task took too
/// long.
pub fn describe<'py>(
    func: &Bound<'py, PyAny>,
    mode: Option<Mode>,
    number: u64,
    after: Option<Duration>,
    death: WorkerDeath,
) -> PyResult<Bound<'py, PyAny>> {
    let py = func.py();
    let arguments = death.arguments.map(|body| PyBytes::new(py, &body));
    helper(py, "_worker_died")?.call1((
        func,
        mode.map(|mode| mode as u8),
        number,
        arguments,
        after.map(|after| after.as_secs_f64()),
        (death.pid, death.exitcode, death.out_of_memory, death.stack),
    ))
}

/// The exception that a worker sent.
pub fn rebuild(py: Python<'_>, message: Incoming) -> PyResult<Bound<'_, PyAny>> {
    match payload::loads(py, message) {
        Ok(parts) => helper(py, "_unpack_exception")?.call1((parts,)),
        Err(error) => helper(py, "_undecodable")?.call1((catchable(py, error)?,)),
    }
}
