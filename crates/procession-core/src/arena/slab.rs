//! Slabs: up to 64 cells of one size class, never put to another use.
//!
//! The owner words are the truth. `hint` and the `Partial` table say where a free cell probably is; a death can leave
//! them wrong in both directions, and `reclaim` heals them.

use super::layout::{Table, UNIT};
use super::word::{is_free, Note, State, Word};
use super::Arena;
use crate::roll::Owner;
use crate::sys::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crate::{Error, Result};

/// Cell sizes; the last is that of queue segments, which share a class with nothing else.
const SIZES: [u32; CLASSES] = [
    64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 4608,
];
/// Number of size classes.
pub(crate) const CLASSES: usize = 19;
/// The class of queue segments.
pub(crate) const SEGMENTS: usize = CLASSES - 1;
/// The largest payload of a cell.
pub(crate) const LARGEST_CELL: usize = 32 << 10;
/// No slab is larger than this, unless it has the 64 cells of segments.
const LARGEST_SLAB: u32 = 256 << 10;

const CLASS_OF: [u8; LARGEST_CELL / 64 + 1] = {
    let mut table = [0; LARGEST_CELL / 64 + 1];
    let mut granules = 0;
    let mut class = 0;
    while granules < table.len() {
        while (SIZES[class] as usize) < granules * 64 {
            class += 1;
        }
        table[granules] = class as u8;
        granules += 1;
    }
    table
};

/// The class whose cells hold `len` bytes, if any does.
pub(crate) fn class_of(len: usize) -> Option<usize> {
    CLASS_OF.get(len.div_ceil(64)).map(|&class| usize::from(class))
}

fn cells_of(class: usize) -> u32 {
    if class == SEGMENTS {
        return 64;
    }
    (LARGEST_SLAB / SIZES[class]).next_power_of_two().clamp(8, 64)
}

fn mask_of(class: usize) -> u64 {
    u64::MAX >> (64 - cells_of(class))
}

/// What the arena knows about a slab; lies outside the slab, so that no payload can damage it.
#[repr(C, align(64))]
pub(crate) struct Descriptor {
    /// Offset of the first cell. Written before the slab is published, never again.
    base: AtomicU64,
    /// Hint: one bit a cell that is probably free.
    hint: AtomicU64,
    /// Size class. Written before the slab is published, never again.
    class: AtomicU32,
    /// Owner words.
    words: [AtomicU64; 64],
    /// Notes.
    notes: [AtomicU64; 64],
}

/// A cell that exists: in range, in a published slab.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub index: u32,
    pub size: u32,
    pub ptr: *mut u8,
    pub word: &'static AtomicU64,
    pub note: &'static AtomicU64,
    hint: &'static AtomicU64,
    class: u32,
}

/// The slab last used by this process, by class (slab + 1): where it looks first.
static LAST: [AtomicU32; CLASSES] = [const { AtomicU32::new(0) }; CLASSES];

/// Start looking elsewhere than the parent does.
pub(super) fn after_fork_child() {
    for last in &LAST {
        last.store(0, Relaxed);
    }
}

impl Arena {
    fn descriptors(&self) -> &'static [Descriptor] {
        // SAFETY: the table's type; entries below the slab count are committed.
        unsafe { self.table(Table::Slabs) }
    }

    fn partial(&self, class: usize, slab: u32) -> (&'static AtomicU64, u64) {
        // SAFETY: the table's type; words of slabs below the slab count are committed.
        let words: &[AtomicU64] = unsafe { self.table(Table::Partial) };
        (&words[partial_index(class, slab as usize / 64)], 1 << (slab % 64))
    }

    /// How many slabs there are, as far as that can be.
    pub(crate) fn slab_count(&self) -> u32 {
        let entry = size_of::<Descriptor>();
        self.bounded(&self.header().slab_count, Table::Slabs, entry) as u32
    }

    /// The slab with this number, if there is one and it makes sense: cells of its class, all within the arena.
    fn slab(&self, slab: u32) -> Option<(&'static Descriptor, usize, *mut u8)> {
        if slab >= self.slab_count() {
            return None;
        }
        let descriptor = &self.descriptors()[slab as usize];
        let class = descriptor.class.load(Relaxed) as usize;
        let bytes = SIZES.get(class)? * cells_of(class);
        let base = descriptor.base.load(Relaxed);
        let fits = base % 64 == 0 && base >= self.layout().data;
        let ptr = self.at(base, u64::from(bytes)).filter(|_| fits)?.as_ptr();
        Some((descriptor, class, ptr))
    }

    /// The cell with this number, if there is one.
    pub(crate) fn cell(&self, index: u32) -> Option<Cell> {
        let (descriptor, class, base) = self.slab(index / 64)?;
        (index % 64 < cells_of(class)).then(|| cell_in(descriptor, class, base, index))
    }

    /// A cell of a class, owned by `me` alone; its content is unspecified.
    pub(crate) fn alloc_cell(&self, class: usize, me: Owner) -> Result<(Cell, Word)> {
        let last = LAST[class].load(Relaxed);
        if last != 0 {
            if let Some(found) = self.alloc_in(last - 1, class, me) {
                return Ok(found);
            }
        }
        if let Some(found) = self.alloc_anywhere(class, me) {
            return Ok(found);
        }
        self.with_memory("a small block", || self.grow(class, me))
    }

    fn alloc_anywhere(&self, class: usize, me: Owner) -> Option<(Cell, Word)> {
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

    fn alloc_in(&self, slab: u32, class: usize, me: Owner) -> Option<(Cell, Word)> {
        if slab >= self.slab_count() {
            return None;
        }
        let descriptor = &self.descriptors()[slab as usize];
        loop {
            let hint = descriptor.hint.load(Relaxed) & mask_of(class);
            if hint == 0 {
                self.note_full(descriptor, class, slab);
                return None;
            }
            let bit = hint & hint.wrapping_neg();
            // SYNC: acquires the word of the one who freed the cell and then set the bit: an older one would look as if the cell were in use,
            // and it would be lost until somebody heals.
            if descriptor.hint.fetch_and(!bit, Acquire) & bit == 0 {
                continue;
            }
            // DEATH: here a free cell has no hint; `heal` gives it one.
            let cell = self
                .cell(slab * 64 + bit.trailing_zeros())
                .filter(|cell| cell.class as usize == class)?;
            let bits = cell.word.load(Relaxed);
            let word = Word::decode(bits);
            if word.state != State::Free {
                continue;
            }
            let owned = word.with(State::Owned(me));
            // SYNC: acquires what the one who freed the cell did to it last.
            if cell
                .word
                .compare_exchange(bits, owned.encode(), Acquire, Relaxed)
                .is_ok()
            {
                return Some((cell, owned));
            }
        }
    }

    fn note_full(&self, descriptor: &Descriptor, class: usize, slab: u32) {
        let (word, bit) = self.partial(class, slab);
        if word.load(Relaxed) & bit != 0 {
            word.fetch_and(!bit, AcqRel);
            // SYNC: somebody may have freed a cell in between and have seen the bit still set.
            if descriptor.hint.load(Acquire) != 0 {
                word.fetch_or(bit, AcqRel);
            }
        }
    }

    /// Give a cell back whose word is `from`. False when it is not: then nothing happened.
    pub(crate) fn free_cell(&self, cell: &Cell, from: Word) -> bool {
        // SYNC: releases our last accesses to whoever allocates it next.
        let freed = cell
            .word
            .compare_exchange(from.encode(), from.freed().encode(), Release, Relaxed)
            .is_ok();
        if freed {
            // DEATH: here a free cell has no hint; `heal` gives it one.
            self.hint_free(cell);
        }
        freed
    }

    fn hint_free(&self, cell: &Cell) {
        let before = cell.hint.fetch_or(1 << (cell.index % 64), AcqRel);
        if before == 0 {
            let (word, bit) = self.partial(cell.class as usize, cell.index / 64);
            word.fetch_or(bit, AcqRel);
        }
    }

    /// Every free cell gets its hint back. Run by a reclaimer.
    pub(crate) fn heal_hints(&self, slab: u32) {
        let Some((descriptor, class, _)) = self.slab(slab) else {
            return;
        };
        let words = &descriptor.words[..cells_of(class) as usize];
        let bit = |(number, word): (usize, &AtomicU64)| u64::from(is_free(word.load(Relaxed))) << number;
        let free = words.iter().enumerate().map(bit).fold(0, |bits, bit| bits | bit);
        if descriptor.hint.fetch_or(free, AcqRel) | free != 0 {
            let (word, bit) = self.partial(class, slab);
            word.fetch_or(bit, AcqRel);
        }
    }

    /// All cells of a slab that are not free, by their owner words.
    pub(crate) fn used_cells(&self, slab: u32) -> impl Iterator<Item = (Cell, Word)> {
        let found = self.slab(slab);
        found.into_iter().flat_map(move |(descriptor, class, base)| {
            let words = &descriptor.words[..cells_of(class) as usize];
            (slab * 64..).zip(words).filter_map(move |(index, word)| {
                let bits = word.load(Acquire);
                (!is_free(bits)).then(|| (cell_in(descriptor, class, base, index), Word::decode(bits)))
            })
        })
    }

    /// A new slab, and a cell of it.
    fn grow(&self, class: usize, me: Owner) -> Result<(Cell, Word)> {
        let bytes = u64::from(SIZES[class] * cells_of(class));
        super::warm::charge(bytes, "a small block")?;
        let guard = self.lock_memory(me);
        // Somebody else may have made one while we waited.
        if let Some(found) = self.alloc_anywhere(class, me) {
            return Ok(found);
        }
        let header = self.header();
        let count = self.slab_count();
        let exhausted = Error::Exhausted {
            what: "a small block",
            wanted: bytes,
        };
        if u64::from(count) >= self.layout().slabs {
            return Err(exhausted);
        }
        let data = self.layout().data;
        let Some(base) = self.slab_bottom().checked_sub(bytes) else {
            return Err(exhausted);
        };
        if base < data + self.unit_top() * UNIT {
            return Err(exhausted);
        }
        self.ensure(
            Table::Slabs,
            (u64::from(count) + 1) * size_of::<Descriptor>() as u64,
            "slab descriptors",
        )?;
        self.ensure(
            Table::Partial,
            (partial_index(CLASSES - 1, count as usize / 64) as u64 + 1) * 8,
            "slab descriptors",
        )?;
        self.forget_units(base, bytes)?;
        self.commit(base, bytes, "a small block")?;
        let descriptor = &self.descriptors()[count as usize];
        descriptor.base.store(base, Relaxed);
        descriptor.class.store(class as u32, Relaxed);
        descriptor.hint.store(mask_of(class), Relaxed);
        // DEATH: before this store nothing happened but a commit; after it the slab exists (`heal` finds it if its partial bit is missing).
        header.slab_count.store(u64::from(count) + 1, Release);
        let (word, bit) = self.partial(class, count);
        word.fetch_or(bit, AcqRel);
        LAST[class].store(count + 1, Relaxed);
        let found = self.alloc_in(count, class, me);
        drop(guard);
        found.map_or_else(|| self.alloc_anywhere(class, me).ok_or(exhausted), Ok)
    }

    /// Where the lowest slab begins: slabs grow downwards from the end of the data area.
    pub(crate) fn slab_bottom(&self) -> u64 {
        let layout = self.layout();
        let end = layout.data + layout.units * UNIT;
        match self.slab_count() {
            0 => end,
            count => self.descriptors()[count as usize - 1]
                .base
                .load(Relaxed)
                .clamp(layout.data, end),
        }
    }
}

/// The caller has checked that the slab has such a cell.
fn cell_in(descriptor: &'static Descriptor, class: usize, base: *mut u8, index: u32) -> Cell {
    let (number, size) = ((index % 64) as usize, SIZES[class]);
    Cell {
        index,
        size,
        ptr: base.wrapping_add(number * size as usize),
        word: &descriptor.words[number],
        note: &descriptor.notes[number],
        hint: &descriptor.hint,
        class: class as u32,
    }
}

/// Eight words (one cache line) of a class, then eight of the next: so that a prefix of the table serves the slabs there are.
fn partial_index(class: usize, word: usize) -> usize {
    (word / 8 * CLASSES + class) * 8 + word % 8
}

/// Record birth and kind; says at the same time that it begins with no references.
pub(crate) fn write_note(cell: &Cell, birth: u32, kind: u8) {
    let references = 0;
    cell.note.store(
        Note {
            birth,
            kind,
            references,
        }
        .encode(),
        Relaxed,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_are_for_and_waste_at_most_half() {
        for len in 0..=LARGEST_CELL {
            let class = class_of(len).unwrap();
            assert!(class != SEGMENTS && SIZES[class] as usize >= len);
            assert!(class == 0 || (SIZES[class - 1] as usize) < len);
        }
        assert_eq!(class_of(LARGEST_CELL + 1), None);
    }

    #[test]
    fn slabs_are_whole_pages() {
        for (class, size) in SIZES.into_iter().enumerate() {
            let cells = cells_of(class);
            assert!((8..=64).contains(&cells));
            assert_eq!(size * cells % 4096, 0);
            assert_eq!(mask_of(class).count_ones(), cells);
        }
    }

    #[test]
    fn partial_words_are_all_different() {
        let mut seen = std::collections::HashSet::new();
        for class in 0..CLASSES {
            for word in 0..64 {
                assert!(seen.insert(partial_index(class, word)));
            }
        }
        assert_eq!(seen.len(), seen.iter().max().unwrap() + 1);
    }
}
