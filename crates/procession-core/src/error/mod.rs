//! The engine's errors.

mod death;

pub(crate) use death::label_of;
pub use death::{CreationSite, Death};

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Shared memory is used up, or the system refuses to give more.
    #[error("out of shared memory: {wanted} bytes wanted for {what}")]
    Exhausted {
        /// What the memory was for.
        what: &'static str,
        /// How many bytes were asked for.
        wanted: u64,
    },
    /// The process table has no free entry.
    #[error("the family has too many processes ({0})")]
    ProcessTableFull(usize),
    /// A handle refers to something that is gone.
    #[error("the {0} this handle refers to no longer exists")]
    Stale(&'static str),
    /// A handle was made in another family of processes.
    #[error("this {0} belongs to another family of processes: it cannot be used here")]
    Foreign(&'static str),
    /// A pool, or a part of one, is used in a child that the process that made it forked.
    #[error("this {0} belongs to the process that made it: a child of it cannot use it")]
    Inherited(&'static str),
    /// The family's first process is dead, and all others wait, without a timeout, for what only they could give.
    #[error(
        "no process is left to end this wait: the first process is dead, and every other one waits too, without a timeout"
    )]
    Abandoned,
    /// The wait is part of a deadlock, and ends so that the others can go on. The text says what waits for what.
    #[error("{0}")]
    Deadlock(String),
    /// A shared collection was sealed: its content stays as it was at that moment, and is used elsewhere.
    #[error("this {0} has been sealed")]
    Sealed(&'static str),
    /// Bytes in shared memory or on a socket are invalid.
    #[error("damaged data: {0}")]
    Corrupt(&'static str),
    /// A system call failed.
    #[error("{call}: {source}")]
    Os {
        /// The system call.
        call: &'static str,
        /// The error that it returned.
        source: std::io::Error,
    },
}

impl Error {
    /// The error of a system call.
    pub fn os(call: &'static str, source: impl Into<std::io::Error>) -> Self {
        Self::Os {
            call,
            source: source.into(),
        }
    }
}

/// A wait that ended without what it waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error("timed out")]
    TimedOut,
    /// A signal arrived (or may have, see [`Interruptible`](crate::sync::wait::Interruptible)): run its handlers and
    /// wait again.
    #[error("interrupted by a signal")]
    Interrupted,
    /// The process that held what was waited for died. The object is usable again; exactly one waiter sees this.
    #[error("{0}")]
    OwnerDied(Box<Death>),
    /// Any other error.
    #[error(transparent)]
    Other(#[from] Error),
}
