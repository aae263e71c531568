//! The engine's own lock: a word that names its holder, so that a holder's death is noticed and repaired by the next.

use std::sync::atomic::{AtomicU32, Ordering};

/// A lock over structures in the arena that the next holder can repair. Zero-filled is unlocked.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(crate) struct EngineLock {
    /// The holder's `Owner`, or 0.
    holder: AtomicU32,
    /// How many may be asleep; the dead among them only cost a needless wake.
    waiters: AtomicU32,
}

/// How a lock was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// From somebody who gave it back.
    Clean,
    /// From somebody who died while holding it: repair first.
    Recovered,
}

const _: Ordering = Ordering::SeqCst;
