//! Runs: one or more units of 64 KiB, for everything that is too large for a cell.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// Bins of free runs by size.
pub(crate) const BINS: usize = 64;

/// What the arena knows about a unit. The words of a run's first unit are the truth; the rest is derived from them.
#[repr(C)]
pub(crate) struct Unit {
    /// Owner word.
    pub word: AtomicU64,
    /// Units of the run that begins here.
    pub length: AtomicU32,
    /// Low half of the birth counter.
    pub birth: AtomicU32,
    /// At a run's last unit: its first unit.
    pub first: AtomicU32,
    /// Next free run of the bin (unit + 1).
    pub next: AtomicU32,
    /// Previous free run of the bin (unit + 1).
    pub prev: AtomicU32,
    /// Unused.
    pub reserved: AtomicU32,
}
