//! Bindings of `Semaphore` and, with a bound, `BoundedSemaphore`.

use super::released_too_often;
use crate::common::{raise, recovers};
use crate::label::Called;
use procession_core::liveness;
use procession_core::sync::{self, SEM_VALUE_MAX};
use pyo3::exceptions::{PyOSError, PyOverflowError};
use pyo3::prelude::*;
use pyo3::types::PyString;

shared_class! {
    /// A counter; `acquire` waits while it is zero.
    Semaphore {
        /// Create the semaphore with this value, which is also its maximum if `bounded`. `recover`: "silent" to get
        /// back the permits of dead processes.
        #[pyo3(signature = (value, bounded, recover=None, name=None))]
        fn _create(
            &self,
            py: Python<'_>,
            value: i64,
            bounded: bool,
            recover: Option<&str>,
            name: Option<&Bound<'_, PyString>>,
        ) -> PyResult<()> {
            let recover = recovers(recover, &["silent"])?.is_some();
            if value > i64::from(SEM_VALUE_MAX) {
                let text = format!("a semaphore's value is at most {SEM_VALUE_MAX}, not {value}");
                return Err(PyOverflowError::new_err(text));
            }
            // The error that the kernel gives the standard library.
            let value = u32::try_from(value).map_err(|_| PyOSError::new_err((libc::EINVAL, "Invalid argument")))?;
            let bound = if bounded { value } else { SEM_VALUE_MAX };
            let called = Called::here(py, name);
            self.0.set(if recover {
                sync::Semaphore::recovering_labelled(value, bound, called.label())
            } else {
                sync::Semaphore::labelled(value, bound, called.label())
            })
        }

        /// Return the value.
        fn get_value(&self) -> PyResult<u32> {
            Ok(self.0.get()?.value())
        }

        /// Return True if the value is zero.
        fn locked(&self) -> PyResult<bool> {
            Ok(self.get_value()? == 0)
        }

        fn _get_value(&self) -> PyResult<u32> {
            self.get_value()
        }

        /// The maximum of the value.
        #[getter]
        fn maxvalue(&self) -> PyResult<u32> {
            Ok(self.0.get()?.bound())
        }
    }
}

fast_path!(
    Semaphore,
    try_acquire,
    c"release($self, /)\n--\n\nRelease one permit. ValueError if the value is already at its maximum.",
    given,
    release_error
);

fn given(semaphore: &sync::Semaphore) -> bool {
    semaphore.release().unwrap_or(false)
}

/// Why a permit could not be released: the process has no entry in the process table, or the value is at its maximum.
fn release_error() -> PyErr {
    liveness::me().map_or_else(raise, |_| released_too_often())
}
