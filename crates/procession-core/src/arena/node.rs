//! Nodes: cells that a structure in the arena names by their tokens, and that any process may look at.
//!
//! Its maker owns a node until the structure names it. Then the node is in TRANSIT: it belongs to the structure. A
//! process that looks at a node owns nothing of it. The node may be freed, and its memory used for something else, at
//! any time: what was read counts only if the node [is in use](Node::is_in_use) afterwards. No token comes twice.

use super::class::{class_of, BUCKETS};
use super::current::{existing, here};
use super::slab::Cell;
use super::word::{CellState, OwnerWord};
use super::Token;
use crate::ids::{Kind, Owner, GENERATION};
use crate::sys::atomic::{
    fence, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crate::{Error, Result};

/// Bits of a token.
pub(crate) const TOKEN_BITS: u32 = 53;
/// Words of a segment of a table.
pub(crate) const SEGMENT_WORDS: usize = 512;
/// The most items of a leaf, and children of an inner node, of a list's tree.
pub(crate) const TREE_WIDTH: usize = 32;

/// A node, as long as its token is not stale.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    cell: Cell,
    generation: u32,
    /// Number of words that may be read.
    words: usize,
}

impl Node {
    /// Allocate a node of this many words, of unspecified content. This process owns it.
    pub(crate) fn alloc(words: usize, kind: Kind) -> Result<Self> {
        let len = words.saturating_mul(8);
        let class = class_of(len).ok_or(Error::Exhausted {
            what: "a large block",
            wanted: len as u64,
        })?;
        Self::alloc_in(class, words, kind)
    }

    /// Allocate a segment of a table. Its memory never becomes anything else.
    pub(crate) fn alloc_segment() -> Result<Self> {
        Self::alloc_in(BUCKETS, SEGMENT_WORDS, Kind::DictSegment)
    }

    fn alloc_in(class: usize, words: usize, kind: Kind) -> Result<Self> {
        let (arena, me) = here()?;
        let (cell, owned) = arena.alloc_cell(class, words * 8, me)?;
        // SYNC: a process that took the cell for that of an earlier node, and reads what is written from here on, finds
        // the earlier node gone (`is_in_use`).
        fence(Release);
        cell.write_note(arena.births() as u32, kind as u8);
        Ok(Self {
            cell,
            generation: owned.generation,
            words,
        })
    }

    /// The node of this kind that a token names. `None` if the token is stale. Fails if this process has no address space
    /// to look: then nothing is known of the node.
    #[inline]
    pub(crate) fn find(token: Token, kind: Kind) -> Result<Option<Self>> {
        let Some(arena) = existing() else { return Ok(None) };
        let Some((cell, generation)) = Cell::look_up(arena, token)? else {
            return Ok(None);
        };
        Self::over(cell, generation, kind)
    }

    /// The node of this kind in a cell, if the cell is in use with this generation.
    #[inline]
    pub(crate) fn over(cell: Cell, generation: u32, kind: Kind) -> Result<Option<Self>> {
        let mut node = Self {
            cell,
            generation: generation & GENERATION,
            words: 0,
        };
        let Some(arena) = existing() else { return Ok(None) };
        let fits = (kind == Kind::DictSegment) == cell.is_buckets() && cell.read_note().kind == kind as u8;
        if !fits || !node.is_in_use() {
            return Ok(None);
        }
        let capacity = cell.capacity();
        arena.reach_cell(&cell, capacity)?;
        node.words = capacity / 8;
        Ok(Some(node))
    }

    /// The token that names it.
    pub(crate) fn token(&self) -> Token {
        self.cell.token(self.generation)
    }

    #[allow(clippy::cast_ptr_alignment)] // cells are aligned to 64
    fn base(&self) -> *const AtomicU64 {
        self.cell.ptr.cast()
    }

    /// Number of words that may be read.
    pub(crate) fn len(&self) -> usize {
        self.words
    }

    /// Read a word. `None` beyond the end.
    #[inline]
    pub(crate) fn load(&self, index: usize) -> Option<u64> {
        // SAFETY: within the cell, which is mapped for ever. Other users of the memory may write at the same time: then
        // the value is discarded, because the node is no longer in use.
        (index < self.words).then(|| unsafe { &*self.base().add(index) }.load(Relaxed))
    }

    /// Read as many words as `to` has, from `start` on. False if there are not as many.
    pub(crate) fn read(&self, start: usize, to: &mut [u64]) -> bool {
        let fits = start.checked_add(to.len()).is_some_and(|end| end <= self.words);
        if fits {
            // SAFETY: as in `load`: all of these words are within the cell.
            let words = unsafe { std::slice::from_raw_parts(self.base().add(start), to.len()) };
            to.iter_mut().zip(words).for_each(|(to, word)| *to = word.load(Relaxed));
        }
        fits
    }

    /// Write a word of a node that this process owns.
    #[inline]
    pub(crate) fn store(&self, index: usize, word: u64) {
        if index < self.words {
            // SAFETY: within the cell, which this process owns.
            unsafe { &*self.base().add(index) }.store(word, Relaxed);
        }
    }

    /// Write words of a node that this process owns, from `start` on; those that do not fit are left out.
    pub(crate) fn write(&self, start: usize, from: &[u64]) {
        let fit = from.len().min(self.words.saturating_sub(start));
        // SAFETY: within the cell, which this process owns: as many words as are left behind `start`.
        let words = unsafe { std::slice::from_raw_parts(self.base().add(start.min(self.words)), fit) };
        words.iter().zip(from).for_each(|(to, &word)| to.store(word, Relaxed));
    }

    /// As [`store`](Self::store), after everything that was stored before.
    pub(crate) fn store_last(&self, index: usize, word: u64) {
        // SYNC: a survivor that reads this word reads what was stored before it.
        fence(Release);
        self.store(index, word);
    }

    /// How many users the cell had before.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// The words of a segment. They may be those of a newer segment, but are never anything else.
    pub(crate) fn segment(&self) -> Option<&'static [AtomicU64]> {
        // SAFETY: the memory of this class is mapped, never used for anything but segments, and aligned to 64; all
        // processes use its words as atomics.
        self.cell
            .is_buckets()
            .then(|| unsafe { std::slice::from_raw_parts(self.base(), SEGMENT_WORDS) })
    }

    /// Whether the node was in use until now, so that what was read before is its content.
    #[inline]
    pub(crate) fn is_in_use(&self) -> bool {
        // SYNC: what was read before this fence was read before the word.
        fence(Acquire);
        self.state().is_some()
    }

    /// Whether a process still owns it.
    pub(crate) fn is_owned(&self) -> bool {
        matches!(self.state(), Some((_, CellState::Owned(_))))
    }

    /// Whether it is owned by this process.
    pub(crate) fn is_owned_by(&self, owner: Owner) -> bool {
        matches!(self.state(), Some((_, CellState::Owned(now))) if now == owner)
    }

    #[inline]
    fn state(&self) -> Option<(u64, CellState)> {
        let bits = self.cell.word.load(Acquire);
        let word = OwnerWord::decode(bits);
        let in_use =
            word.generation == self.generation && matches!(word.state, CellState::Transit | CellState::Owned(_));
        // A word with bits that its state does not use is damaged: the compare-and-swap would never succeed.
        (in_use && word.encode() == bits).then_some((bits, word.state))
    }

    /// Give the node to its structure, whichever process owns it. Does nothing if that was done.
    pub(crate) fn hand_over(&self) {
        while let Some((bits, CellState::Owned(_))) = self.state() {
            let word = OwnerWord::decode(bits).with(CellState::Transit);
            if self
                .cell
                .word
                .compare_exchange(bits, word.encode(), AcqRel, Relaxed)
                .is_ok()
            {
                return;
            }
        }
    }

    /// Free the node, whichever process owns it. Does nothing if that was done.
    pub(crate) fn free(&self) {
        let Ok((arena, me)) = here() else { return };
        arena.add_to_footprint(self.cell.index / 64, me);
        while let Some((bits, _)) = self.state() {
            if arena.free_cell(&self.cell, OwnerWord::decode(bits)) {
                return;
            }
        }
    }
}

/// Free the node of this kind that a token names. A stale token does nothing.
pub(crate) fn free(token: Token, kind: Kind) {
    let Ok((arena, me)) = here() else { return };
    let Some((cell, generation)) = Cell::find(arena, token) else {
        return;
    };
    let node = Node {
        cell,
        generation,
        words: 0,
    };
    if (kind == Kind::DictSegment) == cell.is_buckets() && cell.read_note().kind == kind as u8 {
        arena.add_to_footprint(cell.index / 64, me);
        node.free();
    }
}
