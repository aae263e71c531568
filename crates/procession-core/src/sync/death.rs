//! The report of a holder's death, for the process that takes over what it held.

use super::claim::Claim;
use super::creation_site::CreationSite;
use crate::ids::Owner;
use crate::liveness;
use std::fmt;

/// A process that died, or a thread that ended, while it held a lock; or a process that gave the lock back during a
/// panic.
#[derive(Clone, Debug)]
pub struct Death {
    /// The process's entry in the process table.
    pub owner: Owner,
    /// Its process identifier (zero if no longer known).
    pub pid: u32,
    /// Its name (empty if it had none, or if it is no longer known).
    pub name: String,
    /// The thread, if the thread ended and its process lives.
    pub thread: Option<u32>,
    /// Whether it panicked; then it may be alive.
    pub panicked: bool,
    /// The name of the class of what it held.
    pub object: &'static str,
    /// Where that object was made, if its creation site was recorded.
    pub made: Option<CreationSite>,
}

/// The kind of death that frees a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    /// The process's: its other threads may release what one of them took.
    Process,
    /// Also the thread's: no other thread may release it.
    Thread,
}

impl Death {
    pub(super) fn new(dead: Claim, object: &'static str, made: Option<CreationSite>) -> Self {
        let owner = dead.owner();
        let (pid, name) = liveness::describe(owner).unwrap_or_default();
        let thread = liveness::is_alive(owner).then(|| dead.thread());
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

    pub(super) fn panicked(owner: Owner, object: &'static str, made: Option<CreationSite>) -> Self {
        let (pid, name) = liveness::describe(owner).unwrap_or_default();
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
        f.write_str(&liveness::label_of(self.pid, &self.name))?;
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
    /// Whether it is dead. Asks the kernel.
    pub(super) fn is_dead(self, claim: Claim) -> bool {
        !liveness::is_alive(claim.owner()) || self.is_thread_over(claim)
    }

    /// As [`is_dead`](Self::is_dead), but cheap when called often.
    pub(super) fn is_probably_dead(self, claim: Claim) -> bool {
        liveness::is_probably_dead(claim.owner()) || self.is_thread_over(claim)
    }

    fn is_thread_over(self, claim: Claim) -> bool {
        self == Self::Thread && liveness::has_thread_ended(claim.owner(), claim.thread())
    }
}
