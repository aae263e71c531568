//! What is committed of cells. Leaves to `warm` when it is given back.
//!
//! An *extent* is a large cell, or a whole slab of small ones. Its word says how many pages from its beginning are
//! committed for certain, and beyond how many none is. An owner of a cell in it raises these numbers, and the owner of
//! all cells in it lowers them: what an owner has seen committed stays committed. A process that makes a system call
//! here holds only cells of its own, so no other process waits for it.

use std::ops::Range;

use super::class::{cells_of, is_large};
use super::footprint::is_list;
use super::layout::GRAIN;
use super::slab::{Cell, Slab};
use super::warm::charge;
use super::word::{is_unused, CellState, OwnerWord};
use super::Arena;
use crate::ids::Owner;
use crate::sys::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crate::Result;

/// Unit in which extents are counted.
const PAGE: u64 = 4096;

/// Pages of an extent, from its beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Extent {
    /// Pages that are committed for certain.
    sure: u64,
    /// Pages beyond which none is committed. Not less than `sure`.
    upto: u64,
}

impl Extent {
    fn of(word: &AtomicU64) -> Self {
        Self::decode(word.load(Acquire))
    }

    fn decode(bits: u64) -> Self {
        Self {
            sure: bits & u64::from(u32::MAX),
            upto: bits >> 32,
        }
    }

    fn encode(self) -> u64 {
        self.upto << 32 | self.sure
    }

    /// Bytes that may be committed of an extent of `size` bytes: rounded up to [`GRAIN`], a multiple of every page
    /// size, but not beyond its end.
    fn bytes(self, size: u64) -> u64 {
        (self.upto * PAGE).next_multiple_of(GRAIN).min(size)
    }
}

/// Committed bytes of the arena's cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Committed and in use.
    pub used: u64,
    /// Committed, but not in use.
    pub idle: u64,
}

/// Bytes that are committed for certain, according to the extent's word.
pub(super) fn sure_bytes(word: &AtomicU64) -> u64 {
    Extent::of(word).sure * PAGE
}

impl Cell {
    /// Usable bytes of a cell that is in use.
    pub(super) fn capacity(&self) -> usize {
        if self.is_large() {
            self.size.min((Extent::of(self.extent().0).sure * PAGE) as usize)
        } else {
            self.size
        }
    }

    /// How many bytes may be committed of the extent that the cell lies in.
    pub(super) fn committed(&self) -> u64 {
        Extent::of(self.extent().0).upto * PAGE
    }
}

impl Arena {
    /// Commit as much of a cell that this process owns as `len` bytes need.
    pub(super) fn commit_cell(&self, cell: &Cell, len: u64, what: &'static str) -> Result<()> {
        let (word, offset, size) = cell.extent();
        let want = if cell.is_large() { len.min(size) } else { size }.div_ceil(PAGE);
        // SYNC: acquires what the process that committed it had seen.
        let mut bits = word.load(Acquire);
        while Extent::decode(bits).sure < want {
            let seen = Extent::decode(bits);
            charge((want - seen.sure) * PAGE, what)?;
            let begun = Extent {
                upto: seen.upto.max(want),
                ..seen
            }
            .encode();
            // Owners of other cells may commit the same slab.
            if let Err(now) = word.compare_exchange(bits, begun, AcqRel, Acquire) {
                bits = now;
                continue;
            }
            // DEATH: what is committed but not `sure` is committed again by the next owner, at no cost, or given back
            // with the rest.
            self.commit(offset + seen.sure * PAGE, (want - seen.sure) * PAGE, what)?;
            let done = Extent {
                sure: want,
                ..Extent::decode(begun)
            }
            .encode();
            match word.compare_exchange(begun, done, AcqRel, Acquire) {
                Ok(_) => break,
                Err(now) => bits = now,
            }
        }
        Ok(())
    }

    /// Give back what is committed of a slab and not in use. Returns how many bytes.
    pub(crate) fn trim_slab(&self, slab: &Slab, me: Owner) -> Result<u64> {
        let cells = cells_of(slab.class);
        if is_large(slab.class) {
            return (0..cells).map(|cell| self.trim_cells(slab, cell..cell + 1, me)).sum();
        }
        self.trim_cells(slab, 0..cells, me)
    }

    /// Give back the extent that these cells make up, unless one of them is in use. Returns how many bytes.
    fn trim_cells(&self, slab: &Slab, cells: Range<u32>, me: Owner) -> Result<u64> {
        let (word, ..) = slab.cell(cells.start).extent();
        let unused = |cell: u32| is_unused(slab.cell(cell).word.load(Relaxed));
        if Extent::of(word).upto == 0 || !cells.clone().all(unused) {
            return Ok(0);
        }
        self.add_to_footprint(slab.number, me);
        let claimed = cells.clone().take_while(|&cell| claim(&slab.cell(cell), me)).count() as u32;
        let mut end = Ok(0);
        if claimed == cells.len() as u32 {
            end = self.give_back_extent(&slab.cell(cells.start));
        }
        // DEATH: a reclaimer frees what is still ours.
        for cell in cells.take(claimed as usize) {
            self.unclaim(&slab.cell(cell), me);
        }
        end
    }

    /// Give back what is committed of the extent that a cell lies in. This process owns all cells of the extent.
    /// Returns how many bytes.
    pub(super) fn give_back_extent(&self, cell: &Cell) -> Result<u64> {
        let (word, offset, size) = cell.extent();
        let extent = Extent::of(word);
        if extent.upto == 0 {
            return Ok(0);
        }
        // DEATH: at any moment the pages that count as `sure` are committed. The next trimmer gives back those that
        // only may be.
        word.store(Extent { sure: 0, ..extent }.encode(), Release);
        self.punch(offset, extent.bytes(size))?;
        word.store(0, Release);
        Ok(extent.upto * PAGE)
    }

    /// Give back a cell that was free and that no token names: it keeps its generation.
    fn unclaim(&self, cell: &Cell, me: Owner) {
        let word = OwnerWord::decode(cell.word.load(Relaxed));
        if word.state == CellState::Owned(me) {
            // SYNC: releases what we recorded about the extent to the next owner of the cell.
            cell.word.store(word.with(CellState::Free).encode(), Release);
            self.hint_free(cell);
        }
    }

    /// How much is committed for cells, in use and idle, according to their words. Extents that only footprints use are
    /// neither.
    pub fn bytes(&self) -> Bytes {
        let mut bytes = Bytes::default();
        for slab in (0..self.slab_count()).filter_map(|number| self.slab(number)) {
            let words = slab.words();
            let step = if is_large(slab.class) { 1 } else { words.len() };
            for (number, words) in (0..).step_by(step).zip(words.chunks(step)) {
                let committed = slab.cell(number).committed();
                let in_use = (number..).zip(words).filter(|(_, word)| !is_unused(word.load(Relaxed)));
                match in_use
                    .map(|(number, _)| is_list(&slab.cell(number)))
                    .reduce(|all, list| all && list)
                {
                    None => bytes.idle += committed,
                    Some(false) => bytes.used += committed,
                    Some(true) => {}
                }
            }
        }
        bytes
    }
}

/// Take ownership of a free cell. A spent cell counts as taken: it is never used again.
pub(super) fn claim(cell: &Cell, me: Owner) -> bool {
    loop {
        let bits = cell.word.load(Acquire);
        let word = OwnerWord::decode(bits);
        if word.state != CellState::Free {
            return word.state == CellState::Spent;
        }
        let owned = word.with(CellState::Owned(me)).encode();
        // SYNC: acquires the last writes of the process that freed the cell.
        if cell.word.compare_exchange(bits, owned, Acquire, Relaxed).is_ok() {
            return true;
        }
    }
}
