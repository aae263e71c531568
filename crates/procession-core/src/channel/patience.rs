//! When one who waits looks after the dead.

use std::time::{Duration, Instant};

/// How long a process that has to wait lets a claim be before it asks whether the claimant lives.
const PATIENCE: Duration = Duration::from_millis(1);

/// Tells when it is time to look after the dead, while waiting.
pub(super) struct Patience(Option<Instant>);

impl Patience {
    pub fn new() -> Self {
        Self(None)
    }

    pub fn is_over(&mut self) -> bool {
        let now = Instant::now();
        match self.0 {
            Some(next) if now < next => false,
            None => {
                self.0 = Some(now + PATIENCE);
                false
            }
            Some(_) => {
                self.0 = Some(now + PATIENCE);
                true
            }
        }
    }
}
