//! When a waiter checks for dead processes. Leaves the check to `recover`.

use std::time::{Duration, Instant};

/// How long a waiter leaves a claim alone before it checks whether the claimant lives.
const TIMEOUT: Duration = Duration::from_millis(1);

/// Tells a waiter when it is time to check for dead processes.
pub(super) struct Backoff(Option<Instant>);

impl Backoff {
    pub fn new() -> Self {
        Self(None)
    }

    pub fn is_over(&mut self) -> bool {
        let now = Instant::now();
        match self.0 {
            Some(next) if now < next => false,
            None => {
                self.0 = Some(now + TIMEOUT);
                false
            }
            Some(_) => {
                self.0 = Some(now + TIMEOUT);
                true
            }
        }
    }
}
