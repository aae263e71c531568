//! The future of an event.

use crate::waking::numbers;
use crate::{Event, Result};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The setting of an event: see [`Event::wait_async`].
///
/// ```
/// let ready = procession::Event::new()?;
/// let occurred: procession::Occurred<'_> = ready.wait_async();
/// ready.set();
/// ready.clear();
/// futures_executor::block_on(occurred)?; // it was set meanwhile
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Occurred<'a> {
    event: &'a Event,
    begun: u32,
    number: u64,
}

impl Event {
    /// Wait until the event is set, as a future. It counts each `set` from now on, even when the event is cleared at
    /// once. Feature `async`.
    ///
    /// An awaited event has a thread of its own until it is dropped, however many tasks wait for it; a clone that is
    /// awaited has another.
    ///
    /// ```
    /// # async fn example() -> procession::Result<()> {
    /// use procession::Event;
    ///
    /// let ready = Event::new()?;
    /// let child = procession::spawn(|ready: Event| ready.set(), ready.clone())?;
    /// ready.wait_async().await?;
    /// child.await?;
    /// # Ok(())
    /// # }
    /// # futures_executor::block_on(example())?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_async(&self) -> Occurred<'_> {
        Occurred {
            event: self,
            begun: self.begin(),
            number: numbers(1),
        }
    }
}

impl Future for Occurred<'_> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.event.is_set_since(self.begun) {
            return Poll::Ready(Ok(()));
        }
        match self.event.wake_on_set(self.begun, self.number, cx.waker()) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Occurred<'_> {
    fn drop(&mut self) {
        self.event.watch().forget(self.number);
    }
}
