//! When a wait gives up.

use std::time::{Duration, Instant};

/// The end of a wait: at once, at an instant, or never.
#[derive(Clone, Copy, Debug)]
pub enum Deadline {
    /// Do not wait at all.
    Now,
    /// Wait until this instant.
    At(Instant),
    /// Wait as long as it takes.
    Never,
}

impl Deadline {
    /// A deadline `timeout` from now. With a duration beyond the clock's range it never comes.
    pub fn after(timeout: Duration) -> Self {
        if timeout.is_zero() {
            return Self::Now;
        }
        Instant::now().checked_add(timeout).map_or(Self::Never, Self::At)
    }

    /// The time left: `None` if there is no end, zero if it is over.
    pub fn remaining(self) -> Option<Duration> {
        match self {
            Self::Now => Some(Duration::ZERO),
            Self::At(end) => Some(end.saturating_duration_since(Instant::now())),
            Self::Never => None,
        }
    }

    /// Whether there is no end.
    pub fn is_never(self) -> bool {
        matches!(self, Self::Never)
    }

    /// Whether the wait is over.
    pub fn is_over(self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }

    /// The length of the next kernel wait: the time left, but no longer than `slice`.
    pub fn slice(self, slice: Duration) -> Duration {
        self.remaining().map_or(slice, |left| left.min(slice))
    }
}
