//! Bindings of `Event`.

use crate::common::{lock_deadline, wait};
use crate::label::Called;
use procession_core::sync;
use pyo3::prelude::*;
use pyo3::types::PyString;

shared_class! {
    /// A flag that processes can wait for.
    Event {
        #[pyo3(signature = (name=None))]
        fn _create(&self, py: Python<'_>, name: Option<&Bound<'_, PyString>>) -> PyResult<()> {
            self.0.set(sync::Event::labelled(Called::here(py, name).label()))
        }

        /// Return True if the flag is set.
        fn is_set(&self) -> PyResult<bool> {
            Ok(self.0.get()?.is_set())
        }

        /// Set the flag. All present waiters continue, even if it is cleared at once.
        fn set(&self) -> PyResult<()> {
            self.0.get()?.set();
            Ok(())
        }

        /// Clear the flag.
        fn clear(&self) -> PyResult<()> {
            self.0.get()?.clear();
            Ok(())
        }

        /// Wait until the flag is set, for at most `timeout` seconds (None: no limit). Return True if it was set, False
        /// on timeout.
        #[pyo3(signature = (timeout=None))]
        fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
            let event = self.0.get()?;
            let begun = event.begin();
            if event.is_set() {
                return Ok(true);
            }
            let deadline = lock_deadline(timeout)?;
            Ok(wait(py, || event.wait(begun, deadline))?.is_some())
        }
    }
}
