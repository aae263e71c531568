//! What happens when the last reference goes. Works on owner words; `object` has the typed interface, and `change`
//! changes the counts.

use std::cell::RefCell;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::reference_log::assert_may_end_objects;
use super::slab::Cell;
use super::word::{full_birth, CellState, OwnerWord};
use super::Arena;
use crate::hooks::hooks;
use crate::ids::{Handle, Owner};

/// Number of deferred cells below which no drop sweeps.
pub(super) const SWEEP_AT: u64 = 64;

thread_local! {
    /// Objects to be destroyed after the current one: a queue of queues of queues must not recurse deeply.
    static DYING: RefCell<Option<Vec<(Cell, OwnerWord)>>> = const { RefCell::new(None) };
}

/// While this exists, the thread is inside `destroy`. A `destroy` that panics ends it, too.
struct Destroying;

impl Drop for Destroying {
    fn drop(&mut self) {
        let _ = DYING.try_with(|queue| *queue.borrow_mut() = None);
    }
}

impl Arena {
    /// The birth number of the process born last.
    pub(crate) fn births(&self) -> u64 {
        self.header().births.load(Acquire)
    }

    pub(crate) fn cell_of(&self, handle: Handle) -> Option<Cell> {
        self.cell(handle.split()?.0)
    }

    /// The state of an object after its last reference goes.
    pub(super) fn end_of(&self, cell: &Cell, me: Owner) -> CellState {
        let now = self.births();
        self.add_to_footprint(cell.index / 64, me);
        if (hooks().fork_born_after)(full_birth(cell.read_note().birth, now)) {
            self.mark(cell.index / 64);
            CellState::Deferred { upto: now as u32 }
        } else {
            CellState::Dying(me)
        }
    }

    /// Act on an object's new word. Returns the word with which to [`destroy`](Arena::destroy) it, if it is DYING.
    pub(super) fn ended(&self, cell: &Cell, word: OwnerWord) -> Option<OwnerWord> {
        match word.state {
            CellState::Dying(_) => Some(word),
            CellState::Deferred { .. } => {
                self.mark(cell.index / 64);
                self.count_deferred();
                None
            }
            _ => None,
        }
    }

    /// Count one more deferred cell. Sweep when there are many: a process may have died and its death not have been
    /// noticed.
    pub(super) fn count_deferred(&self) {
        assert_may_end_objects();
        let header = self.header();
        let count = header.deferred.fetch_add(1, Relaxed).wrapping_add(1);
        let at = header.sweep_at.load(Relaxed).max(SWEEP_AT);
        if (hooks().is_reclaiming)() {
            return;
        }
        (hooks().reap_executed)();
        if count >= at {
            // On failure the cells stay deferred, for the next sweep.
            let left = (hooks().sweep_deferred)().unwrap_or(count);
            header.sweep_at.store(left.saturating_mul(2), Relaxed);
        }
    }

    /// End an object that is DYING with this process as its owner: run its `destroy`, free its cell.
    pub(crate) fn destroy(&self, cell: &Cell, word: OwnerWord) {
        assert_may_end_objects();
        let later = |queue: &RefCell<Option<Vec<_>>>| match &mut *queue.borrow_mut() {
            Some(waiting) => {
                waiting.push((*cell, word));
                true
            }
            none => {
                *none = Some(Vec::new());
                false
            }
        };
        match DYING.try_with(later) {
            Ok(true) => {}
            Ok(false) => {
                let _destroying = Destroying;
                let mut next = Some((*cell, word));
                while let Some((cell, word)) = next {
                    self.destroy_one(&cell, word);
                    next = DYING.with(|queue| queue.borrow_mut().as_mut().and_then(Vec::pop));
                }
            }
            // The thread is ending.
            Err(_) => self.destroy_one(cell, word),
        }
    }

    fn destroy_one(&self, cell: &Cell, word: OwnerWord) {
        if self
            .reach_cell(cell, cell.size.min(super::class::LARGEST_SMALL))
            .is_err()
        {
            // Without address space the object stays DYING, until a survivor of this process ends it.
            return;
        }
        // DEATH: the word names this process; a survivor runs `destroy` again.
        (hooks().destroy)(cell.read_note().kind, cell.ptr, cell.size);
        self.free_cell(cell, word);
    }

    /// Free memory that this process owned alone (or that a dead one did), or make it deferred. False if its word has
    /// changed.
    pub(crate) fn give_back(&self, cell: &Cell, from: OwnerWord, birth: u64) -> bool {
        let now = self.births();
        if !(hooks().fork_born_after)(birth) {
            return self.free_cell(cell, from);
        }
        let deferred = from.with(CellState::Deferred { upto: now as u32 });
        cell.set_birth(birth);
        self.mark(cell.index / 64);
        let done = cell
            .word
            .compare_exchange(from.encode(), deferred.encode(), AcqRel, Relaxed)
            .is_ok();
        if done {
            self.mark(cell.index / 64);
            self.count_deferred();
        }
        done
    }
}
