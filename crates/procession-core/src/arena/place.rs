//! Where a block lies: in a cell or in a run. Both have an owner word, a birth number and a capacity.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

use super::layout::UNIT;
use super::run::{units_of, Run};
use super::slab::{class_of, write_note, Cell};
use super::word::{full_birth, Note, Word, GENERATION, GENERATION_BITS};
use super::{Arena, Kind, Token};
use crate::roll::Owner;
use crate::{Error, Result};

/// The uppermost bit of a token: it names a run.
const RUN: u64 = 1 << 63;

/// A cell or a run.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Cell(Cell),
    Run(Run),
}

impl Place {
    /// Memory for `len` bytes, owned by `me`.
    pub(super) fn alloc(arena: &Arena, len: usize, birth: u64, me: Owner) -> Result<(Self, Word)> {
        let (place, word) = if let Some(class) = class_of(len) {
            let (cell, word) = arena.alloc_cell(class, me)?;
            (Self::Cell(cell), word)
        } else {
            let what = "a large block";
            let units = units_of(len).ok_or(Error::Exhausted {
                what,
                wanted: len as u64,
            })?;
            let (run, word) = arena.alloc_run(units, me, what)?;
            (Self::Run(run), word)
        };
        place.set_birth(birth);
        Ok((place, word))
    }

    /// What a token names, if that can be, and the generation it expects.
    pub(super) fn find(arena: &Arena, token: Token) -> Option<(Self, u32)> {
        let number = u32::try_from(((token.0 & !RUN) >> GENERATION_BITS).checked_sub(1)?).ok()?;
        let place = if token.0 & RUN != 0 {
            Self::Run(arena.run(number)?)
        } else {
            Self::Cell(arena.cell(number)?)
        };
        Some((place, token.0 as u32 & GENERATION))
    }

    pub(super) fn token(&self, generation: u32) -> Token {
        let (flag, number) = match self {
            Self::Cell(cell) => (0, cell.index),
            Self::Run(run) => (RUN, run.first),
        };
        Token(flag | (u64::from(number) + 1) << GENERATION_BITS | u64::from(generation))
    }

    pub(crate) fn word(&self) -> &'static AtomicU64 {
        match self {
            Self::Cell(cell) => cell.word,
            Self::Run(run) => run.word,
        }
    }

    pub(super) fn ptr(&self) -> *mut u8 {
        match self {
            Self::Cell(cell) => cell.ptr,
            Self::Run(run) => run.ptr,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Cell(cell) => cell.size as usize,
            Self::Run(run) => run.units as usize * UNIT as usize,
        }
    }

    /// Record when the memory was allocated; says at the same time that it is no object, and begins with no references.
    pub(crate) fn set_birth(&self, birth: u64) {
        match self {
            Self::Cell(cell) => write_note(cell, birth as u32, 0),
            Self::Run(run) => {
                run.birth.store(birth as u32, Relaxed);
                run.references.store(0, Relaxed);
            }
        }
    }

    /// Record when it was taken, with what is in it.
    pub(super) fn renew_birth(&self, birth: u64) {
        match self {
            Self::Cell(cell) => amend(cell, |note| note.birth = birth as u32),
            Self::Run(run) => run.birth.store(birth as u32, Relaxed),
        }
    }

    /// Record with how many references it begins. What is free begins with none.
    pub(crate) fn set_references(&self, references: u32) {
        match self {
            Self::Cell(cell) => amend(cell, |note| note.references = references),
            Self::Run(run) => run.references.store(references, Release),
        }
    }

    /// The references it begins with, struck out or not.
    pub(crate) fn references(&self) -> &'static [AtomicU64] {
        let count = match self {
            Self::Cell(cell) => Note::decode(cell.note.load(Relaxed)).references,
            Self::Run(run) => run.references.load(Relaxed),
        };
        let count = (count as usize).min(self.capacity() / 8);
        // SAFETY: words of committed memory, which is mapped for ever; they are written as atomics as long as they count as references.
        unsafe { std::slice::from_raw_parts(self.ptr().cast(), count) }
    }

    /// Record what is in it, if that is to be destroyed when its owner dies. Only cells have a place for that.
    pub(super) fn set_kind(&self, kind: Kind) {
        if let Self::Cell(cell) = self {
            amend(cell, |note| note.kind = kind as u8);
        }
    }

    /// The birth number recorded.
    pub(crate) fn birth(&self, now: u64) -> u64 {
        let low = match self {
            Self::Cell(cell) => Note::decode(cell.note.load(Relaxed)).birth,
            Self::Run(run) => run.birth.load(Relaxed),
        };
        full_birth(low, now)
    }

    /// Free it if its word is `from`.
    pub(crate) fn free(&self, arena: &Arena, from: Word, me: Owner) -> bool {
        match self {
            Self::Cell(cell) => arena.free_cell(cell, from),
            Self::Run(run) => arena.free_run(run, from, me),
        }
    }
}

fn amend(cell: &Cell, change: impl FnOnce(&mut Note)) {
    let mut note = Note::decode(cell.note.load(Relaxed));
    change(&mut note);
    cell.note.store(note.encode(), Release);
}
