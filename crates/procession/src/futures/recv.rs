//! The future of a value of a channel.

use crate::waking::numbers;
use crate::{Receiver, RecvError};
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A value of a channel, once there is one: see [`Receiver::recv_async`].
///
/// ```
/// let (to, from) = procession::channel()?;
/// let value: procession::Recv<'_, u8> = from.recv_async();
/// to.send(&3)?;
/// assert_eq!(futures_executor::block_on(value)?, 3);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "futures do nothing unless they are awaited"]
pub struct Recv<'a, T> {
    from: &'a Receiver<T>,
    number: u64,
}

impl<T> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recv").field(self.from).finish()
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receive the oldest value, as a future. Feature `async`.
    ///
    /// It works on any runtime. Dropping it loses no value. Of several tasks that wait for one receiver, each value
    /// goes to one. An awaited receiver has a thread of its own until it is dropped, however many tasks wait for it;
    /// a clone that is awaited has another.
    ///
    /// ```
    /// # async fn example() -> procession::Result<()> {
    /// let (to, from) = procession::channel()?;
    /// procession::spawn(|to: procession::Sender<u8>| to.send(&7).unwrap(), to)?;
    /// assert_eq!(from.recv_async().await?, 7);
    /// assert!(matches!(from.recv_async().await, Err(procession::RecvError::Disconnected)));
    /// # Ok(())
    /// # }
    /// # futures_executor::block_on(example())?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn recv_async(&self) -> Recv<'_, T> {
        let number = numbers(1);
        Recv { from: self, number }
    }
}

impl<T: DeserializeOwned> Future for Recv<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.from.try_recv() {
            Err(RecvError::Empty) => {}
            other => return Poll::Ready(other),
        }
        // The thread looks after this, and wakes the task if something came meanwhile.
        match self.from.wake_on_arrival(self.number, cx.waker()) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(RecvError::Failed(error))),
        }
    }
}

impl<T> Drop for Recv<'_, T> {
    fn drop(&mut self) {
        self.from.watch().forget(self.number);
    }
}
