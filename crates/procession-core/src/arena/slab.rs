//! Slabs: up to 64 cells of one size class, never put to another use.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// Number of size classes, the one of queue segments included.
pub(crate) const CLASSES: usize = 19;

/// What the arena knows about a slab; lies outside the slab, so that no payload can damage it.
#[repr(C, align(64))]
pub(crate) struct Descriptor {
    /// Offset of the first cell. Written before the slab is published, never again.
    pub base: AtomicU64,
    /// Hint: one bit a cell that is probably free.
    pub hint: AtomicU64,
    /// Size class. Written before the slab is published, never again.
    pub class: AtomicU32,
    /// Next older slab of the class (slab + 1).
    pub older: AtomicU32,
    /// Owner words.
    pub words: [AtomicU64; 64],
    /// Notes.
    pub notes: [AtomicU64; 64],
}
