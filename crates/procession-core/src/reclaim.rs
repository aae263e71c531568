//! What a death gives back. Knows every kind of object, so that the modules below need not know each other.

use std::cell::Cell as LocalCell;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use crate::arena::reclaiming::{full_birth, note_of, Cell, State, Trodden, Word};
use crate::arena::{Arena, Kind, Object};
use crate::roll::{self, Forks, Owner};
use crate::{family, sync, Result};

thread_local! {
    /// Whether this thread is sweeping limbo, to which the sweep itself may add.
    static SWEEPING: LocalCell<bool> = const { LocalCell::new(false) };
}

/// Give back everything `dead` owned. `me` is its reaper, and no other process does this while the reaper lives. If the
/// reaper dies on the way, its successor begins anew.
pub(crate) fn reclaim(arena: &Arena, dead: Owner, me: Owner) {
    // DEATH: this comes first, because the same operation is then used to strike out references.
    arena.settle(dead, me);
    roll::pins_nothing(dead);
    let trodden = arena.trodden_by(dead);
    let _sweeping = Sweeping::begin();
    give_up_holdings(arena, dead, me, &trodden);
    clear(arena, dead, me, &trodden);
    sweep(arena, me);
    arena.forget_footprint(dead, &trodden);
    arena.header().deaths.fetch_add(1, Relaxed);
}

/// Free what is in limbo only because of processes that are gone by now. Returns how many things stay.
pub fn sweep_limbo() -> Result<u64> {
    let family = family()?;
    let _sweeping = Sweeping::begin();
    Ok(sweep(family.arena(), family.me()))
}

/// Whether this very thread is reclaiming what a dead process owned, or sweeping limbo.
pub(crate) fn in_progress() -> bool {
    SWEEPING.try_with(LocalCell::get).unwrap_or(false)
}

/// Run the object's `destroy`. `size` is what its cell holds.
pub(crate) fn destroy(kind: u8, ptr: *const u8, size: usize) {
    // A number that is no kind comes from a damaged note: what the object refers to is unknown.
    let Some(kind) = Kind::from_number(kind) else { return };
    match kind {
        Kind::Queue => run::<crate::channel::Queue>(ptr, size),
        Kind::Outcome => run::<crate::process::Outcome>(ptr, size),
        Kind::Pool => run::<crate::pool::Shared>(ptr, size),
        Kind::Shared => run::<crate::shared::Shared>(ptr, size),
        Kind::Condition => run::<sync::ending::Condition>(ptr, size),
        Kind::Barrier => run::<sync::ending::Barrier>(ptr, size),
        Kind::Cell => run::<sync::ending::Chunk>(ptr, size),
        Kind::Semaphore => run::<sync::ending::Semaphore>(ptr, size),
        Kind::Parcel => run::<crate::channel::Envelope>(ptr, size),
        // These refer to nothing.
        Kind::Lock | Kind::RLock | Kind::Event | Kind::Child | Kind::Job | Kind::Deposit => {}
    }
}

fn run<T: Object>(ptr: *const u8, size: usize) {
    if size >= size_of::<T>() {
        // SAFETY: `destroy` calls this for a cell of T's kind, large enough, aligned to 64 and DYING in our hands; T
        // tolerates any bytes.
        unsafe { &*ptr.cast::<T>() }.destroy();
    }
}

/// While this exists, the thread is sweeping limbo. A panic ends it, too.
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

/// Strike out every reference in the dead process's holdings: its entries, and those that its blocks begin with.
fn give_up_holdings(arena: &Arena, dead: Owner, me: Owner, trodden: &Trodden) {
    arena.strike_all(dead, me, arena.entries_of(dead));
    let cells = trodden.slabs.iter().flat_map(|&slab| look(arena, slab));
    for (block, _) in cells.filter(|(cell, word)| word.state == State::Owned(dead) && !cell.is_segment()) {
        // Without address space to look into a block, its references stay.
        let references = block.references();
        if arena.reach_cell(&block, references.len() * 8).is_err() {
            continue;
        }
        arena.strike_all(dead, me, references);
        block.set_references(0);
    }
    // DEATH: before this, a successor does all of it again, and finds that nothing is left to do.
    arena.forget_entries(dead);
}

/// Free what the dead process owned, heal the hints that it left, and mark again what it may have left without a mark.
fn clear(arena: &Arena, dead: Owner, me: Owner, trodden: &Trodden) {
    let now = arena.births();
    let mut kept: Vec<u32> = trodden.chunks.iter().map(|cell| cell.index).collect();
    kept.sort_unstable();
    for &slab in &trodden.slabs {
        for (cell, word) in look(arena, slab) {
            match word.state {
                State::Owned(owner) if owner == dead => {
                    if cell.is_segment() {
                        crate::channel::settle(cell.index, word.generation, owner);
                    } else if kept.binary_search(&cell.index).is_err() {
                        give_back(arena, &cell, word, now);
                    }
                }
                State::Dying(owner) if owner == dead => end(arena, &cell, word, me),
                State::Awaited(_) | State::Limbo { .. } => arena.mark(slab),
                _ => {}
            }
        }
        arena.heal_hints(slab);
    }
}

/// Free what need not be in limbo any longer, and what awaits a process that is gone. Returns how much stays in limbo.
fn sweep(arena: &Arena, me: Owner) -> u64 {
    let (now, forks) = (arena.births(), Forks::find());
    let still_pinned = |birth, upto| forks.between(full_birth(birth, now), full_birth(upto, now));
    let stays = |(_, word): &(Cell, Word)| matches!(word.state, State::Limbo { .. } | State::Awaited(_));
    let mut left = 0;
    for slab in arena.marked() {
        let mut is_needed = false;
        for (cell, word) in look(arena, slab) {
            match word.state {
                State::Awaited(receiver) if receiver.is_gone() => take_back(arena, &cell, word, now, me),
                State::Awaited(_) => is_needed = true,
                State::Limbo { upto } => {
                    let note = note_of(&cell);
                    if still_pinned(note.birth, upto) {
                        (left, is_needed) = (left + 1, true);
                    } else if note.kind == 0 {
                        arena.tread(slab, me);
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
    arena.header().limbo.store(left, Relaxed);
    left
}

/// The cells of a slab that are not free.
fn look(arena: &Arena, slab: u32) -> impl Iterator<Item = (Cell, Word)> {
    #[cfg(test)]
    LOOKS.fetch_add(1, Relaxed);
    arena.used_cells(slab)
}

/// How often this process has looked at all cells of a slab.
#[cfg(test)]
pub(crate) static LOOKS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Give back a block that a process owned alone, with its content.
fn give_back(arena: &Arena, cell: &Cell, word: Word, now: u64) {
    if note_of(cell).kind == Kind::Parcel as u8 && arena.reach_cell(cell, size_of::<crate::channel::Envelope>()).is_ok()
    {
        destroy(Kind::Parcel as u8, cell.ptr, cell.size);
    }
    arena.give_back(cell, word, cell.birth(now));
}

/// Take back a block that awaits a process that died.
fn take_back(arena: &Arena, cell: &Cell, word: Word, now: u64, me: Owner) {
    let owned = word.with(State::Owned(me));
    arena.tread(cell.index / 64, me);
    // DEATH: from here on the block is ours, and is given back as such.
    let taken = cell
        .word
        .compare_exchange(word.encode(), owned.encode(), AcqRel, Relaxed);
    if taken.is_ok() {
        give_back(arena, cell, owned, now);
    }
}

fn end(arena: &Arena, cell: &Cell, word: Word, me: Owner) {
    let dying = word.with(State::Dying(me));
    arena.tread(cell.index / 64, me);
    if cell
        .word
        .compare_exchange(word.encode(), dying.encode(), AcqRel, Relaxed)
        .is_ok()
    {
        arena.bury(cell, dying);
    }
}
