//! An event between processes.

use crate::error::Ours;
use crate::uninterrupted::uninterrupted;
use crate::wire::serde_by_handle;
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

serde_by_handle!(Event, sync::Event, "event");

impl Event {
    /// Create an event that is not set.
    pub fn new() -> Result<Self> {
        Ok(Self {
            inner: sync::Event::create().ours()?,
        })
    }

    /// Whether the event is set.
    pub fn is_set(&self) -> bool {
        self.inner.is_set()
    }

    /// Set the event. Every present waiter continues, even when the event is cleared at once.
    pub fn set(&self) {
        self.inner.set();
    }

    /// Clear the event. Subsequent waits last until the next `set`.
    pub fn clear(&self) {
        self.inner.clear();
    }

    /// Wait until the event is set.
    pub fn wait(&self) -> Result<()> {
        self.wait_until(Deadline::Never)
    }

    /// Wait until the event is set, but no longer than `timeout`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<()> {
        self.wait_until(Deadline::after(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<()> {
        let begun = self.inner.begin();
        uninterrupted(|| self.inner.wait(begun, deadline))
    }
}
