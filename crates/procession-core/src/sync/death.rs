//! The report of a holder's death, for the process that takes over what it held.

use super::claim::Claim;
use crate::ids::Owner;
use crate::{liveness, CreationSite, Death};

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
            object_name: None,
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
            object_name: None,
            made,
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
