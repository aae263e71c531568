//! Waits as a Rust program makes them: signals do not end them.

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

/// Wait on through signals, as `std::sync` does.
pub(crate) fn patiently<T>(mut wait: impl FnMut() -> Result<T, WaitError>) -> Result<T> {
    loop {
        match wait() {
            Err(WaitError::Interrupted) => {}
            other => return other.map_err(Error::from),
        }
    }
}
