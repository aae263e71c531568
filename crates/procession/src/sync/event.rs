//! A flag to wait for.

use crate::patience::patiently;
use crate::wire::travels;
use crate::Result;
use procession_core::{sync, Deadline};
use std::time::Duration;

/// A flag that processes wait for: `multiprocessing.Event`.
///
/// ```
/// let ready = procession::Event::new()?;
/// ready.set();
/// ready.wait()?;
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Event {
    inner: sync::Event,
}

travels!(Event, sync::Event, "event");

impl Event {
    /// A new event, not set.
    pub fn new() -> Result<Self> {
        Ok(Self {
            inner: sync::Event::create()?,
        })
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.inner.is_set()
    }

    /// Set it: whoever waits goes on, even when it is cleared at once.
    pub fn set(&self) {
        self.inner.set();
    }

    /// Clear it: who waits from now on waits for the next `set`.
    pub fn clear(&self) {
        self.inner.clear();
    }

    /// Wait until it is set.
    pub fn wait(&self) -> Result<()> {
        self.wait_until(Deadline::Never)
    }

    /// Wait until it is set, no longer than `timeout`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<()> {
        self.wait_until(Deadline::after(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<()> {
        let begun = self.inner.begin();
        patiently(|| self.inner.wait(begun, deadline))
    }
}
