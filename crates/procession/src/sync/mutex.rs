//! One plain value in shared memory, with its lock.

use super::lock::LockGuard;
use super::poison::{LockError, LockResult};
use crate::array::{Array, ArrayGuard};
use crate::codec::refuse;
use crate::{Error, Plain, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// A lock and the plain value it guards, in shared memory, shaped on [`std::sync::Mutex`].
///
/// `T` is plain data ([`Plain`](crate::Plain)): another process of the family could write any bytes, so any bytes must be
/// a valid `T`.
///
/// ```
/// let counter = procession::Mutex::new(0_u64)?;
/// *counter.lock()? += 1;
/// assert_eq!(counter.get()?, 1);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
pub struct Mutex<T> {
    inner: Array<T>,
}

/// A shared value, like `multiprocessing.Value`: another name of [`Mutex`].
pub type Value<T> = Mutex<T>;

#[cfg(feature = "async")]
impl<T> Mutex<T> {
    pub(crate) fn own_lock(&self) -> &crate::Lock {
        self.inner.own_lock()
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

impl<T: Plain> Mutex<T> {
    /// Create a value in shared memory.
    #[track_caller]
    pub fn new(value: T) -> Result<Self> {
        Ok(Self {
            inner: Array::new(&[value])?,
        })
    }

    /// As [`new`](Self::new), with a name, as [`Lock::named`](crate::Lock::named).
    ///
    /// ```
    /// let total = procession::Mutex::named("total", 5_u64)?;
    /// assert_eq!(*total.lock()?, 5);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn named(name: &str, value: T) -> Result<Self> {
        Ok(Self {
            inner: Array::named(name, &[value])?,
        })
    }

    /// Take the lock, waiting for it. If a holder died or panicked, [`LockError::Poisoned`](crate::LockError) tells the
    /// next holder, once, so that it can repair the value before any other process sees it.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let guard = |inner| MutexGuard { inner };
        self.inner.lock().map(guard).map_err(|error| error.map(guard))
    }

    /// Take the lock, waiting no longer than `timeout`.
    ///
    /// ```
    /// use procession::{Error, LockError};
    /// use std::time::Duration;
    ///
    /// let total = procession::Mutex::new(0)?;
    /// let held = total.lock()?;
    /// let late = total.lock_timeout(Duration::from_millis(1)).map(drop);
    /// assert!(matches!(late, Err(LockError::Failed(Error::TimedOut))));
    /// drop(held);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<MutexGuard<'_, T>> {
        let guard = |inner| MutexGuard { inner };
        self.inner
            .lock_timeout(timeout)
            .map(guard)
            .map_err(|error| error.map(guard))
    }

    /// Take the lock if that needs no wait. `None` if it is held. The lock of a dead holder is taken, and the error says
    /// so.
    ///
    /// ```
    /// let counter = procession::Mutex::new(0_u64)?;
    /// let held = counter.lock()?;
    /// assert!(counter.try_lock()?.is_none());
    /// # drop(held);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_lock(&self) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        let guard = |inner| MutexGuard { inner };
        match self.inner.try_lock() {
            Ok(held) => Ok(held.map(guard)),
            Err(error) => Err(error.map(guard)),
        }
    }

    /// Read the value under the lock.
    pub fn get(&self) -> Result<T> {
        Ok(*self.lock()?)
    }

    /// Replace the value, under the lock.
    ///
    /// ```
    /// let limit = procession::Mutex::new(1)?;
    /// limit.set(5)?;
    /// assert_eq!(limit.get()?, 5);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn set(&self, value: T) -> Result<()> {
        *self.lock()? = value;
        Ok(())
    }
}

/// Exclusive access to a [`Mutex`]'s value. Dropping it releases the lock.
///
/// ```
/// let place = procession::Mutex::new([1.5, 2.5])?;
/// let mut guard = place.lock()?;
/// guard[0] += guard[1]; // no other process sees this before the guard is gone
/// drop(guard);
/// assert_eq!(place.get()?, [4.0, 2.5]);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct MutexGuard<'a, T> {
    inner: ArrayGuard<'a, T>,
}

impl<T: Plain + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<'a, T> MutexGuard<'a, T> {
    pub(super) fn held(&mut self) -> &mut LockGuard<'a> {
        self.inner.held()
    }
}

impl<T: Plain> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner[0]
    }
}

impl<T: Plain> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner[0]
    }
}

impl<T> Serialize for Mutex<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(to)
    }
}

impl<'de, T: Plain> Deserialize<'de> for Mutex<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let inner = Array::deserialize(from)?;
        if inner.len() == 1 {
            Ok(Self { inner })
        } else {
            let error = Error::Invalid("this is an array, or a value of another type");
            Err(serde::de::Error::custom(refuse(error)))
        }
    }
}
