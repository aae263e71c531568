//! Slabs: up to 64 cells of one size class.
//!
//! The owner words are authoritative. `busy` and the `Partial` table are hints of where a free cell is. A death can
//! leave them wrong in both directions, and `reclaim` heals them. A descriptor of zeros is that of a slab with all
//! cells free. The file is long because all that changes a descriptor or a hint is in it.

use super::class::{bytes_of, cells_of, is_large, mask_of, size_of_cell, BUCKETS, CLASSES, LARGE_CELLS, SEGMENTS};
use super::descriptor::{join, split, Descriptor, STEP};
use super::layout::{FixedTable, GRAIN};
use super::partial::{partial_index, table_bytes};
use super::word::{is_free, is_unused, CellState, OwnerWord};
use super::Arena;
use crate::ids::Owner;
use crate::sys::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crate::{Error, Result};

/// A slab that exists: its cells are all of its class and within the arena.
#[derive(Clone, Copy)]
pub(crate) struct Slab {
    pub number: u32,
    pub class: usize,
    /// Offset of the first cell.
    pub base: u64,
    pub(super) descriptor: &'static Descriptor,
    first: *mut u8,
}

/// A cell that exists: in range, in a published slab.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub index: u32,
    pub size: usize,
    /// Start address. [Reach](Arena::reach_cell) the cell before touching it.
    pub ptr: *mut u8,
    pub word: &'static AtomicU64,
    pub note: &'static AtomicU64,
    slab: Slab,
}

/// For each class, the slab that this process used last (slab + 1): it looks there first.
static LAST: [AtomicU32; CLASSES] = [const { AtomicU32::new(0) }; CLASSES];

/// Start looking elsewhere than the parent does.
pub(super) fn after_fork_child() {
    for last in &LAST {
        last.store(0, Relaxed);
    }
}

/// What a cell of a class is, in errors.
fn what_of(class: usize) -> &'static str {
    if is_large(class) {
        "a large block"
    } else {
        "a small block"
    }
}

impl Slab {
    /// The owner words. For a slab that can change its class, they include those of the cells that it may have had in
    /// another class.
    pub(super) fn words(&self) -> &'static [AtomicU64] {
        let count = if is_large(self.class) {
            LARGE_CELLS
        } else {
            cells_of(self.class) as usize
        };
        &self.descriptor.words[..count]
    }

    /// One bit for each cell with an owner word that satisfies `is`.
    fn cells_where(&self, is: impl Fn(u64) -> bool) -> u64 {
        let words = self.words();
        let (mut found, mut number) = (0, 0);
        // Every death does this for each slab of a footprint. A plain loop is fast in any build.
        while number < words.len() {
            found |= u64::from(is(words[number].load(Relaxed))) << number;
            number += 1;
        }
        found
    }

    /// The cell with this number. The caller has checked that it exists.
    pub(super) fn cell(self, number: u32) -> Cell {
        let size = size_of_cell(self.class) as usize;
        Cell {
            index: self.number * 64 + number,
            size,
            ptr: self.first.wrapping_add(number as usize * size),
            word: &self.descriptor.words[number as usize],
            note: &self.descriptor.notes[number as usize],
            slab: self,
        }
    }
}

impl Cell {
    /// The extent that the cell lies in: its word, its offset and its length.
    pub(super) fn extent(&self) -> (&'static AtomicU64, u64, u64) {
        let Slab {
            class,
            base,
            descriptor,
            ..
        } = self.slab;
        if is_large(class) {
            let (number, size) = (self.index as usize % 64, self.size as u64);
            (
                &descriptor.extents[number % LARGE_CELLS],
                base + number as u64 * size,
                size,
            )
        } else {
            (&descriptor.extents[0], base, bytes_of(class))
        }
    }

    /// Offset of the cell in the arena.
    pub(super) fn offset(&self) -> u64 {
        self.slab.base + u64::from(self.index % 64) * self.size as u64
    }

    pub(super) fn slab(&self) -> &Slab {
        &self.slab
    }

    pub(super) fn is_large(&self) -> bool {
        is_large(self.slab.class)
    }

    /// Whether it is a queue segment.
    pub(crate) fn is_segment(&self) -> bool {
        self.slab.class == SEGMENTS
    }

    /// Whether it is a part of a dictionary's table.
    pub(super) fn is_buckets(&self) -> bool {
        self.slab.class == BUCKETS
    }
}

impl Arena {
    fn descriptors(&self) -> &'static [Descriptor] {
        // SAFETY: `Descriptor` is the table's type; entries below the slab count are committed.
        unsafe { self.table(FixedTable::Slabs) }
    }

    pub(super) fn partial(&self, class: usize, slab: u32) -> (&'static AtomicU64, u64) {
        // SAFETY: the table's type is atomic words; those of slabs below the slab count are committed.
        let words: &[AtomicU64] = unsafe { self.table(FixedTable::Partial) };
        (&words[partial_index(class, slab as usize / 64)], 1 << (slab % 64))
    }

    /// How many slabs there are, but never more than the committed tables have room for.
    pub(crate) fn slab_count(&self) -> u32 {
        let entry = size_of::<Descriptor>();
        let count = self.bounded(&self.header().slab_count, FixedTable::Slabs, entry);
        // Without address space for their descriptors, the later slabs do not exist for this process.
        let reached = self.reach_slabs(count).map_or_else(|_| self.reached(), |()| count);
        reached as u32
    }

    /// The slab with this number, if it exists and its descriptor is valid.
    pub(crate) fn slab(&self, number: u32) -> Option<Slab> {
        // What this process has reached exists: the count is read only for newer slabs.
        if u64::from(number) >= self.reached() && number >= self.slab_count() {
            return None;
        }
        let descriptor = &self.descriptors()[number as usize];
        let (base, class) = split(descriptor.place.load(Relaxed))?;
        let ptr = self
            .range(base, bytes_of(class))
            .filter(|_| base >= self.layout().data)?;
        Some(Slab {
            number,
            class,
            base,
            descriptor,
            first: ptr.as_ptr(),
        })
    }

    /// Map the descriptor of the cell with this number, if there is such a slab. If this fails, the cell is not known to
    /// be missing: this process cannot look.
    #[cold]
    pub(super) fn reach_descriptor(&self, index: u32) -> Result<()> {
        let number = u64::from(index / 64);
        let count = self.bounded(&self.header().slab_count, FixedTable::Slabs, size_of::<Descriptor>());
        if number < count {
            self.reach_slabs(number + 1)?;
        }
        Ok(())
    }

    /// The cell with this number, if there is one.
    pub(crate) fn cell(&self, index: u32) -> Option<Cell> {
        let slab = self.slab(index / 64)?;
        (index % 64 < cells_of(slab.class)).then(|| slab.cell(index % 64))
    }

    /// Map the first `len` bytes of a cell in this process. Comes before they are touched.
    #[inline]
    pub(crate) fn reach_cell(&self, cell: &Cell, len: usize) -> Result<()> {
        self.reach(cell.offset(), len as u64).map(drop)
    }

    /// Allocate a cell of a class, committed as far as `len` bytes reach and owned by `me` alone. Its content is
    /// unspecified.
    pub(crate) fn alloc_cell(&self, class: usize, len: usize, me: Owner) -> Result<(Cell, OwnerWord)> {
        let what = what_of(class);
        self.with_memory(what, |again| {
            let first = self.alloc_without_sweep(class, len, me);
            // Memory of another class is taken only after idle memory has been given back.
            first.or_else(|error| match again.then(|| self.alloc_other(class, me)).flatten() {
                Some(other) => self.use_cell(other, len, what),
                None => Err(error),
            })
        })
    }

    /// As [`alloc_cell`](Self::alloc_cell), but when memory is exhausted nothing is freed for it.
    pub(super) fn alloc_without_sweep(&self, class: usize, len: usize, me: Owner) -> Result<(Cell, OwnerWord)> {
        self.find_cell(class, me)
            .and_then(|found| self.use_cell(found, len, what_of(class)))
    }

    /// Commit and map `len` bytes of a cell that this process owns. On failure the cell is given back.
    fn use_cell(&self, (cell, owned): (Cell, OwnerWord), len: usize, what: &'static str) -> Result<(Cell, OwnerWord)> {
        if cell.is_large() {
            self.note_used(&cell);
        }
        // DEATH: the cell is owned, and a survivor frees it.
        let ready = self
            .reach_cell(&cell, len)
            .and_then(|()| self.commit_cell(&cell, len as u64, what));
        ready.map(|()| (cell, owned)).inspect_err(|_| {
            self.free_cell(&cell, owned);
        })
    }

    fn find_cell(&self, class: usize, me: Owner) -> Result<(Cell, OwnerWord)> {
        let last = LAST[class].load(Relaxed);
        if last != 0 {
            if let Some(found) = self.alloc_in(last - 1, class, me) {
                return Ok(found);
            }
        }
        loop {
            // SYNC: read before the search. A slab that another process makes meanwhile has this number, and is
            // searched in the next round.
            let number = self.slab_count();
            if let Some(found) = self.alloc_anywhere(class, me) {
                return Ok(found);
            }
            self.grow(number, class)?;
            LAST[class].store(number + 1, Relaxed);
        }
    }

    pub(super) fn alloc_anywhere(&self, class: usize, me: Owner) -> Option<(Cell, OwnerWord)> {
        for first in (0..self.slab_count()).step_by(64) {
            let (word, _) = self.partial(class, first);
            let mut candidates = word.load(Relaxed);
            while candidates != 0 {
                let slab = first + candidates.trailing_zeros();
                candidates &= candidates - 1;
                if let Some(found) = self.alloc_in(slab, class, me) {
                    LAST[class].store(slab + 1, Relaxed);
                    return Some(found);
                }
            }
        }
        None
    }

    pub(super) fn alloc_in(&self, number: u32, class: usize, me: Owner) -> Option<(Cell, OwnerWord)> {
        let slab = self.slab(number)?;
        if slab.class != class {
            self.note_other(class, number);
            return None;
        }
        let busy = &slab.descriptor.busy;
        loop {
            let free = !busy.load(Relaxed) & mask_of(class);
            if free == 0 {
                self.note_full(&slab);
                return None;
            }
            self.add_to_footprint(number, me);
            let bit = free & free.wrapping_neg();
            // SYNC: acquires the word that was written when the cell was freed, before the bit was cleared. With an
            // older word the cell would look in use, and would be lost until its hint is healed.
            if busy.fetch_or(bit, Acquire) & bit != 0 {
                continue;
            }
            // DEATH: here a free cell looks busy; `heal_hints` corrects that.
            let cell = slab.cell(bit.trailing_zeros());
            let bits = cell.word.load(Relaxed);
            let word = OwnerWord::decode(bits);
            if word.state != CellState::Free {
                continue;
            }
            let owned = word.with(CellState::Owned(me));
            // SYNC: acquires the last writes of the process that freed the cell, and what a trimmer recorded about its
            // extent. On failure another thread or process has the cell now, and clears the bit.
            if cell
                .word
                .compare_exchange(bits, owned.encode(), Acquire, Relaxed)
                .is_ok()
            {
                // While we own a cell the slab keeps its class; before that it may have got another.
                if is_large(class) && slab.descriptor.place.load(Relaxed) != join(slab.base, class) {
                    self.free_cell(&cell, owned);
                    return None;
                }
                return Some((cell, owned));
            }
        }
    }

    /// Clear the hint that the slab is of this class, unless it has become one again.
    fn note_other(&self, class: usize, number: u32) {
        let (word, bit) = self.partial(class, number);
        if word.fetch_and(!bit, AcqRel) & bit != 0 && self.slab(number).is_some_and(|slab| slab.class == class) {
            word.fetch_or(bit, AcqRel);
        }
    }

    fn note_full(&self, slab: &Slab) {
        let (word, bit) = self.partial(slab.class, slab.number);
        if word.load(Relaxed) & bit != 0 {
            word.fetch_and(!bit, AcqRel);
            // SYNC: a process may have freed a cell in between and have seen the bit still set.
            if !slab.descriptor.busy.load(Acquire) & mask_of(slab.class) != 0 {
                word.fetch_or(bit, AcqRel);
            }
        }
    }

    /// Free a cell if its word is `from`. If the word is another, change nothing and return false.
    pub(crate) fn free_cell(&self, cell: &Cell, from: OwnerWord) -> bool {
        let to = from.freed();
        // SYNC: releases our last accesses to the next owner of the cell.
        let freed = cell
            .word
            .compare_exchange(from.encode(), to.encode(), Release, Relaxed)
            .is_ok();
        if freed && to.state == CellState::Free {
            // DEATH: here a free cell looks busy; `heal_hints` corrects that.
            let is_empty = self.hint_free(cell);
            if cell.is_large() {
                self.note_freed(cell);
            } else if is_empty {
                self.note_empty(&cell.slab);
            }
        }
        freed
    }

    /// Note that a cell is free. Returns whether all cells of its slab seem to be.
    pub(super) fn hint_free(&self, cell: &Cell) -> bool {
        let mask = mask_of(cell.slab.class);
        let bit = 1 << (cell.index % 64);
        let before = cell.slab.descriptor.busy.fetch_and(!bit, AcqRel);
        if before & mask == mask {
            let (word, bit) = self.partial(cell.slab.class, cell.slab.number);
            word.fetch_or(bit, AcqRel);
        }
        before & mask == bit
    }

    /// Heal a slab's hints, so that no free cell looks busy any more. A reclaimer runs this.
    pub(crate) fn heal_hints(&self, slab: u32) {
        let Some(slab) = self.slab(slab) else {
            return;
        };
        let free = slab.cells_where(is_free);
        if !slab.descriptor.busy.fetch_and(!free, AcqRel) & mask_of(slab.class) | free != 0 {
            let (word, bit) = self.partial(slab.class, slab.number);
            word.fetch_or(bit, AcqRel);
        }
    }

    /// All cells of a slab that are not free, by their owner words.
    pub(crate) fn used_cells(&self, slab: u32) -> impl Iterator<Item = (Cell, OwnerWord)> {
        let found = self.slab(slab);
        found.into_iter().flat_map(|slab| {
            let mut used = slab.cells_where(|bits| !is_unused(bits));
            std::iter::from_fn(move || {
                while used != 0 {
                    let cell = slab.cell(used.trailing_zeros());
                    used &= used - 1;
                    let bits = cell.word.load(Acquire);
                    if !is_unused(bits) {
                        return Some((cell, OwnerWord::decode(bits)));
                    }
                }
                None
            })
        })
    }

    /// Make the slab with this number, unless another process makes it. The maker waits for no other process: the
    /// slab's place is one compare-and-swap, and if the maker does not publish it, the next process that needs a slab
    /// does.
    fn grow(&self, number: u32, class: usize) -> Result<()> {
        let exhausted = || Error::Exhausted {
            what: "the arena's address range",
            wanted: bytes_of(class),
        };
        if u64::from(number) >= self.layout().slabs {
            return Err(exhausted());
        }
        for (table, bytes) in table_bytes(u64::from(number) + 1) {
            self.ensure(table, bytes, "slab descriptors")?;
        }
        self.reach_slabs(u64::from(number) + 1)?;
        let base = self.room_for(number, class).ok_or_else(exhausted)?;
        let place = &self.descriptors()[number as usize].place;
        // DEATH: from here on the slab has its place; the next process that needs a slab publishes it.
        let place = match place.compare_exchange(0, join(base, class), AcqRel, Acquire) {
            Ok(_) => join(base, class),
            Err(other) => other,
        };
        self.publish(number, place);
        Ok(())
    }

    /// Count the slab with this number, after its place is fixed. Several processes may do this at once, and again.
    fn publish(&self, number: u32, place: u64) {
        if let Some((_, class)) = split(place) {
            let (word, bit) = self.partial(class, number);
            word.fetch_or(bit, AcqRel);
        }
        let count = u64::from(number);
        // On failure another process did it.
        let _ = self
            .header()
            .slab_count
            .compare_exchange(count, count + 1, AcqRel, Relaxed);
    }

    /// Where a slab of a class begins if it gets this number. `None` if there is no room.
    fn room_for(&self, number: u32, class: usize) -> Option<u64> {
        let layout = self.layout();
        let end = match number.checked_sub(1) {
            None => layout.data,
            Some(before) => {
                let (base, class) = split(self.descriptors()[before as usize].place.load(Acquire))?;
                base.checked_add(bytes_of(class))?
            }
        };
        let base = end.checked_next_multiple_of(if is_large(class) { GRAIN } else { STEP })?;
        (base >= layout.data && base.checked_add(bytes_of(class))? <= layout.size).then_some(base)
    }
}
