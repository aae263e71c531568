//! The arena's record of a slab, and the word that says where the slab lies. Leaves to `slab` what the records mean
//! together.

use super::class::{CLASSES, LARGE_CELLS};
use super::idle::Idle;
use crate::sys::atomic::AtomicU64;

/// Slabs begin at multiples of this.
pub(super) const STEP: u64 = 4096;

/// The arena's record of a slab. It lies outside the slab, so that no payload can damage it.
#[repr(C, align(64))]
pub(crate) struct Descriptor {
    /// Where the slab lies, in steps, and its class + 1 (lowest byte). Zero: there is no such slab yet. Only a process
    /// that owns all its cells changes the class, see `convert`.
    pub(super) place: AtomicU64,
    /// Hint: one bit for each cell that is probably in use.
    pub(super) busy: AtomicU64,
    /// Hint: when the slab was last left idle, and whether it is used again and again. See `warm`.
    pub(super) idle: Idle,
    /// What is committed: one word for each large cell, otherwise one for the slab. See `extent`.
    pub(super) extents: [AtomicU64; LARGE_CELLS],
    /// Owner words.
    pub(super) words: [AtomicU64; 64],
    /// Notes.
    pub(super) notes: [AtomicU64; 64],
}

/// A slab's place in one word.
pub(super) fn join(base: u64, class: usize) -> u64 {
    (base / STEP) << 8 | (class as u64 + 1)
}

/// Base and class of a slab's place. `None` if the word cannot be one.
pub(super) fn split(place: u64) -> Option<(u64, usize)> {
    let class = (place as usize & 0xff).checked_sub(1)?;
    (class < CLASSES).then_some(((place >> 8).checked_mul(STEP)?, class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_encoding() {
        for class in 0..CLASSES {
            for base in [0, STEP, (1 << 40) - STEP] {
                assert_eq!(split(join(base, class)), Some((base, class)));
            }
        }
        assert_eq!(split(0), None);
        assert_eq!(split(u64::MAX), None);
    }
}
