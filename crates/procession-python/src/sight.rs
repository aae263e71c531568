//! Bindings of the command line's commands, and of the family's snapshot.

use crate::common::raise;
use procession_cli::findings::{look, Limits};
use procession_core::family;
use procession_core::inspect::Inspector;
use procession_core::sync::deadlock;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::ffi::OsString;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Run a command of the command line other than `run`, and return its exit code.
#[pyfunction]
pub fn command(py: Python<'_>, words: Vec<OsString>) -> u8 {
    // The hook has reported a panic on standard error; to the shell it is a failure like others.
    py.detach(|| catch_unwind(AssertUnwindSafe(|| procession_cli::run(words))).unwrap_or(procession_cli::UNREADABLE))
}

/// Set what this family does about deadlocks. Return the former mode.
#[pyfunction]
#[pyo3(signature = (mode, /))]
pub fn deadlocks(mode: &str) -> PyResult<&'static str> {
    let mode = deadlock::Mode::named(mode)
        .ok_or_else(|| PyValueError::new_err(format!("mode is \"report\", \"raise\" or \"off\", not {mode:?}")))?;
    deadlock::set_mode(mode).map(deadlock::Mode::name).map_err(raise)
}

/// A snapshot of this process's family as JSON, with the fields that `procession dump --json` has.
#[pyfunction]
pub fn snapshot_json(py: Python<'_>) -> PyResult<String> {
    family().map_err(raise)?;
    let seen = py.detach(|| catch_unwind(|| look(&Inspector::own()?, None, &Limits::default())));
    let seen = seen.map_err(|_| PyRuntimeError::new_err("the family's memory cannot be read: its reader failed"))?;
    let seen = seen.map_err(|error| PyOSError::new_err(error.to_string()))?;
    Ok(procession_cli::json::family(&seen).to_string())
}
