//! What is done about deadlocks.

use crate::error::Ours;
use crate::Result;
use procession_core::sync::deadlock::{set_mode, Mode};

/// What the processes of a program do about a deadlock: a circle of threads, in any of the processes, of which each waits
/// without a timeout for a lock that another one holds, or for the end of another one's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deadlocks {
    /// One of the threads says on standard error, once, what waits for what and since when. The default, unless the
    /// environment variable `PROCESSION_DEADLOCKS` is `raise` or `off`.
    Report,
    /// One wait for a lock ends with [`Error::Deadlock`](crate::Error::Deadlock). The other threads go on when this one
    /// has dropped the guards that it has.
    Raise,
    /// No thread looks for deadlocks.
    Off,
}

/// Set what all processes of this program do about deadlocks, and return what they did before. A thread that waits finds
/// a deadlock within a second.
///
/// ```
/// use procession::{deadlocks, Deadlocks, Error, Lock, LockError};
///
/// deadlocks(Deadlocks::Raise)?;
/// let lock = Lock::new()?;
/// let guard = lock.lock()?;
/// // No other thread can drop the guard.
/// assert!(matches!(lock.lock(), Err(LockError::Failed(Error::Deadlock(_)))));
/// drop(guard);
/// # Ok::<(), Error>(())
/// ```
pub fn deadlocks(what: Deadlocks) -> Result<Deadlocks> {
    let mode = match what {
        Deadlocks::Report => Mode::Report,
        Deadlocks::Raise => Mode::Raise,
        Deadlocks::Off => Mode::Off,
    };
    Ok(match set_mode(mode).ours()? {
        Mode::Report => Deadlocks::Report,
        Mode::Raise => Deadlocks::Raise,
        Mode::Off => Deadlocks::Off,
    })
}
