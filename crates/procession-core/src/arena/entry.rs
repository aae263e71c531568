//! References and their entries, as the rest of the module changes them. Leaves to `change` how count and entry change
//! together.

use std::sync::atomic::{AtomicU64, Ordering::Acquire};

use super::change::{self, Ended, House, Operation};
use super::holdings::alone;
use super::slab::Cell;
use super::word::State;
use super::{Arena, Handle};
use crate::arena::count::note_of;
use crate::roll::Owner;

/// The arena, as this process sees it when it changes counts.
struct Counts<'a> {
    arena: &'a Arena,
    me: Owner,
}

impl House for Counts<'_> {
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
        note_of(cell).kind != 0
    }

    fn end_of(&self, cell: &Cell) -> State {
        self.arena.end_of(cell, self.me)
    }
}

impl Arena {
    /// Count a reference, and store the handle in `entry`. False if the object is gone, or the entry is not empty.
    pub(super) fn enter(&self, me: Owner, cell: &Cell, handle: Handle, entry: &AtomicU64) -> bool {
        let house = Counts { arena: self, me };
        let alone = alone();
        let entered = change::enter(&house, me.slot(), cell, handle, (self.offset_of(entry), entry));
        drop(alone);
        entered.map_err(|ended| self.end(ended)).is_ok()
    }

    /// Empty an entry of this process and take its reference off the count. Returns what to [`bury`](Arena::bury) if it
    /// was the last.
    pub(crate) fn strike(&self, me: Owner, handle: Handle, entry: &AtomicU64) -> Ended<Cell> {
        let _alone = alone();
        self.strike_of(me, me, handle, entry)
    }

    /// [`strike`](Arena::strike) for a dead process. `me` is its reaper. May be repeated.
    pub(crate) fn strike_of(&self, owner: Owner, me: Owner, handle: Handle, entry: &AtomicU64) -> Ended<Cell> {
        let house = Counts { arena: self, me };
        let (cell, word) = change::strike(&house, owner.slot(), handle, (self.offset_of(entry), entry))?;
        Some((cell, self.ended(&cell, word)?))
    }

    /// Finish, or undo, the change of a reference in which a process died. `me` is its reaper.
    pub(crate) fn settle(&self, dead: Owner, me: Owner) {
        let house = Counts { arena: self, me };
        self.end(change::settle(&house, dead.slot()));
    }

    /// Strike out all references in these entries of a dead process. `me` is its reaper.
    pub(crate) fn strike_all<'a>(&self, dead: Owner, me: Owner, entries: impl IntoIterator<Item = &'a AtomicU64>) {
        for entry in entries {
            let handle = Handle::from_bits(entry.load(Acquire));
            if let Some((cell, word)) = handle.and_then(|handle| self.strike_of(dead, me, handle, entry)) {
                self.bury(&cell, word);
            }
        }
    }

    /// After a reference went: end its object, if that was the last one.
    fn end(&self, ended: Ended<Cell>) {
        if let Some((cell, word)) = ended.and_then(|(cell, word)| Some((cell, self.ended(&cell, word)?))) {
            self.bury(&cell, word);
        }
    }
}
