//! An event between processes.

use crate::error::Ours;
use crate::label::label;
use crate::uninterrupted::uninterrupted;
use crate::waking::{Awaited, Watch};
use crate::wire::serde_by_handle;
use crate::Result;
use procession_core::{sync, Deadline, WaitError};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::Waker;
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
    watch: Watch<WatchedEvent>,
}

serde_by_handle!(Event, sync::Event, "event", Self::of_engine);

impl Event {
    /// Create an event that is not set.
    #[track_caller]
    pub fn new() -> Result<Self> {
        Self::made(None)
    }

    #[track_caller]
    fn made(name: Option<&str>) -> Result<Self> {
        sync::Event::labelled(label(name)).ours().map(Self::of_engine)
    }

    fn of_engine(inner: sync::Event) -> Self {
        let watch = Watch::default();
        Self { inner, watch }
    }

    /// As [`new`](Self::new), with a name of at most 64 bytes, which the `procession` command shows.
    ///
    /// ```
    /// let ready = procession::Event::named("ready")?;
    /// assert_eq!(ready.name().as_deref(), Some("ready"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn named(name: &str) -> Result<Self> {
        Self::made(Some(name))
    }

    /// The name that it was made with.
    pub fn name(&self) -> Option<String> {
        self.inner.name()
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
    ///
    /// ```
    /// let event = procession::Event::new()?;
    /// event.set();
    /// assert!(event.is_set());
    /// event.clear();
    /// assert!(!event.is_set());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn clear(&self) {
        self.inner.clear();
    }

    /// Wait until the event is set.
    pub fn wait(&self) -> Result<()> {
        self.wait_until(Deadline::Never)
    }

    /// Wait until the event is set, but no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let event = procession::Event::new()?;
    /// let waited = event.wait_timeout(Duration::from_millis(1));
    /// assert!(matches!(waited, Err(procession::Error::TimedOut)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<()> {
        self.wait_until(Deadline::after(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<()> {
        let begun = self.inner.begin();
        uninterrupted(|| self.inner.wait(begun, deadline))
    }

    /// The point from which on a wait of a task counts the calls of `set`.
    pub(crate) fn begin(&self) -> u32 {
        self.inner.begin()
    }

    /// Whether the event is set, or was set since `begun`.
    pub(crate) fn is_set_since(&self, begun: u32) -> bool {
        self.inner.is_set_since(begun)
    }

    /// Wake the task once the event is set, or was set since `begun`.
    pub(crate) fn wake_on_set(&self, begun: u32, number: u64, waker: &Waker) -> Result<()> {
        let watched = || WatchedEvent {
            event: self.inner.clone(),
            begun: AtomicU32::new(0),
        };
        self.watch.wake(watched, number, waker)?;
        // The thread counts from now on, the task from `begun`.
        if self.is_set_since(begun) {
            waker.wake_by_ref();
        }
        Ok(())
    }

    pub(crate) fn watch(&self) -> &Watch<WatchedEvent> {
        &self.watch
    }
}

/// An event for which tasks wait.
pub(crate) struct WatchedEvent {
    event: sync::Event,
    /// The point from which on the thread counts the calls of `set`: when the first of the present tasks began to wait.
    begun: AtomicU32,
}

impl Awaited for WatchedEvent {
    fn thread(&self) -> &'static str {
        "procession-set"
    }

    fn begin(&self) {
        self.begun.store(self.event.begin(), SeqCst);
    }

    fn wait(&self, deadline: Deadline, over: &dyn Fn() -> bool) -> Result<(), WaitError> {
        self.event.wait_or(self.begun.load(SeqCst), deadline, over)
    }

    fn prod(&self) {
        self.event.wake_waiters();
    }
}
