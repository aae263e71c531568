//! A holder that died, for whoever finds what it held.

use super::claim::Claim;
use super::site::Site;
use crate::roll::{self, Owner};
use std::fmt;

/// A process that died, or a thread that ended, holding a lock; or a process that gave it back in the middle of a panic.
#[derive(Clone, Debug)]
pub struct Death {
    /// The process, as the roll knew it.
    pub owner: Owner,
    /// Its process identifier (zero when no longer known).
    pub pid: u32,
    /// Its name (empty when it had none, or it is no longer known).
    pub name: String,
    /// The thread, if that ended and its process lives.
    pub thread: Option<u32>,
    /// Whether it panicked, and may live.
    pub panicked: bool,
    /// What it held: the name of a class.
    pub object: &'static str,
    /// Where that was made, if that was told.
    pub made: Option<Site>,
}

/// Whose death gives a lock free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    /// The process's: its other threads may release what one of them took.
    Process,
    /// Also the thread's: nobody else may release it.
    Thread,
}

impl Death {
    pub(super) fn new(dead: Claim, object: &'static str, made: Option<Site>) -> Self {
        let owner = dead.owner();
        let (pid, name) = roll::describe(owner).unwrap_or_default();
        let thread = roll::is_alive(owner).then(|| dead.thread());
        Self {
            owner,
            pid,
            name,
            thread,
            panicked: false,
            object,
            made,
        }
    }

    pub(super) fn panicked(owner: Owner, object: &'static str, made: Option<Site>) -> Self {
        let (pid, name) = roll::describe(owner).unwrap_or_default();
        Self {
            owner,
            pid,
            name,
            thread: None,
            panicked: true,
            object,
            made,
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(thread) = self.thread {
            write!(f, "thread {thread} of ")?;
        }
        f.write_str(&roll::label_of(self.pid, &self.name))?;
        let end = match self.thread {
            _ if self.panicked => "panicked",
            Some(_) => "ended",
            None => "died",
        };
        write!(f, " {end} holding the {}", self.object)?;
        match &self.made {
            Some(made) => write!(f, " made at {made}"),
            None => Ok(()),
        }
    }
}

impl Holder {
    /// Whether it is dead: asks the kernel.
    pub(super) fn is_dead(self, claim: Claim) -> bool {
        !roll::is_alive(claim.owner()) || self.is_thread_over(claim)
    }

    /// As [`is_dead`](Self::is_dead), cheap when called often.
    pub(super) fn looks_dead_lately(self, claim: Claim) -> bool {
        roll::looks_dead_lately(claim.owner()) || self.is_thread_over(claim)
    }

    fn is_thread_over(self, claim: Claim) -> bool {
        self == Self::Thread && roll::has_thread_ended(claim.owner(), claim.thread())
    }
}
