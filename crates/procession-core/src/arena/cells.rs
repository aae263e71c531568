//! Queue segments: cells of a class of their own. Their memory never becomes anything but a segment.
//!
//! A process that holds a stale number can therefore read a segment's words: they are always words of some segment, and
//! its generation tells which. A segment in use is in TRANSIT: it belongs to its queue, not to a process, and goes when
//! the queue's `destroy` frees it. While a process is about to link it or to free it, it is OWNED by that process:
//! after a death a survivor asks the queue which of the two has happened.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::class::SEGMENTS;
use super::current::here;
use super::slab::Cell;
use super::word::{CellState, OwnerWord};
use crate::ids::Owner;
use crate::Result;

/// Bytes of a segment.
pub(crate) const SEGMENT_BYTES: usize = 4608;

/// Allocate a segment. This process owns it until it is [handed over](hand_over). Returns its number and generation.
/// Its content is zeros on first use, otherwise what its last user left.
pub(crate) fn alloc_segment() -> Result<(u32, u32)> {
    let (arena, me) = here()?;
    let (cell, owned) = arena.alloc_cell(SEGMENTS, SEGMENT_BYTES, me)?;
    cell.set_birth(arena.births());
    Ok((cell.index, owned.generation))
}

/// Give a segment to its queue, if `owner` still owns it.
pub(crate) fn hand_over(index: u32, generation: u32, owner: Owner) {
    change(index, generation, |state| {
        (state == CellState::Owned(owner)).then_some(CellState::Transit)
    });
}

/// Make this process the owner of a segment, until the segment is freed or this process dies.
pub(crate) fn claim(index: u32, generation: u32, me: Owner) {
    if let Ok((arena, _)) = here() {
        arena.add_to_footprint(index / 64, me);
    }
    change(index, generation, |_| Some(CellState::Owned(me)));
}

/// Change the state of a segment in use.
fn change(index: u32, generation: u32, to: impl Fn(CellState) -> Option<CellState>) {
    let Some(cell) = segment_cell(index) else { return };
    loop {
        let bits = cell.word.load(Acquire);
        let word = OwnerWord::decode(bits);
        let in_use = word.generation == generation && matches!(word.state, CellState::Transit | CellState::Owned(_));
        let Some(state) = to(word.state).filter(|_| in_use) else {
            return;
        };
        let changed = cell
            .word
            .compare_exchange(bits, word.with(state).encode(), AcqRel, Relaxed);
        if changed.is_ok() {
            return;
        }
    }
}

fn segment_cell(index: u32) -> Option<Cell> {
    let cell = here().ok()?.0.cell(index)?;
    cell.is_segment().then_some(cell)
}

/// Start address of the segment with this number, if there is one.
pub(crate) fn segment_ptr(index: u32) -> Option<*mut u8> {
    let cell = segment_cell(index)?;
    here().ok()?.0.reach_cell(&cell, SEGMENT_BYTES).ok()?;
    Some(cell.ptr)
}

/// Free a segment. A stale generation does nothing, so the call may be repeated.
pub(crate) fn free_segment(index: u32, generation: u32) {
    let Ok((arena, me)) = here() else { return };
    let Some(cell) = segment_cell(index) else { return };
    arena.add_to_footprint(index / 64, me);
    loop {
        let bits = cell.word.load(Acquire);
        let word = OwnerWord::decode(bits);
        let in_use = word.generation == generation && matches!(word.state, CellState::Transit | CellState::Owned(_));
        // A word with bits that its state does not use is damaged: the compare-and-swap would never succeed.
        if !in_use || word.encode() != bits || arena.free_cell(&cell, word) {
            return;
        }
    }
}
