//! A condition variable between processes.

use super::lock::LockGuard;
use super::mutex::MutexGuard;
use crate::error::Ours;
use crate::label::label;
use crate::wire::serde_by_handle;
use crate::Result;
use procession_core::{sync, Deadline, WaitError};
use std::time::Duration;

/// A guard that [`Condvar::wait`] accepts: that of a [`Lock`](crate::Lock) or of a [`Mutex`](crate::Mutex).
pub trait Held: sealed::Sealed {}

mod sealed {
    use super::super::lock::LockGuard;

    pub trait Sealed {
        fn without_lock<T>(&mut self, wait: impl FnOnce() -> T) -> crate::Result<T>;
    }

    impl Sealed for LockGuard<'_> {
        fn without_lock<T>(&mut self, wait: impl FnOnce() -> T) -> crate::Result<T> {
            self.without(wait)
        }
    }
}

impl<P> sealed::Sealed for MutexGuard<'_, P> {
    fn without_lock<T>(&mut self, wait: impl FnOnce() -> T) -> Result<T> {
        self.held().without(wait)
    }
}

impl Held for LockGuard<'_> {}
impl<T> Held for MutexGuard<'_, T> {}

/// A condition variable, shaped on [`std::sync::Condvar`]. The waiters that wait longest are notified first.
///
/// After [`Error::OwnerDied`](crate::Error::OwnerDied) the lock is held again; what it guards may be half-changed.
///
/// ```
/// use procession::{Condvar, Mutex};
/// use std::time::Duration;
///
/// let (ready, changed) = (Mutex::new(1_u8)?, Condvar::new()?);
/// let mut guard = ready.lock()?;
/// while *guard == 0 {
///     changed.wait(&mut guard)?;
/// }
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Condvar {
    inner: sync::Condition,
}

serde_by_handle!(Condvar, sync::Condition, "condition");

impl Condvar {
    /// Create a condition variable. Use it with one lock only.
    #[track_caller]
    pub fn new() -> Result<Self> {
        Ok(Self {
            inner: sync::Condition::labelled(label(None)).ours()?,
        })
    }

    /// As [`new`](Self::new), with a name of at most 64 bytes, which the `procession` command shows.
    ///
    /// ```
    /// let changed = procession::Condvar::named("changed")?;
    /// assert_eq!(changed.name().as_deref(), Some("changed"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn named(name: &str) -> Result<Self> {
        Ok(Self {
            inner: sync::Condition::labelled(label(Some(name))).ours()?,
        })
    }

    /// The name that it was made with.
    pub fn name(&self) -> Option<String> {
        self.inner.name()
    }

    /// Release the lock, wait to be notified, and take the lock again.
    pub fn wait(&self, guard: &mut impl Held) -> Result<()> {
        self.wait_until(guard, Deadline::Never)
    }

    /// Like [`wait`](Self::wait), but no longer than `timeout`: then [`Error::TimedOut`](crate::Error::TimedOut), with the
    /// lock held again.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (value, changed) = (procession::Mutex::new(1)?, procession::Condvar::new()?);
    /// let mut guard = value.lock()?;
    /// let waited = changed.wait_timeout(&mut guard, Duration::from_millis(1));
    /// assert!(matches!(waited, Err(procession::Error::TimedOut)));
    /// *guard = 2; // the lock is held
    /// # drop(guard);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout(&self, guard: &mut impl Held, timeout: Duration) -> Result<()> {
        self.wait_until(guard, Deadline::after(timeout))
    }

    /// Notify the waiter that waits longest. Call it with the lock held. Fails, without having notified any, if this
    /// process has no address space left to see all waiters.
    ///
    /// ```
    /// let (value, changed) = (procession::Mutex::new(0)?, procession::Condvar::new()?);
    /// let mut guard = value.lock()?;
    /// *guard += 1;
    /// changed.notify_one()?; // one waiter is enough for one item
    /// # drop(guard);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn notify_one(&self) -> Result<()> {
        self.inner.notify(1).ours()
    }

    /// Notify all waiters. Call it with the lock held. Fails if this process has no address space left to see all of
    /// them.
    ///
    /// ```
    /// use procession::{Condvar, Mutex};
    ///
    /// fn wait((open, changed): (Mutex<u8>, Condvar)) {
    ///     let mut open = open.lock().unwrap();
    ///     while *open == 0 {
    ///         changed.wait(&mut open).unwrap();
    ///     }
    /// }
    /// let (open, changed) = (Mutex::new(0)?, Condvar::new()?);
    /// let children = [(); 2].map(|()| procession::spawn(wait, (open.clone(), changed.clone())));
    /// let mut guard = open.lock()?;
    /// *guard = 1;
    /// changed.notify_all()?;
    /// drop(guard);
    /// for child in children {
    ///     child?.join()?;
    /// }
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn notify_all(&self) -> Result<()> {
        self.inner.notify_all().ours()
    }

    fn wait_until(&self, guard: &mut impl Held, deadline: Deadline) -> Result<()> {
        let mut place = self.inner.enqueue().ours()?;
        let waited = guard.without_lock(|| loop {
            match place.wait(deadline) {
                Err(WaitError::Interrupted) => {}
                other => break other,
            }
        })?;
        waited.ours()
    }
}
