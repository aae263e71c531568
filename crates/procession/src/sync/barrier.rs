//! A barrier between processes.

use crate::error::EngineError;
use crate::error::Ours;
use crate::label::label;
use crate::wire::serde_by_handle;
use crate::{Error, Result};
use procession_core::sync::{self, Arrival, BarrierError};
use procession_core::{Deadline, WaitError};
use std::time::Duration;

/// A reusable point where a number of processes wait for each other, shaped on [`std::sync::Barrier`].
///
/// ```
/// let alone = procession::Barrier::new(1)?;
/// assert!(alone.wait()?.is_leader());
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Barrier {
    inner: sync::Barrier,
}

serde_by_handle!(Barrier, sync::Barrier, "barrier");

/// How a wait at a [`Barrier`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: usize,
    leader: bool,
}

impl BarrierWaitResult {
    /// Whether this party arrived last; true for exactly one party.
    pub fn is_leader(&self) -> bool {
        self.leader
    }

    /// The order of arrival, from 0.
    ///
    /// ```
    /// let alone = procession::Barrier::new(1)?;
    /// let result = alone.wait()?;
    /// assert_eq!((result.index(), result.is_leader()), (0, true));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn index(&self) -> usize {
        self.index
    }
}

impl Barrier {
    /// Create a barrier for `parties` processes (or threads).
    #[track_caller]
    pub fn new(parties: u32) -> Result<Self> {
        Self::made(parties, None)
    }

    /// As [`new`](Self::new), with a name of at most 64 bytes, which the `procession` command shows.
    ///
    /// ```
    /// let start = procession::Barrier::named("start", 2)?;
    /// assert_eq!(start.name().as_deref(), Some("start"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn named(name: &str, parties: u32) -> Result<Self> {
        Self::made(parties, Some(name))
    }

    /// The name that it was made with.
    pub fn name(&self) -> Option<String> {
        self.inner.name()
    }

    #[track_caller]
    fn made(parties: u32, name: Option<&str>) -> Result<Self> {
        if parties == 0 {
            return Err(Error::Invalid("a barrier needs at least one party"));
        }
        Ok(Self {
            inner: sync::Barrier::labelled(parties, label(name)).ours()?,
        })
    }

    /// Wait until all parties have arrived. [`Error::BrokenBarrier`] if one of them timed out or died, or the barrier
    /// was aborted or reset.
    pub fn wait(&self) -> Result<BarrierWaitResult> {
        self.wait_until(Deadline::Never)
    }

    /// Like [`wait`](Self::wait), but no longer than `timeout`, after which the barrier is broken for every party.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let two = procession::Barrier::new(2)?;
    /// assert!(two.wait_timeout(Duration::from_millis(1)).is_err());
    /// assert!(two.is_broken());
    /// two.reset()?;
    /// assert!(!two.is_broken());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult> {
        self.wait_until(Deadline::after(timeout))
    }

    /// Break the barrier: present and future waits fail with [`Error::BrokenBarrier`], until it is reset.
    ///
    /// ```
    /// let two = procession::Barrier::new(2)?;
    /// two.abort()?;
    /// assert!(matches!(two.wait(), Err(procession::Error::BrokenBarrier(_))));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn abort(&self) -> Result<()> {
        crate::uninterrupted::uninterrupted(|| self.inner.abort())
    }

    /// Return the barrier to its initial, empty state. Present waits fail with [`Error::BrokenBarrier`].
    pub fn reset(&self) -> Result<()> {
        crate::uninterrupted::uninterrupted(|| self.inner.reset())
    }

    /// Whether the barrier is broken.
    pub fn is_broken(&self) -> bool {
        self.inner.is_broken()
    }

    fn wait_until(&self, deadline: Deadline) -> Result<BarrierWaitResult> {
        match uninterrupted(|| self.inner.arrive(deadline))? {
            Arrival::Last(last) => {
                let index = last.index();
                last.release();
                Ok(BarrierWaitResult { index, leader: true })
            }
            Arrival::Waits(mut participant) => {
                let index = participant.index();
                uninterrupted(|| participant.wait(deadline))?;
                Ok(BarrierWaitResult { index, leader: false })
            }
        }
    }
}

fn uninterrupted<T>(mut wait: impl FnMut() -> Result<T, BarrierError>) -> Result<T> {
    loop {
        match wait() {
            Ok(value) => return Ok(value),
            Err(BarrierError::Wait(WaitError::Interrupted)) => {}
            Err(BarrierError::Wait(error)) => return Err(Error::wait(error)),
            Err(broken) => return Err(Error::BrokenBarrier(EngineError::new(broken))),
        }
    }
}
