//! Waits that signals do not end, as in `std::sync`.

use crate::{Error, Result};
use procession_core::WaitError;

impl From<WaitError> for Error {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::TimedOut | WaitError::Interrupted => Self::TimedOut,
            WaitError::OwnerDied(death) => Self::OwnerDied(death),
            WaitError::Other(error) => error.into(),
        }
    }
}

/// Repeat a wait that a signal interrupted, as `std::sync` does.
pub(crate) fn uninterrupted<T>(mut wait: impl FnMut() -> Result<T, WaitError>) -> Result<T> {
    loop {
        match wait() {
            Err(WaitError::Interrupted) => {}
            other => return other.map_err(Error::from),
        }
    }
}
