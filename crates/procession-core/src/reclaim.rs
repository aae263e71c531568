//! What a death gives back. Leaves it to `liveness` to notice the death, and to `wiring` what an object of each kind
//! refers to.

use std::cell::Cell as LocalCell;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use crate::arena::reclaiming::{assert_may_end_objects, full_birth, Cell, CellState, Footprints, OwnerWord};
use crate::arena::{self, Arena};
use crate::hooks::hooks;
use crate::ids::{Kind, Owner};
use crate::liveness::{self, Forks};
use crate::Result;

thread_local! {
    /// Whether this thread is sweeping deferred cells; the sweep itself may defer more.
    static SWEEPING: LocalCell<bool> = const { LocalCell::new(false) };
}

/// Reclaim everything `dead` owned. `me` is its reaper, and no other process does this while the reaper lives. If the
/// reaper dies on the way, its successor begins anew.
pub(crate) fn reclaim(dead: Owner, me: Owner) {
    assert_may_end_objects();
    let Some(arena) = arena::existing() else { return };
    // DEATH: this comes first, because the same operation is then used to release references.
    arena.resolve(dead, me);
    liveness::forget_inherited(dead);
    let footprints = arena.footprints_of(dead);
    let _sweeping = Sweeping::begin();
    release_references(arena, dead, me, &footprints);
    clear(arena, dead, me, &footprints);
    sweep(arena, me);
    arena.forget_footprint(dead, &footprints);
    arena.header().deaths.fetch_add(1, Relaxed);
    // DEATH: memory that is not in use stays committed, as it does after any other free.
    arena.take_over_idle();
}

/// Free what is deferred only because of processes that are gone by now. Returns how many cells stay deferred.
pub fn sweep_deferred() -> Result<u64> {
    let (arena, me) = arena::here()?;
    let _sweeping = Sweeping::begin();
    Ok(sweep(arena, me))
}

/// Whether this very thread is reclaiming what a dead process owned, or sweeping deferred cells.
pub(crate) fn in_progress() -> bool {
    SWEEPING.try_with(LocalCell::get).unwrap_or(false)
}

/// While this exists, the thread is sweeping deferred cells. A panic ends it, too.
struct Sweeping(bool);

impl Sweeping {
    fn begin() -> Self {
        Self(SWEEPING.try_with(|sweeping| sweeping.replace(true)).unwrap_or(true))
    }
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        let _ = SWEEPING.try_with(|sweeping| sweeping.set(self.0));
    }
}

/// Release every reference of the dead process: those in its reference log, and those that its blocks begin with.
fn release_references(arena: &Arena, dead: Owner, me: Owner, footprints: &Footprints) {
    arena.release_all(dead, me, arena.entries_of(dead));
    let cells = footprints.slabs.iter().flat_map(|&slab| look(arena, slab));
    for (block, _) in cells.filter(|(cell, word)| word.state == CellState::Owned(dead) && !cell.is_segment()) {
        // Without address space to look into a block, its references stay.
        let references = block.references();
        if arena.reach_cell(&block, references.len() * 8).is_err() {
            continue;
        }
        arena.release_all(dead, me, references);
        block.set_references(0);
    }
    // DEATH: before this, a successor does all of it again, and finds that nothing is left to do.
    arena.forget_entries(dead);
}

/// Free what the dead process owned, heal the hints that it left, and set the marks that it may not have set.
fn clear(arena: &Arena, dead: Owner, me: Owner, footprints: &Footprints) {
    let now = arena.births();
    let mut kept: Vec<u32> = footprints.chunks.iter().map(|cell| cell.index).collect();
    kept.sort_unstable();
    for &slab in &footprints.slabs {
        for (cell, word) in look(arena, slab) {
            match word.state {
                CellState::Owned(owner) if owner == dead => {
                    if cell.is_segment() {
                        crate::channel::recover_segment(cell.index, word.generation, owner);
                    } else if crate::shared::recover_node(&cell, word, owner) {
                        // Settled, freed or kept, as its dictionary or list demands.
                    } else if kept.binary_search(&cell.index).is_err() {
                        give_back(arena, &cell, word, now);
                    }
                }
                CellState::Dying(owner) if owner == dead => end(arena, &cell, word, me),
                CellState::Awaited(_) | CellState::Deferred { .. } => arena.mark(slab),
                _ => {}
            }
        }
        arena.heal_hints(slab);
    }
}

/// Free what need not be deferred any longer, and what awaits a process that is gone. Returns how many cells stay
/// deferred.
fn sweep(arena: &Arena, me: Owner) -> u64 {
    let (now, forks) = (arena.births(), Forks::find());
    let still_needed = |birth, upto| forks.between(full_birth(birth, now), full_birth(upto, now));
    let stays =
        |(_, word): &(Cell, OwnerWord)| matches!(word.state, CellState::Deferred { .. } | CellState::Awaited(_));
    let mut left = 0;
    for slab in arena.marked() {
        let mut is_needed = false;
        for (cell, word) in look(arena, slab) {
            match word.state {
                CellState::Awaited(receiver) if receiver.is_gone() => take_back(arena, &cell, word, now, me),
                CellState::Awaited(_) => is_needed = true,
                CellState::Deferred { upto } => {
                    let note = cell.read_note();
                    if still_needed(note.birth, upto) {
                        (left, is_needed) = (left + 1, true);
                    } else if note.kind == 0 {
                        arena.add_to_footprint(slab, me);
                        arena.free_cell(&cell, word);
                    } else {
                        end(arena, &cell, word, me);
                    }
                }
                _ => {}
            }
        }
        if !is_needed {
            arena.unmark(slab, me);
            if look(arena, slab).any(|cell| stays(&cell)) {
                arena.mark(slab);
            }
        }
    }
    arena.header().deferred.store(left, Relaxed);
    left
}

/// The cells of a slab that are not free.
fn look(arena: &Arena, slab: u32) -> impl Iterator<Item = (Cell, OwnerWord)> {
    #[cfg(test)]
    LOOKS.fetch_add(1, Relaxed);
    arena.used_cells(slab)
}

/// How often this process has looked at all cells of a slab.
#[cfg(test)]
pub(crate) static LOOKS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Give back a block that a process owned alone, and what its content refers to.
fn give_back(arena: &Arena, cell: &Cell, word: OwnerWord, now: u64) {
    if cell.read_note().kind == Kind::Mailbox as u8
        && arena
            .reach_cell(cell, size_of::<crate::channel::MessageHeader>())
            .is_ok()
    {
        (hooks().destroy)(Kind::Mailbox as u8, cell.ptr, cell.size);
    }
    arena.give_back(cell, word, cell.birth(now));
}

/// Take back a block that awaits a process that died.
fn take_back(arena: &Arena, cell: &Cell, word: OwnerWord, now: u64, me: Owner) {
    let owned = word.with(CellState::Owned(me));
    arena.add_to_footprint(cell.index / 64, me);
    // DEATH: from here on the block is ours, and is given back as such.
    let taken = cell
        .word
        .compare_exchange(word.encode(), owned.encode(), AcqRel, Relaxed);
    if taken.is_ok() {
        give_back(arena, cell, owned, now);
    }
}

fn end(arena: &Arena, cell: &Cell, word: OwnerWord, me: Owner) {
    let dying = word.with(CellState::Dying(me));
    arena.add_to_footprint(cell.index / 64, me);
    if cell
        .word
        .compare_exchange(word.encode(), dying.encode(), AcqRel, Relaxed)
        .is_ok()
    {
        arena.destroy(cell, dying);
    }
}
