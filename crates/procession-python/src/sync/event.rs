//! `Event`.

use crate::common::{lock_deadline, wait};
use procession_core::sync;
use pyo3::prelude::*;

shared_class! {
    /// A flag to wait for.
    Event {
        fn _create(&self) -> PyResult<()> {
            self.0.set(sync::Event::create())
        }

        /// Whether it is set.
        fn is_set(&self) -> PyResult<bool> {
            Ok(self.0.get()?.is_set())
        }

        /// Set it: whoever waits goes on, even if it is cleared at once.
        fn set(&self) -> PyResult<()> {
            self.0.get()?.set();
            Ok(())
        }

        /// Clear it.
        fn clear(&self) -> PyResult<()> {
            self.0.get()?.clear();
            Ok(())
        }

        /// Wait until it is set, for at most `timeout` seconds (None: for ever). Says whether it was.
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
