//! The futures of results of a pool's calls.

use crate::{AsyncResult, MapResult, Result};
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

macro_rules! future_of {
    ($name:ident, $result:ident, $output:ty, $doc:literal, $example:literal) => {
        #[doc = $doc]
        ///
        /// Dropped before it is done, it cancels what is not done, as the result does of which it was made.
        ///
        /// ```
        /// # async fn example() -> procession::Result<()> {
        /// let pool = procession::Pool::new(2)?;
        #[doc = $example]
        /// # Ok(())
        /// # }
        /// # futures_executor::block_on(example())?;
        /// # Ok::<(), procession::Error>(())
        /// ```
        #[must_use = "futures do nothing unless they are awaited"]
        pub struct $name<R> {
            /// `None` once it is done.
            pending: Option<$result<R>>,
        }

        impl<R> fmt::Debug for $name<R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.pending).finish()
            }
        }

        impl<R: DeserializeOwned> IntoFuture for $result<R> {
            type Output = Result<$output>;
            type IntoFuture = $name<R>;

            fn into_future(self) -> $name<R> {
                $name { pending: Some(self) }
            }
        }

        impl<R: DeserializeOwned> Future for $name<R> {
            type Output = Result<$output>;

            /// # Panics
            /// Panics if it is polled after it is done.
            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                let pending = self
                    .pending
                    .as_ref()
                    .expect("a future that is done is not polled");
                let polled = pending.poll(cx);
                if polled.is_ready() {
                    self.forget();
                    self.pending = None;
                }
                polled
            }
        }

        impl<R> $name<R> {
            fn forget(&self) {
                if let Some(pending) = &self.pending {
                    pending.forget_task();
                }
            }
        }

        impl<R> Drop for $name<R> {
            fn drop(&mut self) {
                self.forget();
            }
        }
    };
}

future_of!(
    Mapped,
    MapResult,
    Vec<R>,
    "The results of a [`map_async`](crate::Pool::map_async), once all are there: `pending.await`. Feature `async`.",
    "assert_eq!(pool.map_async(|n: u64| n * n, 0..3)?.await?, [0, 1, 4]);"
);
future_of!(
    Applied,
    AsyncResult,
    R,
    "The result of an [`apply_async`](crate::Pool::apply_async), once it is there: `pending.await`. Feature `async`.",
    "assert_eq!(pool.apply_async(|n: u64| n * n, 5)?.await?, 25);"
);
