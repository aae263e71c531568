//! What a death gives back: knows every kind of object, so that the rooms below need not know each other.

use std::cell::Cell as LocalCell;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use crate::arena::reclaiming::{full_birth, note_of, pinned, tag_of, Cell, Place, State, Word};
use crate::arena::{cells, Arena, Handle, Kind, Object};
use crate::roll::{self, Owner};
use crate::{family, sync, Result};

thread_local! {
    /// Whether this thread holds the reclaim lock: while it reclaims one death, it may learn of another.
    static HOLDING: LocalCell<bool> = const { LocalCell::new(false) };
}

/// Give back everything `dead` owned: idempotent, and may itself be killed. Called by whoever learns of a death first.
pub(crate) fn reclaim(dead: Owner) -> Result<()> {
    exclusively(|arena, me| {
        give_up_holdings(arena, dead, me);
        scan(arena, Some(dead), me);
        arena.header().deaths.fetch_add(1, Relaxed);
    })
}

/// Free what is in limbo only because of processes that are gone by now; the number of things that stay.
pub fn sweep_limbo() -> Result<u64> {
    exclusively(|arena, me| scan(arena, None, me))
}

/// Whether this very thread is reclaiming.
pub(crate) fn in_progress() -> bool {
    HOLDING.try_with(LocalCell::get).unwrap_or(false)
}

/// Run the object's `destroy`. `size` is what its cell holds.
pub(crate) fn destroy(kind: u8, ptr: *const u8, size: usize) {
    // A number that is no kind: the note was damaged, and nobody knows what the object refers to.
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
        // SAFETY: `destroy` calls this for a cell of T's kind, large enough, aligned to 64 and DYING in our hands; T tolerates any bytes.
        unsafe { &*ptr.cast::<T>() }.destroy();
    }
}

/// One reclaimer at a time. Whoever died at it had begun nothing that cannot be begun again.
fn exclusively<T>(work: impl FnOnce(&Arena, Owner) -> T) -> Result<T> {
    let family = family()?;
    let (arena, me) = (family.arena(), family.me());
    if in_progress() {
        return Ok(work(arena, me));
    }
    let _guard = arena.header().reclaim_lock.lock(me);
    let _holding = Holding::begin();
    Ok(work(arena, me))
}

/// Ends also when `work` panics.
struct Holding;

impl Holding {
    fn begin() -> Self {
        let _ = HOLDING.try_with(|holding| holding.set(true));
        Self
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let _ = HOLDING.try_with(|holding| holding.set(false));
    }
}

/// Every reference in the dead process's holdings: its entries, and those that its blocks begin with.
fn give_up_holdings(arena: &Arena, dead: Owner, me: Owner) {
    if arena.tagged(tag_of(dead)) != Some(dead) {
        return;
    }
    let mut blocks = Vec::new();
    for slab in 0..arena.slab_count() {
        for (cell, word) in arena.used_cells(slab) {
            match word.state {
                // DEATH: of the dead, or of whoever reclaimed it before: before anything else is struck out, so that the entry is that one's.
                State::Object { tag, .. } if tag == tag_of(dead) => {
                    arena.settle_tag(dead, me, &cell, word);
                }
                State::Owned(owner) if owner == dead && !cells::is_segment(&cell) => blocks.push(Place::Cell(cell)),
                _ => {}
            }
        }
    }
    let runs = arena.runs_in_use(me).into_iter();
    blocks.extend(
        runs.filter(|(_, word)| word.state == State::Owned(dead))
            .map(|(run, _)| Place::Run(run)),
    );
    let strike = |entry: &AtomicU64| {
        let handle = Handle::from_bits(entry.load(Acquire));
        if let Some((cell, word)) = handle.and_then(|handle| arena.strike(dead, me, handle, entry)) {
            arena.bury(&cell, word);
        }
    };
    arena.entries_of(dead).into_iter().for_each(strike);
    for block in &blocks {
        block.references().iter().for_each(strike);
        block.set_references(0);
    }
    // DEATH: before this all of it is done again, and finds nothing.
    arena.forget_entries(dead);
}

/// Free what the dead owned and what need not be in limbo any longer; heal the hints. How much stays in limbo.
fn scan(arena: &Arena, dead: Option<Owner>, me: Owner) -> u64 {
    let now = arena.births();
    let mut left = 0;
    for slab in 0..arena.slab_count() {
        for (cell, word) in arena.used_cells(slab) {
            match word.state {
                State::Owned(owner) if is_gone(arena, owner, dead) => {
                    if cells::is_segment(&cell) {
                        crate::channel::settle(cell.index, word.generation, owner);
                    } else {
                        give_back_cell(arena, cell, word, now, me);
                    }
                }
                State::Dying(owner) if is_gone(arena, owner, dead) => end(arena, &cell, word, me),
                State::Awaited(receiver) if receiver.is_gone() => take_back(arena, &cell, word, now, me),
                State::Limbo { upto } => {
                    let note = note_of(&cell);
                    if still_pinned(note.birth, upto, now) {
                        left += 1;
                    } else if note.kind == 0 {
                        arena.free_cell(&cell, word);
                    } else {
                        end(arena, &cell, word, me);
                    }
                }
                _ => {}
            }
        }
        if dead.is_some() {
            arena.heal_hints(slab);
        }
    }
    for (run, word) in arena.runs_in_use(me) {
        match word.state {
            State::Owned(owner) if is_gone(arena, owner, dead) => {
                give_back(arena, &Place::Run(run), word, now, me);
            }
            State::Limbo { upto } if still_pinned(run.birth.load(Relaxed), upto, now) => left += 1,
            State::Limbo { .. } => drop(arena.free_run(&run, word, me)),
            _ => {}
        }
    }
    arena.header().limbo.store(left, Relaxed);
    left
}

/// Whether this owner's claims are nobody's. An earlier reclaimer may have failed or died: its dead are gone, too, once their holdings are.
fn is_gone(arena: &Arena, owner: Owner, dead: Option<Owner>) -> bool {
    Some(owner) == dead || roll::is_known_dead(owner) && arena.tagged(tag_of(owner)) != Some(owner)
}

fn give_back(arena: &Arena, place: &Place, word: Word, now: u64, me: Owner) {
    arena.give_back(place, word, place.birth(now), me);
}

/// A block that somebody owned alone, with what is in it.
fn give_back_cell(arena: &Arena, cell: Cell, word: Word, now: u64, me: Owner) {
    if note_of(&cell).kind == Kind::Parcel as u8 {
        destroy(Kind::Parcel as u8, cell.ptr, cell.size as usize);
    }
    give_back(arena, &Place::Cell(cell), word, now, me);
}

/// A block that waits for a process that died.
fn take_back(arena: &Arena, cell: &Cell, word: Word, now: u64, me: Owner) {
    let owned = word.with(State::Owned(me));
    // DEATH: from here on it is ours, and given back as such.
    let taken = cell
        .word
        .compare_exchange(word.encode(), owned.encode(), AcqRel, Relaxed);
    if taken.is_ok() {
        give_back_cell(arena, *cell, owned, now, me);
    }
}

fn end(arena: &Arena, cell: &Cell, word: Word, me: Owner) {
    let dying = word.with(State::Dying(me));
    if cell
        .word
        .compare_exchange(word.encode(), dying.encode(), AcqRel, Relaxed)
        .is_ok()
    {
        arena.bury(cell, dying);
    }
}

fn still_pinned(birth: u32, upto: u32, now: u64) -> bool {
    pinned(full_birth(birth, now), full_birth(upto, now))
}
