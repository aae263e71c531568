//! References and their entries, as the rest of the module changes them. Leaves to `change` how count and entry change
//! together.

use std::sync::atomic::{AtomicU64, Ordering::Acquire};

use super::change::{self, Counted, Ended, Operation};
use super::reference_log::alone;
use super::slab::Cell;
use super::word::CellState;
use super::Arena;
use crate::ids::{Handle, Owner};

/// The arena, as this process sees it when it changes counts.
struct Counts<'a> {
    arena: &'a Arena,
    me: Owner,
}

impl Counted for Counts<'_> {
    type Cell = Cell;

    fn operation(&self, slot: usize) -> Option<&Operation> {
        Some(&self.arena.directory_of(slot)?.operation)
    }

    fn cell(&self, handle: Handle) -> Option<Cell> {
        self.arena.cell_of(handle)
    }

    fn word<'a>(&'a self, cell: &'a Cell) -> &'a AtomicU64 {
        cell.word
    }

    fn entry(&self, at: u64) -> Option<&AtomicU64> {
        let entry = self.arena.reach(at, 8).ok().filter(|_| at != 0 && at % 8 == 0)?;
        // SAFETY: a word of the mapping, aligned; entries lie only in memory that consists of atomic words.
        Some(unsafe { entry.cast::<AtomicU64>().as_ref() })
    }

    fn is_object(&self, cell: &Cell) -> bool {
        cell.read_note().kind != 0
    }

    fn end_of(&self, cell: &Cell) -> CellState {
        self.arena.end_of(cell, self.me)
    }
}

impl Arena {
    /// Count a reference, and store the handle in `entry`. False if the object is gone, or the entry is not empty.
    pub(super) fn acquire(&self, me: Owner, cell: &Cell, handle: Handle, entry: &AtomicU64) -> bool {
        let memory = Counts { arena: self, me };
        let alone = alone();
        let entered = change::acquire(&memory, me.slot(), cell, handle, (self.offset_of(entry), entry));
        drop(alone);
        entered.map_err(|ended| self.end(ended)).is_ok()
    }

    /// Empty an entry of this process and take its reference off the count. Returns what to [`end`](Arena::end) if it
    /// was the last.
    pub(super) fn release(&self, me: Owner, handle: Handle, entry: &AtomicU64) -> Ended<Cell> {
        let memory = Counts { arena: self, me };
        let _alone = alone();
        change::release(&memory, me.slot(), handle, (self.offset_of(entry), entry))
    }

    /// Finish, or undo, the change of a reference in which a process died. `me` is its reaper.
    pub(crate) fn resolve(&self, dead: Owner, me: Owner) {
        let memory = Counts { arena: self, me };
        self.end(change::resolve(&memory, dead.slot()));
    }

    /// Release all references in these entries of a dead process. `me` is its reaper. May be repeated.
    pub(crate) fn release_all<'a>(&self, dead: Owner, me: Owner, entries: impl IntoIterator<Item = &'a AtomicU64>) {
        let memory = Counts { arena: self, me };
        for entry in entries {
            if let Some(handle) = Handle::from_bits(entry.load(Acquire)) {
                let entry = (self.offset_of(entry), entry);
                self.end(change::release(&memory, dead.slot(), handle, entry));
            }
        }
    }

    /// Drop an object whose last reference was released. This may sweep, and so release the references
    /// of other objects: the caller no longer holds the lock of [`alone`].
    pub(super) fn end(&self, ended: Ended<Cell>) {
        if let Some((cell, word)) = ended.and_then(|(cell, word)| Some((cell, self.ended(&cell, word)?))) {
            self.destroy(&cell, word);
        }
    }
}
