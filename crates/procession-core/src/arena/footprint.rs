//! The slabs in which a process may own cells, so that its death costs a look at these and not at all that exist.
//!
//! Before a process takes hold of a cell (OWNED, DYING), or may leave a hint wrong, it adds the slab's number to its
//! *footprint*, a list in its directory. While the list grows, and when there is no memory for that, the footprint says
//! EVERYWHERE. A slab stays in the list as long as the process lives.
//!
//! A cell that outlives its process, DEFERRED or AWAITED, is found by *marks*, one bit for each slab.

use crate::ids::Owner;
use std::ptr;
use std::sync::atomic::{
    AtomicPtr, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Mutex, PoisonError};

use super::class::class_of;
use super::directory::{Footprint, EVERYWHERE};
use super::layout::{FixedTable, MAX_SLABS};
use super::slab::Cell;
use super::word::{CellState, OwnerWord, MAX_KIND};
use super::Arena;

/// Bytes of a chunk: the number of the next chunk's cell (+ 1), then slabs (+ 1).
const CHUNK: usize = 1024;
/// The kind in the note of a chunk; no object has it.
const LIST: u8 = MAX_KIND;

/// Whether an owned cell is part of a footprint's list.
pub(super) fn is_list(cell: &Cell) -> bool {
    cell.read_note().kind == LIST
}

/// The slabs in which a dead process may own cells, and the cells of its list.
pub(crate) struct Footprints {
    pub(crate) slabs: Vec<u32>,
    pub(crate) chunks: Vec<Cell>,
}

/// Slabs of a leaf, and number of leaves for the largest arena.
const LEAF: usize = 4096;
const LEAVES: usize = MAX_SLABS as usize / LEAF;
type Leaf = [AtomicU64; LEAF / 64];

/// This process's view of its own footprint. Made on first use; a child of fork makes its own.
static LOCAL: AtomicPtr<LocalFootprint> = AtomicPtr::new(ptr::null_mut());

struct LocalFootprint {
    /// One bit for each slab in the list.
    leaves: [AtomicPtr<Leaf>; LEAVES],
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    near: usize,
    /// The chunk that is being filled, and how many of its words are filled.
    chunk: Option<(&'static [AtomicU64], usize)>,
    growing: bool,
    /// Slabs that are not in the list yet: the footprint says EVERYWHERE.
    pending: Vec<u32>,
}

pub(super) fn after_fork_child() {
    LOCAL.store(ptr::null_mut(), Release);
}

/// The value in `slot`, made by `fresh` if there is none.
fn make<T>(slot: &AtomicPtr<T>, fresh: impl FnOnce() -> T) -> &'static T {
    let mut there = slot.load(Acquire);
    if there.is_null() {
        let fresh = Box::into_raw(Box::new(fresh()));
        there = match slot.compare_exchange(ptr::null_mut(), fresh, AcqRel, Acquire) {
            Ok(_) => fresh,
            Err(first) => {
                // SAFETY: made above, and no other thread has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                first
            }
        };
    }
    // SAFETY: what these slots point to is never freed.
    unsafe { &*there }
}

impl LocalFootprint {
    fn new() -> Self {
        Self {
            leaves: [const { AtomicPtr::new(ptr::null_mut()) }; LEAVES],
            list: Mutex::default(),
        }
    }

    fn has(&self, slab: u32) -> bool {
        let leaf = self.leaves.get(slab as usize / LEAF).map(|leaf| leaf.load(Acquire));
        let Some(leaf) = leaf.filter(|leaf| !leaf.is_null()) else {
            return false;
        };
        // SAFETY: leaves are never freed.
        let word = unsafe { &(&*leaf)[slab as usize % LEAF / 64] };
        word.load(Acquire) & 1 << (slab % 64) != 0
    }

    fn set(&self, slab: u32) {
        if let Some(leaf) = self.leaves.get(slab as usize / LEAF) {
            let leaf = make(leaf, || [const { AtomicU64::new(0) }; LEAF / 64]);
            leaf[slab as usize % LEAF / 64].fetch_or(1 << (slab % 64), Release);
        }
    }
}

impl List {
    /// Add a slab, if the list has room.
    fn record(&mut self, footprint: &Footprint, slab: u32) -> bool {
        if let Some(word) = footprint.near.get(self.near) {
            word.store(slab + 1, Release);
            self.near += 1;
            return true;
        }
        match &mut self.chunk {
            Some((words, filled)) if *filled < words.len() => {
                words[*filled].store(u64::from(slab) + 1, Release);
                *filled += 1;
                true
            }
            _ => false,
        }
    }
}

impl Arena {
    /// Record that this process is about to take hold of cells of a slab, so that a survivor finds them.
    #[inline]
    pub(crate) fn add_to_footprint(&self, slab: u32, me: Owner) {
        let local = LOCAL.load(Acquire);
        // SAFETY: what LOCAL points to is never freed.
        if local.is_null() || !unsafe { &*local }.has(slab) {
            self.add_first_to_footprint(slab, me);
        }
    }

    #[cold]
    fn add_first_to_footprint(&self, slab: u32, me: Owner) {
        let local = make(&LOCAL, LocalFootprint::new);
        let Some(directory) = self.directory_of(me.slot()) else {
            return;
        };
        let footprint = &directory.footprint;
        let lock = || local.list.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = lock();
        if local.has(slab) {
            return;
        }
        list.pending.push(slab);
        if list.growing {
            return;
        }
        loop {
            while let Some(&slab) = list.pending.last() {
                if !local.has(slab) {
                    if !list.record(footprint, slab) {
                        break;
                    }
                    local.set(slab);
                }
                list.pending.pop();
            }
            if list.pending.is_empty() {
                list.growing = false;
                footprint.head.fetch_and(!EVERYWHERE, Release);
                return;
            }
            // DEATH: until the list is complete again, a survivor looks at all slabs.
            footprint.head.fetch_or(EVERYWHERE, AcqRel);
            list.growing = true;
            drop(list);
            // The allocation adds slabs to the footprint itself, and finds that the list is growing. It must not sweep:
            // the caller may be in the middle of a change of a reference, and a sweep changes others.
            let chunk = class_of(CHUNK).and_then(|class| self.alloc_without_sweep(class, CHUNK, me).ok());
            list = lock();
            let Some((cell, _)) = chunk else {
                list.growing = false;
                return; // it stays EVERYWHERE until the next time
            };
            cell.write_note(self.births() as u32, LIST);
            let words = words_of(&cell);
            words[0].store(footprint.head.load(Acquire) & !EVERYWHERE, Relaxed);
            for word in &words[1..] {
                word.store(0, Relaxed);
            }
            footprint.head.store(EVERYWHERE | (u64::from(cell.index) + 1), Release);
            list.chunk = Some((words, 1));
        }
    }

    /// The slabs in which a dead process may own cells.
    pub(crate) fn footprints_of(&self, dead: Owner) -> Footprints {
        let known = self.directory_of(dead.slot()).and_then(|directory| {
            let footprint = &directory.footprint;
            let near = footprint.near.iter().map(|slab| u64::from(slab.load(Acquire)));
            let (mut slabs, mut chunks): (Vec<u64>, Vec<Cell>) = (near.collect(), Vec::new());
            let mut next = footprint.head.load(Acquire);
            // Bounds the walk: a damaged chain must not loop for ever.
            let mut left = self.slab_count() * 64;
            while next != 0 {
                left = left.checked_sub(1)?;
                let cell = self.cell(u32::try_from(next - 1).ok()?)?;
                let state = OwnerWord::decode(cell.word.load(Acquire)).state;
                if state != CellState::Owned(dead)
                    || cell.size < CHUNK
                    || !is_list(&cell)
                    || self.reach_cell(&cell, CHUNK).is_err()
                {
                    return None;
                }
                let words = words_of(&cell);
                slabs.extend(words[1..].iter().map(|slab| slab.load(Acquire)));
                next = words[0].load(Relaxed);
                chunks.push(cell);
            }
            let slabs = slabs
                .into_iter()
                .filter_map(|slab| u32::try_from(slab.checked_sub(1)?).ok());
            let slabs = slabs.collect();
            Some(Footprints { slabs, chunks })
        });
        known.unwrap_or_else(|| Footprints {
            slabs: (0..self.slab_count()).collect(),
            chunks: Vec::new(),
        })
    }

    /// Clear the footprint of a dead process, which owns nothing any more but the list.
    pub(crate) fn forget_footprint(&self, dead: Owner, footprints: &Footprints) {
        let Some(directory) = self.directory_of(dead.slot()) else {
            return;
        };
        // DEATH: from here on the chunks may be cells of other processes; those that are left are found by a look at
        // all slabs.
        directory.footprint.head.store(EVERYWHERE, Release);
        for cell in &footprints.chunks {
            let word = OwnerWord::decode(cell.word.load(Acquire));
            if word.state == CellState::Owned(dead) {
                self.free_cell(cell, word);
            }
        }
        for slab in &directory.footprint.near {
            slab.store(0, Relaxed);
        }
        directory.footprint.head.store(0, Release);
    }

    fn marks(&self) -> &'static [AtomicU64] {
        // SAFETY: the table's type is atomic words; those of slabs below the slab count are committed.
        unsafe { self.table(FixedTable::Marks) }
    }

    /// Mark a slab: some of its cells are, or will be, deferred or awaited. To be called before they are, and again
    /// afterwards: then a sweep that clears the mark in between sees the cell, or the mark stays. The slab is in the
    /// caller's footprint: if the caller dies, its reaper sets the mark again for such cells.
    pub(crate) fn mark(&self, slab: u32) {
        if let Some(word) = self
            .marks()
            .get(slab as usize / 64)
            .filter(|_| slab < self.slab_count())
        {
            word.fetch_or(1 << (slab % 64), AcqRel);
        }
    }

    /// Clear the mark of a slab that has no cell to be swept. It may get one at this moment, so the caller looks again
    /// afterwards.
    pub(crate) fn unmark(&self, slab: u32, me: Owner) {
        self.add_to_footprint(slab, me);
        if let Some(word) = self.marks().get(slab as usize / 64) {
            word.fetch_and(!(1 << (slab % 64)), AcqRel);
        }
    }

    /// All slabs with a mark.
    pub(crate) fn marked(&self) -> impl Iterator<Item = u32> {
        let words = self.slab_count().div_ceil(64);
        (0..).zip(self.marks()).take(words as usize).flat_map(|(number, word)| {
            let mut bits = word.load(Acquire);
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (bit < 64).then_some(number * 64 + bit)
            })
        })
    }
}

fn words_of(cell: &Cell) -> &'static [AtomicU64] {
    // SAFETY: a cell of at least CHUNK bytes (checked by the callers), in the mapping, 64-aligned, and used as words
    // while it is a chunk.
    unsafe { std::slice::from_raw_parts(cell.ptr.cast(), CHUNK / 8) }
}
