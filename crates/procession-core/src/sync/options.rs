//! The options of a lock, fixed when it is made.

use super::claim::Claim;
use super::primitive::{AtomicU32, Ordering};
use crate::arena::{Label, StoredCreationSite};
use crate::ids::Owner;
use crate::Death;

/// The options of a lock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Do not report a holder's death to the process that inherits its lock.
    pub silent: bool,
    /// Name, and file and line, by which errors name it.
    pub label: Label<'a>,
}

impl<'a> Options<'a> {
    /// What of the label lies beside the lock's state: the creation site has a place within.
    pub fn beside(self) -> Label<'a> {
        Label {
            made: None,
            ..self.label
        }
    }
}

/// The options in shared memory. Written once, before any other process sees the lock; zero-filled is the default.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct LockOptions {
    silent: AtomicU32,
    pub(super) made: StoredCreationSite,
}

impl LockOptions {
    pub(super) fn set(&self, options: Options<'_>) {
        self.silent.store(options.silent.into(), Ordering::Relaxed);
        if let Some((file, line)) = options.label.made {
            self.made.set(file, line);
        }
    }

    /// The report of a holder that panicked, for the next holder.
    #[cold]
    pub(super) fn panic(&self, owner: Owner, object: &'static str) -> Death {
        Death::panicked(owner, object, self.made.get())
    }

    /// The report of a holder's death, for the process that inherits the lock.
    #[cold]
    pub(super) fn death(&self, dead: Claim, object: &'static str) -> Option<Box<Death>> {
        (self.silent.load(Ordering::Relaxed) == 0).then(|| Box::new(Death::new(dead, object, self.made.get())))
    }
}
