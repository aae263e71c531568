//! Counts of what is in use, from the owner words. Two counts that should be equal and are not show a leak.

use super::current::here;
use super::footprint::is_list;
use super::slab::Cell;
use super::word::{CellState, OwnerWord};
use crate::Result;

/// Counts of everything that is not free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Cells that a process owns, except those of footprints.
    pub owned: usize,
    /// Cells that a message or a queue owns.
    pub transit: usize,
    /// Objects.
    pub objects: usize,
    /// References to objects.
    pub refs: u64,
    /// Cells that were given back, but may still be read.
    pub deferred: usize,
    /// Objects that are being destroyed, and words without a valid state.
    pub other: usize,
}

/// Count what is in use, one word after the other. Exact while no other process or thread changes anything.
pub fn counters() -> Result<Counters> {
    let (arena, _) = here()?;
    let mut counters = Counters::default();
    for slab in 0..arena.slab_count() {
        let counts = |(cell, word): &(Cell, OwnerWord)| !matches!(word.state, CellState::Owned(_)) || !is_list(cell);
        let cells = arena.used_cells(slab).filter(counts);
        cells.for_each(|(_, word)| counters.count(word));
    }
    Ok(counters)
}

/// Whether something waits for a living process that is no member yet: it was started, and has not registered so far.
pub(crate) fn awaits_a_newcomer(is_member: impl Fn(u32) -> bool) -> bool {
    let Ok((arena, _)) = here() else { return true };
    let newcomer = |word: OwnerWord| match word.state {
        CellState::Awaited(receiver) => !is_member(receiver.pid) && !receiver.is_gone(),
        _ => false,
    };
    (0..arena.slab_count()).any(|slab| arena.used_cells(slab).any(|(_, word)| newcomer(word)))
}

impl Counters {
    fn count(&mut self, word: OwnerWord) {
        match word.state {
            CellState::Owned(_) => self.owned += 1,
            CellState::Transit | CellState::Awaited(_) => self.transit += 1,
            CellState::Object { refs, .. } => {
                self.objects += 1;
                self.refs += u64::from(refs);
                self.other += usize::from(refs == 0);
            }
            CellState::Deferred { .. } => self.deferred += 1,
            _ => self.other += 1,
        }
    }
}
