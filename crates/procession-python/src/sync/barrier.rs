//! Bindings of `Barrier`.

use crate::common::{deadline, lock_deadline, raise, wait};
use crate::label::Called;
use procession_core::sync::{self, Arrival, BarrierError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

shared_class! {
    /// A barrier where a number of parties wait until all have arrived.
    Barrier {
        #[pyo3(signature = (parties, name=None))]
        fn _create(&self, py: Python<'_>, parties: i32, name: Option<&Bound<'_, PyString>>) -> PyResult<()> {
            let called = Called::here(py, name);
            self.0.set(sync::Barrier::labelled(number(parties), called.label()))
        }

        /// Wait until all parties have arrived, for at most `timeout` seconds (None: no limit).
        ///
        /// The last party calls `action` before the others are released. Return the order of arrival, from 0.
        fn wait(&self, py: Python<'_>, timeout: Option<f64>, action: Option<Bound<'_, PyAny>>) -> PyResult<usize> {
            let barrier = self.0.get()?;
            let waits = barrier.waiting().map_err(raise)? + 1 < barrier.parties() as usize;
            let deadline = if waits {
                lock_deadline(timeout)?
            } else {
                deadline(timeout)
            };
            match meet(py, || barrier.arrive(deadline))? {
                Arrival::Last(last) => {
                    if let Some(action) = action {
                        // If it raises, `last` is dropped, and the barrier breaks.
                        action.call0()?;
                    }
                    let index = last.index();
                    last.release();
                    Ok(index)
                }
                Arrival::Waits(mut participant) => {
                    meet(py, || participant.wait(deadline))?;
                    Ok(participant.index())
                }
            }
        }

        /// Break the barrier, until it is reset.
        fn abort(&self, py: Python<'_>) -> PyResult<()> {
            let barrier = self.0.get()?;
            wait(py, || barrier.abort()).map(drop)
        }

        /// Return the barrier to its initial, empty state. Waiters get `BrokenBarrierError`.
        fn reset(&self, py: Python<'_>) -> PyResult<()> {
            let barrier = self.0.get()?;
            wait(py, || barrier.reset()).map(drop)
        }

        /// The number of parties.
        #[getter]
        fn parties(&self) -> PyResult<i32> {
            let parties = self.0.get()?.parties();
            Ok(i32::try_from(parties).unwrap_or_else(|_| -((u32::MAX - parties) as i32)))
        }

        /// The number of parties that wait now.
        #[getter]
        fn n_waiting(&self) -> PyResult<usize> {
            self.0.get()?.waiting().map_err(raise)
        }

        /// True if the barrier is broken.
        #[getter]
        fn broken(&self) -> PyResult<bool> {
            Ok(self.0.get()?.is_broken())
        }
    }
}

/// The engine's number of parties. A barrier for less than one party lets none pass, so the engine gets a number larger
/// than there can be parties.
fn number(parties: i32) -> u32 {
    u32::try_from(parties)
        .ok()
        .filter(|&parties| parties > 0)
        .unwrap_or(u32::MAX - parties.unsigned_abs().min(i32::MAX as u32))
}

/// Wait at a barrier; `threading.BrokenBarrierError` if it is broken.
fn meet<T: Send>(py: Python<'_>, mut attempt: impl FnMut() -> Result<T, BarrierError> + Send) -> PyResult<T> {
    let mut why = String::new();
    let end = wait(py, || match attempt() {
        Ok(value) => Ok(Some(value)),
        Err(BarrierError::Wait(end)) => Err(end),
        Err(broken) => {
            why = broken.to_string();
            Ok(None)
        }
    })?;
    if let Some(Some(value)) = end {
        return Ok(value);
    }
    let class = py.import("threading")?.getattr("BrokenBarrierError")?;
    Err(PyErr::from_type(class.cast_into::<PyType>()?, (why,)))
}
