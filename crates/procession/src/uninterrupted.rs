//! Waits that signals do not end, as in `std::sync`.

use crate::{Error, Result};
use procession_core::WaitError;

/// Repeat a wait that a signal interrupted, as `std::sync` does.
pub(crate) fn uninterrupted<T>(mut wait: impl FnMut() -> Result<T, WaitError>) -> Result<T> {
    loop {
        match wait() {
            Err(WaitError::Interrupted) => {}
            other => return other.map_err(Error::wait),
        }
    }
}
