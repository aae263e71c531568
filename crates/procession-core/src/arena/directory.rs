//! What the arena keeps about a process, in a slot of its own. Leaves to `reference_log` and `footprint` how it is
//! written and read.

use super::change::Operation;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Number of slabs that a footprint holds without a chunk.
const NEAR: usize = 22;
/// Flag in a footprint's head: the list is not complete.
pub(super) const EVERYWHERE: u64 = 1 << 63;

/// What the arena keeps about the process in a process table slot. A reaper leaves nothing in it but the number of its
/// operation.
#[repr(C, align(128))]
pub(super) struct Directory {
    /// `owner | number of the first chunk's cell + 1`.
    pub(super) chunks: AtomicU64,
    /// The change of a reference that is under way.
    pub(super) operation: Operation,
    /// The slabs in which the process may own cells.
    pub(super) footprint: Footprint,
}

/// The list of the slabs in which a process may own cells. Zero-filled is empty.
#[repr(C)]
pub(super) struct Footprint {
    /// [`EVERYWHERE`] and the number of the last chunk's cell + 1.
    pub(super) head: AtomicU64,
    /// The first slabs (+ 1).
    pub(super) near: [AtomicU32; NEAR],
}
