//! A cell as its users see it: its token, its length and its note.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

use super::class::class_of;
use super::label::{Label, LabelParts, StoredCreationSite, StoredName};
use super::slab::Cell;
use super::word::{full_birth, CellNote, OwnerWord};
use super::{Arena, Token};
use crate::ids::{Kind, Owner, GENERATION, GENERATION_BITS};
use crate::{Error, Result};

impl Cell {
    /// Allocate memory for `len` bytes, owned by `me`.
    pub(super) fn alloc(arena: &Arena, len: usize, birth: u64, me: Owner) -> Result<(Self, OwnerWord)> {
        let class = class_of(len).ok_or(Error::Exhausted {
            what: "a large block",
            wanted: len as u64,
        })?;
        let (cell, word) = arena.alloc_cell(class, len, me)?;
        cell.set_birth(birth);
        Ok((cell, word))
    }

    /// The cell that a token names, if there is one, and the generation that the token expects.
    pub(super) fn find(arena: &Arena, token: Token) -> Option<(Self, u32)> {
        let index = u32::try_from((token.0 >> GENERATION_BITS).checked_sub(1)?).ok()?;
        Some((arena.cell(index)?, token.0 as u32 & GENERATION))
    }

    /// As [`find`](Self::find), but fails if this process has no address space to see whether there is such a cell.
    #[inline]
    pub(super) fn look_up(arena: &Arena, token: Token) -> Result<Option<(Self, u32)>> {
        let found = Self::find(arena, token);
        if found.is_some() {
            return Ok(found);
        }
        let index = (token.0 >> GENERATION_BITS).checked_sub(1);
        if let Some(index) = index.and_then(|index| u32::try_from(index).ok()) {
            arena.reach_descriptor(index)?;
        }
        Ok(Self::find(arena, token))
    }

    pub(super) fn token(&self, generation: u32) -> Token {
        Token((u64::from(self.index) + 1) << GENERATION_BITS | u64::from(generation))
    }

    /// Record birth and kind, and that the cell begins with no references and has no label.
    pub(crate) fn write_note(&self, birth: u32, kind: u8) {
        let (label, references) = (0, 0);
        self.note.store(
            CellNote {
                birth,
                kind,
                label,
                references,
            }
            .encode(),
            Relaxed,
        );
    }

    /// Write the label of an object that no other process sees yet.
    #[cold]
    #[inline(never)]
    pub(super) fn write_label(&self, arena: &Arena, label: Label<'_>) -> Result<()> {
        let parts = label.parts();
        arena.reach_cell(self, self.size)?;
        if let (Some(name), Some(at)) = (label.name, parts.name(self.size)) {
            // SAFETY: the cell is reached, and `name` says where such a part lies in it.
            unsafe { self.part::<StoredName>(at) }.set(name);
        }
        if let (Some((file, line)), Some(at)) = (label.made, parts.site(self.size)) {
            // SAFETY: as above, of `site`.
            unsafe { self.part::<StoredCreationSite>(at) }.set(file, line);
        }
        self.amend(|note| note.label = parts.bits());
        Ok(())
    }

    /// The name in the label of an object that the caller keeps.
    #[cold]
    #[inline(never)]
    pub(super) fn name(&self, arena: &Arena) -> Option<String> {
        // A damaged note may place it over the object's state, which is atomics as well.
        let at = LabelParts::from_bits(self.read_note().label).name(self.size)?;
        arena.reach_cell(self, self.size).ok()?;
        // SAFETY: as in `write_label`.
        unsafe { self.part::<StoredName>(at) }.get()
    }

    /// A part of the label: atomics, of which any value is valid.
    ///
    /// # Safety
    /// The cell is reached as a whole, and a `P`, which is aligned as words are, lies `at` bytes from its begin, in it.
    unsafe fn part<P>(&self, at: usize) -> &'static P {
        // SAFETY: as above; a mapped cell stays mapped as long as the process lives.
        unsafe { &*self.ptr.add(at).cast::<P>() }
    }

    /// Birth, kind and number of references, as recorded.
    pub(crate) fn read_note(&self) -> CellNote {
        CellNote::decode(self.note.load(Relaxed))
    }

    /// Record when the memory was allocated, that it is no object, and that it begins with no references.
    pub(crate) fn set_birth(&self, birth: u64) {
        self.write_note(birth as u32, 0);
    }

    /// Record when the block was taken. Kind and references stay.
    pub(super) fn renew_birth(&self, birth: u64) {
        self.amend(|note| note.birth = birth as u32);
    }

    /// Record how many references the cell begins with. A free cell begins with none.
    pub(crate) fn set_references(&self, references: u32) {
        self.amend(|note| note.references = references);
    }

    /// Record the kind of its content, which is to be destroyed when the owner dies.
    pub(super) fn set_kind(&self, kind: Kind) {
        self.amend(|note| note.kind = kind as u8);
    }

    /// The references that the cell begins with, released or not. [Reach](Arena::reach_cell) them before reading.
    pub(crate) fn references(&self) -> &'static [AtomicU64] {
        let count = self.read_note().references as usize;
        // SAFETY: these are words of the cell, which stays mapped once it is; they are written as atomics as long as
        // they count as references.
        unsafe { std::slice::from_raw_parts(self.ptr.cast(), count.min(self.size / 8)) }
    }

    /// The birth number recorded.
    pub(crate) fn birth(&self, now: u64) -> u64 {
        full_birth(self.read_note().birth, now)
    }

    fn amend(&self, change: impl FnOnce(&mut CellNote)) {
        let mut note = self.read_note();
        change(&mut note);
        self.note.store(note.encode(), Release);
    }
}
