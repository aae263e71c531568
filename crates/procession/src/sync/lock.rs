//! A lock that guards nothing but what its users agree upon.

use crate::patience::patiently;
use crate::wire::travels;
use crate::{Error, Result};
use procession_core::{sync, Deadline};
use std::time::Duration;

/// A lock between processes: `multiprocessing.Lock`. For data in shared memory see [`Mutex`](crate::Mutex).
///
/// When the process that holds it dies, exactly one waiter gets [`Error::OwnerDied`](crate::Error::OwnerDied) and the lock is free again.
///
/// ```
/// let lock = procession::Lock::new()?;
/// let held = lock.lock()?;
/// assert!(lock.try_lock()?.is_none());
/// drop(held);
/// assert!(lock.try_lock()?.is_some());
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lock {
    inner: sync::Lock,
}

travels!(Lock, sync::Lock, "lock");

impl Lock {
    /// A new, free lock.
    pub fn new() -> Result<Self> {
        Ok(Self {
            inner: sync::Lock::create()?,
        })
    }

    /// Take the lock, waiting for it. Not recursive: a thread that holds it waits for itself.
    pub fn lock(&self) -> Result<LockGuard<'_>> {
        self.lock_until(Deadline::Never)
    }

    /// Take the lock, waiting no longer than `timeout`.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Take the lock if it is free.
    pub fn try_lock(&self) -> Result<Option<LockGuard<'_>>> {
        let taken = self.inner.try_acquire()?;
        Ok(taken.then(|| LockGuard { lock: self }))
    }

    fn lock_until(&self, deadline: Deadline) -> Result<LockGuard<'_>> {
        patiently(|| self.inner.acquire(deadline))?;
        Ok(LockGuard { lock: self })
    }
}

/// The lock is held as long as this lives.
#[derive(Debug)]
#[must_use = "the lock is given back at once if the guard is not kept"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
}

impl LockGuard<'_> {
    /// Give the lock back, run `wait`, and take it again. If somebody died holding it meanwhile, that is the error; the lock is held all
    /// the same.
    pub(super) fn without<T>(&mut self, wait: impl FnOnce() -> T) -> Result<T> {
        self.lock.inner.release();
        let result = wait();
        let mut died = None;
        loop {
            match patiently(|| self.lock.inner.acquire(Deadline::Never)) {
                Ok(()) => return died.map_or(Ok(result), Err),
                Err(error @ Error::OwnerDied) => died = Some(error),
                Err(error) => panic!("a process that held a lock is in the roll: {error}"),
            }
        }
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        self.lock.inner.release();
    }
}
