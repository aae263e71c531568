//! The future of room in a channel.

use crate::waking::numbers;
use crate::{wire, SendError, Sender};
use procession_core::channel::Message;
use procession_core::Deadline;
use serde::Serialize;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The sending of a value, once there is room for it: see [`Sender::send_async`].
///
/// ```
/// let (to, from) = procession::bounded(1)?;
/// let sent: procession::Sent<'_, u8> = to.send_async(&3);
/// futures_executor::block_on(sent)?;
/// assert_eq!(from.recv()?, 3);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sent<'a, T> {
    to: &'a Sender<T>,
    /// `None` once it is sent; an error if the value cannot be.
    message: Result<Option<Message>, Option<SendError>>,
    number: u64,
}

impl<T> fmt::Debug for Sent<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sent").field(self.to).finish()
    }
}

impl<T: Serialize> Sender<T> {
    /// Send a value, as a future, which is done once there is room in the channel. Feature `async`.
    ///
    /// The value is serialized at once. Dropped before it is done, the future sends nothing. Of several tasks that wait
    /// for room, those that poll first come first. An awaited sender has a thread of its own until it is dropped,
    /// however many tasks wait for it; a clone that is awaited has another.
    ///
    /// ```
    /// # async fn example() -> procession::Result<()> {
    /// let (to, from) = procession::bounded(1)?;
    /// let child = procession::spawn(|from: procession::Receiver<u8>| from.iter().count(), from)?;
    /// for n in 0..5 {
    ///     to.send_async(&n).await?;
    /// }
    /// drop(to);
    /// assert_eq!(child.await?, 5);
    /// # Ok(())
    /// # }
    /// # futures_executor::block_on(example())?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn send_async(&self, value: &T) -> Sent<'_, T> {
        let message = wire::pack(value).map(Some);
        Sent {
            to: self,
            message: message.map_err(|error| Some(SendError::Failed(error))),
            number: numbers(1),
        }
    }
}

impl<T> Future for Sent<'_, T> {
    type Output = Result<(), SendError>;

    /// # Panics
    /// Panics if it is polled after it is done.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (to, number) = (self.to, self.number);
        let message = match &mut self.message {
            Ok(message) => message,
            Err(error) => return Poll::Ready(Err(error.take().expect("a future that is done is not polled"))),
        };
        assert!(message.is_some(), "a future that is done is not polled");
        match to.put(message, Deadline::Now) {
            Err(SendError::Full) => {}
            Err(error) => {
                *message = None;
                return Poll::Ready(Err(error));
            }
            Ok(()) => return Poll::Ready(Ok(())),
        }
        // The thread looks after this, and wakes the task if there is room meanwhile.
        match to.wake_on_room(number, cx.waker()) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(SendError::Failed(error))),
        }
    }
}

impl<T> Drop for Sent<'_, T> {
    fn drop(&mut self) {
        self.to.watch().forget(self.number);
    }
}
