//! The cells in use of an arena, and how they are found by number or place.

use crate::arena::seen::{is_segment, CellSeen};
use crate::ids::{Handle, Kind};
use std::collections::{BTreeMap, HashMap};

/// All cells in use.
#[derive(Default)]
pub(super) struct Cells {
    /// By their place.
    placed: BTreeMap<u64, CellSeen>,
    /// Place of each, by its number.
    places: HashMap<u32, u64>,
}

impl Cells {
    pub(super) fn add(&mut self, cell: CellSeen) {
        self.places.insert(cell.index, cell.offset);
        self.placed.insert(cell.offset, cell);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &CellSeen> {
        self.placed.values()
    }

    fn numbered(&self, index: u32) -> Option<CellSeen> {
        self.placed.get(self.places.get(&index)?).copied()
    }

    /// The cell in which a place lies.
    pub(super) fn at(&self, place: u64) -> Option<&CellSeen> {
        let (_, cell) = self.placed.range(..=place).next_back()?;
        (place - cell.offset < cell.bytes).then_some(cell)
    }

    /// The cell of a queue's segment.
    pub(super) fn segment(&self, index: u32) -> Option<CellSeen> {
        self.numbered(index).filter(is_segment)
    }

    /// The block that a token named.
    pub(super) fn block(&self, index: u32, generation: u32) -> Option<CellSeen> {
        self.numbered(index)
            .filter(|cell| cell.generation == generation && cell.kind == 0)
    }

    /// The chunk of waiters behind a handle.
    pub(super) fn chunk(&self, handle: Handle) -> Option<CellSeen> {
        let (index, generation) = handle.split()?;
        self.numbered(index)
            .filter(|cell| cell.generation == generation && Kind::from_number(cell.kind) == Some(Kind::Cell))
    }
}
