//! The future of a lock.

use crate::sync::{LockGuard, MutexGuard};
use crate::waking::numbers;
use crate::{Array, ArrayGuard, Lock, LockError, LockResult, Mutex, Plain, Result};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What [`Locked`] waits for: a [`Lock`], a [`Mutex`] or an [`Array`].
///
/// ```
/// async fn hold<L: procession::Lockable>(lock: &L) -> procession::Result<()> {
///     let _guard = procession::Locked::new(lock).await?;
///     Ok(())
/// }
/// let (lock, count) = (procession::Lock::new()?, procession::Mutex::new(0_u8)?);
/// futures_executor::block_on(hold(&lock))?;
/// futures_executor::block_on(hold(&count))?;
/// # Ok::<(), procession::Error>(())
/// ```
pub trait Lockable: sealed::LockableNow {}

mod sealed {
    use crate::{Lock, LockError, Result};

    pub trait LockableNow {
        type Guard<'a>
        where
            Self: 'a;

        fn try_now(&self) -> Result<Option<Self::Guard<'_>>, LockError<Self::Guard<'_>>>;
        fn word(&self) -> &Lock;
    }
}

/// A lock's guard, once it is taken: see [`Lock::lock_async`], [`Mutex::lock_async`] and [`Array::lock_async`].
///
/// ```
/// let lock = procession::Lock::new()?;
/// let locked: procession::Locked<'_, procession::Lock> = lock.lock_async();
/// drop(futures_executor::block_on(locked)?);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "futures do nothing unless they are awaited"]
pub struct Locked<'a, L: Lockable> {
    lock: &'a L,
    number: u64,
}

impl<L: Lockable> fmt::Debug for Locked<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Locked").field(self.lock.word()).finish()
    }
}

impl<'a, L: Lockable> Locked<'a, L> {
    /// Take a lock, as a future.
    ///
    /// ```
    /// let count = procession::Mutex::new(0_u8)?;
    /// *futures_executor::block_on(procession::Locked::new(&count))? += 1;
    /// assert_eq!(count.get()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(lock: &'a L) -> Self {
        let number = numbers(1);
        Self { lock, number }
    }
}

impl<'a, L: Lockable> Future for Locked<'a, L> {
    type Output = LockResult<<L as sealed::LockableNow>::Guard<'a>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lock = self.lock;
        match lock.try_now() {
            Ok(Some(guard)) => return Poll::Ready(Ok(guard)),
            Err(error) => return Poll::Ready(Err(error)),
            Ok(None) => {}
        }
        // The thread looks after this, and wakes the task if the lock is free meanwhile.
        match lock.word().wake_on_release(self.number, cx.waker()) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(LockError::Failed(error))),
        }
    }
}

impl<L: Lockable> Drop for Locked<'_, L> {
    fn drop(&mut self) {
        self.lock.word().watch().forget(self.number);
    }
}

macro_rules! lockable {
    ($lock:ty, $guard:ident $(, $item:ident)?) => {
        impl$(<$item: Plain>)? Lockable for $lock {}

        impl$(<$item: Plain>)? sealed::LockableNow for $lock {
            type Guard<'a> = $guard<'a $(, $item)?> where Self: 'a;

            fn try_now(&self) -> Result<Option<Self::Guard<'_>>, LockError<Self::Guard<'_>>> {
                self.try_lock()
            }

            fn word(&self) -> &Lock {
                self.own_lock()
            }
        }

        impl$(<$item: Plain>)? $lock {
            /// Take the lock, as a future, which is done once it is taken. Feature `async`.
            ///
            /// The task tries again whenever the lock becomes free, so a caller of `lock`, or another task, may be
            /// faster. Dropped before it is done, the future leaves the lock alone. A lock that was held when it was
            /// awaited has a thread of its own until it is dropped, however many tasks wait for it; a clone that is
            /// awaited has another. Poisoning is reported as by `lock`.
            ///
            /// ```
            /// # async fn example() -> procession::Result<()> {
            /// let count = procession::Mutex::new(0_u64)?;
            /// *count.lock_async().await? += 1;
            /// assert_eq!(count.get()?, 1);
            /// # Ok(())
            /// # }
            /// # futures_executor::block_on(example())?;
            /// # Ok::<(), procession::Error>(())
            /// ```
            pub fn lock_async(&self) -> Locked<'_, Self> {
                Locked::new(self)
            }
        }
    };
}
lockable!(Lock, LockGuard);
lockable!(Mutex<T>, MutexGuard, T);
lockable!(Array<T>, ArrayGuard, T);
