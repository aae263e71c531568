//! A semaphore between processes.

use crate::error::Ours;
use crate::label::label;
use crate::uninterrupted::uninterrupted;
use crate::wire::serde_by_handle;
use crate::{Error, Result};
use procession_core::arena::Label;
use procession_core::ids::Owner;
use procession_core::liveness;
use procession_core::{sync, Deadline};
use std::time::Duration;

/// A counter of permits that processes take and give back: `multiprocessing.BoundedSemaphore`.
///
/// ```
/// let slots = procession::Semaphore::new(2)?;
/// let one = slots.acquire()?;
/// assert_eq!(slots.available(), 1);
/// drop(one);
/// assert_eq!(slots.available(), 2);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    inner: sync::Semaphore,
}

serde_by_handle!(Semaphore, sync::Semaphore, "semaphore");

impl Semaphore {
    /// Create a semaphore with `permits` permits. The permits of a process that dies are lost.
    #[track_caller]
    pub fn new(permits: u32) -> Result<Self> {
        Self::made(permits, label(None), sync::Semaphore::labelled)
    }

    /// As [`new`](Self::new), with a name of at most 64 bytes, which the `procession` command shows.
    ///
    /// ```
    /// let slots = procession::Semaphore::named("slots", 2)?;
    /// assert_eq!(slots.name().as_deref(), Some("slots"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn named(name: &str, permits: u32) -> Result<Self> {
        Self::made(permits, label(Some(name)), sync::Semaphore::labelled)
    }

    /// Like [`new`](Self::new), but the permits of a process that dies are given back. The semaphore records its
    /// holders, which makes it slower.
    ///
    /// ```
    /// use procession::Semaphore;
    ///
    /// fn hold(slots: Semaphore) {
    ///     slots.acquire().unwrap().forget();
    ///     std::process::abort();
    /// }
    /// let slots = Semaphore::recovering(1)?;
    /// assert!(procession::spawn(hold, slots.clone())?.join().is_err());
    /// let permit = slots.acquire()?; // the dead process's
    /// # drop(permit);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn recovering(permits: u32) -> Result<Self> {
        Self::made(permits, label(None), sync::Semaphore::recovering_labelled)
    }

    /// The name that it was made with.
    pub fn name(&self) -> Option<String> {
        self.inner.name()
    }

    fn made(
        permits: u32,
        label: Label<'_>,
        make: fn(u32, u32, Label<'_>) -> procession_core::Result<sync::Semaphore>,
    ) -> Result<Self> {
        if permits > sync::SEM_VALUE_MAX {
            return Err(Error::Invalid("a semaphore holds at most 2^31 - 1 permits"));
        }
        Ok(Self {
            inner: make(permits, sync::SEM_VALUE_MAX, label).ours()?,
        })
    }

    /// Take a permit, waiting for one; it is given back when the [`Permit`] is dropped.
    pub fn acquire(&self) -> Result<Permit<'_>> {
        self.acquire_until(Deadline::Never)
    }

    /// Take a permit, waiting no longer than `timeout`.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>> {
        self.acquire_until(Deadline::after(timeout))
    }

    /// Take a permit if there is one.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let one = procession::Semaphore::new(1)?;
    /// let permit = one.try_acquire()?;
    /// assert!(permit.is_some() && one.try_acquire()?.is_none());
    /// assert!(one.acquire_timeout(Duration::from_millis(1)).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_acquire(&self) -> Result<Option<Permit<'_>>> {
        let taken = self.inner.try_acquire().ours()?;
        Ok(taken.then(|| self.permit()))
    }

    /// Add a permit. One process may release what another acquired and [forgot](Permit::forget).
    pub fn release(&self) -> Result<()> {
        if self.inner.release().ours()? {
            Ok(())
        } else {
            Err(Error::Invalid("the semaphore is full"))
        }
    }

    /// The number of permits available now.
    pub fn available(&self) -> u32 {
        self.inner.value()
    }

    fn acquire_until(&self, deadline: Deadline) -> Result<Permit<'_>> {
        uninterrupted(|| self.inner.acquire(deadline))?;
        Ok(self.permit())
    }

    fn permit(&self) -> Permit<'_> {
        Permit {
            semaphore: self,
            owner: liveness::me().ok(),
        }
    }
}

/// A permit; dropping it gives it back.
///
/// ```
/// let two = procession::Semaphore::new(2)?;
/// let permit = two.acquire()?;
/// assert_eq!(two.available(), 1);
/// drop(permit);
/// assert_eq!(two.available(), 2);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the permit is released at once if it is not kept"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    /// The process that acquired it. A copy in a child of fork does not give it back.
    owner: Option<Owner>,
}

impl Permit<'_> {
    /// Keep the permit until [`Semaphore::release`] gives it back.
    ///
    /// ```
    /// let items = procession::Semaphore::new(1)?;
    /// items.acquire()?.forget();
    /// assert_eq!(items.available(), 0);
    /// items.release()?; // by any process
    /// assert_eq!(items.available(), 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.owner == liveness::me().ok() {
            // Fails only in a child of fork that found no entry in the process table, and such a child took no permit.
            let _ = self.semaphore.inner.release();
        }
    }
}
