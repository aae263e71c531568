//! How a reference and its entry change together.
//!
//! An *entry* is a word of the arena that says which object somebody refers to. Entry and count are two words, so the count is *tagged* with
//! our roll slot while both change, and what our place in the directory announces is the entry: as long as the tag is there, the count
//! includes one reference for it, which is to stay exactly if the entry says so. One thread of a process does this at a time.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed, Release},
};

use super::count::{try_tag, untag, Tried, Waited};
use super::holdings::{tag_of, Tagging};
use super::slab::Cell;
use super::word::Word;
use super::{Arena, Handle};
use crate::roll::Owner;

impl Arena {
    /// Count a reference, and have `entry` say so. False when the object is gone, or the entry was not empty. This process is enrolled.
    pub(super) fn enter(&self, me: Owner, cell: &Cell, handle: Handle, entry: &AtomicU64) -> bool {
        let Some(alone) = self.tag(me, cell, handle, 1, entry) else {
            return false;
        };
        // DEATH: the count has our tag and the entry is empty: a survivor takes the reference back.
        if entry.compare_exchange(0, handle.0, AcqRel, Relaxed).is_ok() {
            untag(cell, tag_of(me));
            return true;
        }
        let released = self.release_tagged(cell, tag_of(me), me);
        drop(alone);
        self.end(cell, released);
        false
    }

    /// Empty an entry of `owner`, which is this process or a dead one, and take its reference off the count. If it was the last, what to
    /// [`bury`](Arena::bury). Can be repeated.
    pub(crate) fn strike(&self, owner: Owner, me: Owner, handle: Handle, entry: &AtomicU64) -> Option<(Cell, Word)> {
        let cell = self.cell_of(handle);
        let tagged = cell.and_then(|cell| Some((cell, self.tag(owner, &cell, handle, 0, entry)?)));
        entry.store(0, Release);
        // DEATH: from here until the tag is gone, a survivor takes the reference back.
        let (cell, alone) = tagged?;
        let released = self.release_tagged(&cell, tag_of(owner), me)?;
        drop(alone);
        Some((cell, self.ended(released)?))
    }

    /// Settle what a dead process had begun with an object that has its tag.
    pub(crate) fn settle_tag(&self, dead: Owner, me: Owner, cell: &Cell, word: Word) {
        if self.had_entered(dead, Handle::new(cell.index, word.generation)) {
            untag(cell, tag_of(dead));
        } else {
            self.end(cell, self.release_tagged(cell, tag_of(dead), me));
        }
    }

    /// After a reference was released.
    fn end(&self, cell: &Cell, released: Option<Word>) {
        if let Some(word) = released.and_then(|word| self.ended(word)) {
            self.bury(cell, word);
        }
    }

    /// Tag a count for a change of `entry`, waiting until nobody else has it tagged. `None` when the object is gone.
    fn tag(&self, owner: Owner, cell: &Cell, handle: Handle, more: u32, entry: &AtomicU64) -> Option<Tagging> {
        let mut waited = Waited::default();
        loop {
            let alone = self.announce(owner, entry);
            match try_tag(cell, handle, tag_of(owner), more) {
                Tried::Tagged => return Some(alone),
                Tried::Gone => return None,
                Tried::Busy(other) => {
                    // Waiting may clear up after the dead, which strikes out entries, too.
                    drop(alone);
                    self.wait_for_tag(cell, handle, other, &mut waited);
                }
            }
        }
    }
}
