//! The future of a child's result.

use crate::waking::{ends, numbers};
use crate::{JoinError, JoinHandle, Result};
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The result of a child, once it has ended: `child.await`. Feature `async`.
///
/// Dropped before that, it lets the process go on, as a [`JoinHandle`] does.
///
/// ```
/// # async fn example() -> procession::Result<()> {
/// let child = procession::spawn(|n: u64| n * n, 5)?;
/// assert_eq!(child.await?, 25);
/// # Ok(())
/// # }
/// # futures_executor::block_on(example())?;
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "futures do nothing unless they are awaited"]
pub struct Join<R> {
    /// `None` once it is done.
    handle: Option<JoinHandle<R>>,
    number: u64,
}

impl<R> fmt::Debug for Join<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Join").field(&self.handle).finish()
    }
}

impl<R: DeserializeOwned> IntoFuture for JoinHandle<R> {
    type Output = Result<R, JoinError>;
    type IntoFuture = Join<R>;

    fn into_future(self) -> Join<R> {
        Join {
            handle: Some(self),
            number: numbers(1),
        }
    }
}

impl<R: DeserializeOwned> Future for Join<R> {
    type Output = Result<R, JoinError>;

    /// # Panics
    /// Panics if it is polled after it is done.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let handle = self.handle.take().expect("a future that is done is not polled");
        let handle = match handle.try_join() {
            Ok(result) => return Poll::Ready(result),
            Err(running) => running,
        };
        if let Err(error) = ends::wake(self.number, handle.running(), cx.waker()) {
            return Poll::Ready(Err(JoinError::Lost(error.to_string())));
        }
        self.handle = Some(handle);
        Poll::Pending
    }
}

impl<R> Drop for Join<R> {
    fn drop(&mut self) {
        if self.handle.is_some() {
            ends::forget(self.number);
        }
    }
}
