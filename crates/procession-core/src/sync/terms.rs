//! What is settled about a lock when it is made.

use super::claim::Claim;
use super::death::Death;
use super::primitive::{AtomicU32, Ordering};
use super::site::Made;
use crate::roll::Owner;

/// How a lock is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Whoever gets the lock of a dead holder is not told.
    pub silent: bool,
    /// File and line that errors are to name.
    pub made: Option<(&'a str, u32)>,
}

/// The same in shared memory. Written once, before anybody else sees the lock; zero-filled is the default.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Terms {
    silent: AtomicU32,
    made: Made,
}

impl Terms {
    pub(super) fn set(&self, options: Options<'_>) {
        self.silent.store(options.silent.into(), Ordering::Relaxed);
        if let Some((file, line)) = options.made {
            self.made.set(file, line);
        }
    }

    /// What the next holder is to be told of one that panicked.
    #[cold]
    pub(super) fn panic(&self, owner: Owner, object: &'static str) -> Death {
        Death::panicked(owner, object, self.made.get())
    }

    /// What the heir of the dead is to be told.
    #[cold]
    pub(super) fn death(&self, dead: Claim, object: &'static str) -> Option<Box<Death>> {
        (self.silent.load(Ordering::Relaxed) == 0).then(|| Box::new(Death::new(dead, object, self.made.get())))
    }
}
