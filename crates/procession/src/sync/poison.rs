//! Locks after the death or panic of their holder. Like `std::sync`'s poisoning, but reported once, to one holder.

use crate::{Death, Error, Result};
use std::fmt;

/// The result of taking a lock, shaped on [`std::sync::LockResult`].
pub type LockResult<G> = Result<G, LockError<G>>;

/// The lock could not be taken, or was taken after its holder died or panicked.
///
/// Converting it into an [`Error`] with `?` releases the lock; the next holder is not told again.
///
/// ```
/// use procession::{LockError, Mutex};
///
/// let total = Mutex::new(0_u64)?;
/// let mut guard = match total.lock() {
///     Err(LockError::Poisoned(poisoned)) => {
///         eprintln!("{}", poisoned.death());
///         let mut guard = poisoned.into_inner();
///         *guard = 0; // repair it
///         guard
///     }
///     other => other?,
/// };
/// *guard += 1;
/// # Ok::<(), procession::Error>(())
/// ```
#[non_exhaustive]
pub enum LockError<G> {
    /// The lock is held. Its last holder died or panicked holding it: what it guards may be half-changed.
    Poisoned(Poisoned<G>),
    /// The lock is not held.
    Failed(Error),
}

/// A lock after the death or panic of its last holder.
pub struct Poisoned<G> {
    guard: G,
    death: Box<Death>,
}

impl<G> Poisoned<G> {
    /// The guard.
    pub fn into_inner(self) -> G {
        self.guard
    }

    /// The guard, for reading.
    pub fn get_ref(&self) -> &G {
        &self.guard
    }

    /// The guard, to repair what it guards.
    ///
    /// ```
    /// use procession::{LockError, Mutex};
    ///
    /// let pair = Mutex::new([0, 0])?;
    /// let _ = std::panic::catch_unwind(|| {
    ///     let mut half = pair.lock().unwrap();
    ///     half[0] = 1;
    ///     panic!("in the middle");
    /// });
    /// let Err(LockError::Poisoned(mut poisoned)) = pair.lock() else { panic!("it panicked") };
    /// assert!(poisoned.death().panicked && **poisoned.get_ref() == [1, 0]);
    /// poisoned.get_mut()[1] = 1;
    /// # drop(poisoned);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_mut(&mut self) -> &mut G {
        &mut self.guard
    }

    /// The process that died, or [panicked](Death::panicked).
    pub fn death(&self) -> &Death {
        &self.death
    }
}

impl<G> LockError<G> {
    /// The guard, even if the last holder died or panicked: `lock.lock().or_else(LockError::into_inner)?`.
    pub fn into_inner(self) -> Result<G> {
        match self {
            Self::Poisoned(poisoned) => Ok(poisoned.into_inner()),
            Self::Failed(error) => Err(error),
        }
    }

    /// The same error for a guard that wraps this one.
    pub(crate) fn map<H>(self, wrap: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            Self::Poisoned(Poisoned { guard, death }) => LockError::poisoned(wrap(guard), death),
            Self::Failed(error) => LockError::Failed(error),
        }
    }

    pub(crate) fn poisoned(guard: G, death: Box<Death>) -> Self {
        Self::Poisoned(Poisoned { guard, death })
    }
}

impl<G> From<LockError<G>> for Error {
    fn from(error: LockError<G>) -> Self {
        match error {
            LockError::Poisoned(poisoned) => Self::OwnerDied(poisoned.death),
            LockError::Failed(error) => error,
        }
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisoned(poisoned) => f.debug_tuple("Poisoned").field(&poisoned.death).finish(),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisoned(poisoned) => poisoned.death.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<G> std::error::Error for LockError<G> {}
