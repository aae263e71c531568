//! Bindings of the pool. `pool.py` calls these objects, and `_pool/errors.py` makes the errors.

pub mod core;
pub mod job;
mod result;
pub mod stream;
pub mod worker;

use crate::common::Cached;
use procession_core::pool::TaskOptions;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::time::Duration;

/// A function of the module that makes the errors.
pub fn helper<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: Cached<Py<PyModule>> = Cached::new();
    let module = MODULE.get_or_make(|| py.import("procession._pool.errors").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

/// The value of an error that counts as a task's result: an `Exception`. Any other (an interrupt, an exit) is passed
/// on.
pub fn catchable(py: Python<'_>, error: PyErr) -> PyResult<Bound<'_, PyAny>> {
    if error.is_instance_of::<PyException>(py) {
        Ok(error.into_value(py).into_bound(py).into_any())
    } else {
        Err(error)
    }
}

/// The options of a job's tasks. `timeout` is in seconds.
pub fn options(by_time: bool, timeout: Option<f64>, retries: u32) -> TaskOptions {
    TaskOptions {
        by_time,
        // A timeout too large for the clock is no timeout.
        timeout: timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok()),
        retries,
    }
}
