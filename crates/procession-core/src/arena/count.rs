//! Reference counts, and what happens when the last reference goes. Works on owner words; `object` has the typed face.

use std::cell::RefCell;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use super::place::Place;
use super::slab::Cell;
use super::word::{full_birth, Note, State, Word, MAX_REFS};
use super::{Arena, Handle};
use crate::reclaim;
use crate::roll::{self, Owner};

/// Looks at a tag before the first nap. Whoever set it has a handful of instructions to go, or is dead.
const SPINS: u32 = 100;
const NAP: Duration = Duration::from_micros(50);
/// After so many naps in a row in which whom a tag names was found to have none, it is nobody's.
const WITHOUT: u32 = 200;
/// After so many naps, a minute of them, it is nobody's either. If its process was only stopped all that time, a reference is never given back.
const NAPS: u32 = 600_000;
/// Below this many things in limbo nobody sweeps.
const SWEEP_AT: u64 = 64;

thread_local! {
    /// Objects whose `destroy` is to run after the current one: a queue of queues of queues must not become a deep recursion.
    static DYING: RefCell<Option<Vec<(Cell, Word)>>> = const { RefCell::new(None) };
}

/// How somebody who waits for a tag to go has fared.
#[derive(Default)]
pub(super) struct Waited {
    looks: u32,
    /// The tag that was there last.
    tag: u32,
    /// At how many naps in a row its process was changing nothing that the tag could be about.
    without: u32,
    naps: u32,
}

/// How it went to tag a count.
pub(super) enum Tried {
    /// It has our tag.
    Tagged,
    /// The object is gone.
    Gone,
    /// It has this tag.
    Busy(u32),
}

/// While it exists, this thread is burying; also ends when a `destroy` panics.
struct Burying;

impl Drop for Burying {
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

    /// Take the tag away, and the reference it vouched for: the word then.
    pub(super) fn release_tagged(&self, cell: &Cell, tag: u32, me: Owner) -> Option<Word> {
        loop {
            let bits = cell.word.load(Acquire);
            let word = Word::decode(bits);
            let state = match word.state {
                State::Object { tag: present, refs } if present == tag && refs > 1 => {
                    State::Object { tag: 0, refs: refs - 1 }
                }
                State::Object { tag: present, .. } if present == tag => self.end_of(cell, me),
                _ => return None,
            };
            let next = word.with(state);
            if replace(cell, bits, next) {
                return Some(next);
            }
        }
    }

    /// Somebody is entering or striking out a reference: wait, or do it for him if he died.
    pub(super) fn wait_for_tag(&self, cell: &Cell, handle: Handle, tag: u32, waited: &mut Waited) {
        waited.looks += 1;
        if waited.looks % SPINS != 0 {
            std::hint::spin_loop();
            return;
        }
        match self.tagged(tag) {
            None => untag(cell, tag), // nobody has such a tag: the word was damaged
            Some(owner) if roll::is_alive(owner) => {
                // Between two tags of his he may be found without one, but not again and again.
                waited.naps += 1;
                waited.without += 1;
                if waited.tag != tag || self.may_be_tagging(owner, handle) {
                    (waited.tag, waited.without) = (tag, 0);
                }
                if waited.without > WITHOUT || waited.naps > NAPS {
                    untag(cell, tag); // it is not his: the word was damaged
                }
                std::thread::sleep(NAP);
            }
            // Somebody is reclaiming, or that failed; a failure shows up at the next look, which tries again.
            Some(owner) => drop(reclaim::reclaim(owner)),
        }
    }

    /// What becomes of an object whose last reference goes.
    fn end_of(&self, cell: &Cell, me: Owner) -> State {
        let now = self.births();
        if pinned(full_birth(note_of(cell).birth, now), now) {
            State::Limbo { upto: now as u32 }
        } else {
            State::Dying(me)
        }
    }

    /// After the word of an object changed to this one: with which to [`bury`](Arena::bury) it, if it is to be.
    pub(super) fn ended(&self, word: Word) -> Option<Word> {
        match word.state {
            State::Dying(_) => Some(word),
            State::Limbo { .. } => {
                self.note_limbo();
                None
            }
            _ => None,
        }
    }

    /// Something went to limbo. Sweep when that has become much: a process may have died that nobody asked about.
    pub(super) fn note_limbo(&self) {
        let header = self.header();
        let count = header.limbo.fetch_add(1, Relaxed).wrapping_add(1);
        let at = header.sweep_at.load(Relaxed).max(SWEEP_AT);
        if count >= at && !reclaim::in_progress() {
            // A failure leaves things in limbo, for the next sweep.
            let left = reclaim::sweep_limbo().unwrap_or(count);
            header.sweep_at.store(left.saturating_mul(2), Relaxed);
        }
    }

    /// End an object that is DYING in this process's hands: run its `destroy`, free its cell.
    pub(crate) fn bury(&self, cell: &Cell, word: Word) {
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
                let _burying = Burying;
                let mut next = Some((*cell, word));
                while let Some((cell, word)) = next {
                    self.bury_one(&cell, word);
                    next = DYING.with(|queue| queue.borrow_mut().as_mut().and_then(Vec::pop));
                }
            }
            // The thread is ending.
            Err(_) => self.bury_one(cell, word),
        }
    }

    fn bury_one(&self, cell: &Cell, word: Word) {
        // DEATH: the word says who is at it; a survivor runs `destroy` again.
        reclaim::destroy(note_of(cell).kind, cell.ptr, cell.size as usize);
        self.free_cell(cell, word);
    }

    /// Give memory back that this process owned alone (or that a dead one did), or send it to limbo.
    pub(crate) fn give_back(&self, place: &Place, from: Word, birth: u64, me: Owner) -> bool {
        let now = self.births();
        if !pinned(birth, now) {
            return place.free(self, from, me);
        }
        let limbo = from.with(State::Limbo { upto: now as u32 });
        place.set_birth(birth);
        let done = place
            .word()
            .compare_exchange(from.encode(), limbo.encode(), AcqRel, Relaxed)
            .is_ok();
        if done {
            self.note_limbo();
        }
        done
    }
}

/// Whether a living process, forked since `birth`, may still look at something that existed then.
pub(crate) fn pinned(birth: u64, upto: u64) -> bool {
    birth < upto && roll::fork_born_between(birth, upto)
}

pub(crate) fn note_of(cell: &Cell) -> Note {
    Note::decode(cell.note.load(Relaxed))
}

/// Tag the count, adding `more` references (0 or 1), unless somebody else has it tagged.
pub(super) fn try_tag(cell: &Cell, handle: Handle, tag: u32, more: u32) -> Tried {
    loop {
        let Some((bits, word)) = current(cell, handle) else {
            return Tried::Gone;
        };
        let state = match word.state {
            State::Object { tag: 0, refs } if refs >= 1 && refs + more <= MAX_REFS => {
                State::Object { tag, refs: refs + more }
            }
            State::Object { tag: present, .. } if present == tag && more == 0 => return Tried::Tagged,
            State::Object { tag: other, .. } if other != 0 && other != tag => return Tried::Busy(other),
            State::Limbo { .. } if more == 1 && note_of(cell).kind != 0 => State::Object { tag, refs: 1 },
            _ => return Tried::Gone,
        };
        if replace(cell, bits, word.with(state)) {
            return Tried::Tagged;
        }
    }
}

/// Take the tag away; the reference it vouched for stays.
pub(super) fn untag(cell: &Cell, tag: u32) {
    loop {
        let bits = cell.word.load(Acquire);
        let word = Word::decode(bits);
        match word.state {
            State::Object { tag: present, refs } if present == tag => {
                if replace(cell, bits, word.with(State::Object { tag: 0, refs })) {
                    return;
                }
            }
            _ => return,
        }
    }
}

fn current(cell: &Cell, handle: Handle) -> Option<(u64, Word)> {
    let bits = cell.word.load(Acquire);
    let word = Word::decode(bits);
    (handle.split()?.1 == word.generation).then_some((bits, word))
}

fn replace(cell: &Cell, bits: u64, word: Word) -> bool {
    cell.word.compare_exchange(bits, word.encode(), AcqRel, Relaxed).is_ok()
}
