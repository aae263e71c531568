//! Queue segments: cells of a class of their own, whose memory is never anything else than a segment.
//!
//! So a segment's words can be read by who holds a stale number: they are always words of some segment, and its generation tells which.
//! A segment in use is in TRANSIT: it belongs to its queue, not to a process, and goes when the queue's `destroy` frees it.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use super::slab::{write_note, SEGMENTS};
use super::word::{State, Word};
use crate::{family, Error, Result};

/// Bytes of a segment.
pub(crate) const SEGMENT_BYTES: usize = 4608;

/// A segment of this queue's own: its number and generation. Content: zeros when it is used for the first time, otherwise what
/// its last user left.
pub(crate) fn alloc_segment() -> Result<(u32, u32)> {
    let family = family()?;
    let arena = family.arena();
    let (cell, owned) = arena.alloc_cell(SEGMENTS, family.me())?;
    write_note(&cell, arena.births() as u32, 0);
    let transit = owned.with(State::Transit);
    // DEATH: between this store and the moment its queue links it, the segment is lost to the family. Linking first would be worse:
    // a survivor would free a segment in use.
    cell.word
        .compare_exchange(owned.encode(), transit.encode(), AcqRel, Relaxed)
        .map_err(|_| Error::Corrupt("owner word of a segment"))?;
    Ok((cell.index, owned.generation))
}

/// Start of a segment, if there is one of that number.
pub(crate) fn segment_ptr(index: u32) -> Option<*mut u8> {
    let cell = family().ok()?.arena().cell(index)?;
    (cell.size as usize == SEGMENT_BYTES).then_some(cell.ptr)
}

/// Give a segment back. A stale generation does nothing (so it may be repeated).
pub(crate) fn free_segment(index: u32, generation: u32) {
    let Ok(family) = family() else { return };
    let arena = family.arena();
    if let Some(cell) = arena.cell(index).filter(|cell| cell.size as usize == SEGMENT_BYTES) {
        arena.free_cell(
            &cell,
            Word {
                generation,
                state: State::Transit,
            },
        );
    }
}
