//! Changes of reference counts for which nobody waits, and which survivors can tell from outside.
//!
//! A reference is a count (in the object's owner word) and an *entry* (a word that holds the handle). The two change one after the other, so
//! each roll slot has one [`Operation`] that says what its process is doing. The count keeps the *mark* of the process that changed it last: its
//! slot, and a bit of the number of that operation. Whoever changes the count next first writes into the operation behind the mark that it
//! was applied. So an operation was applied exactly if it says so, or if its mark is on the word.
//!
//! One thread at a time runs the operation of a slot: one of the process itself, or the reaper of the dead one.

use super::word::{Mark, State, Word, MAX_REFS};
use super::Handle;
use crate::sys::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// What the process in a roll slot does with a reference. Zero-filled is nothing.
#[repr(C)]
pub(super) struct Operation {
    /// See [`Step`].
    step: AtomicU64,
    /// The object whose count changes. Written before the step says PENDING, kept until it says OVER.
    handle: AtomicU64,
    /// Where in the arena the entry lies. Written and kept likewise.
    entry: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing is under way.
    Over = 0,
    /// The count was not changed, unless the mark is on it.
    Pending = 1,
    /// The count was changed.
    Applied = 2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// One more reference, and the entry is to say so.
    Enter = 0,
    /// One less, and the entry is to be empty.
    Strike = 1,
    /// One less: the entry was not free.
    Undo = 2,
}

/// An operation's `step` word: `sequence (60) | kind (2) | stage (2)`. The sequence only grows, also when another process gets the slot, so a
/// helper that was stopped for long changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Step(u64);

impl Step {
    fn new(sequence: u64, kind: Kind) -> Self {
        Self(sequence << 4 | (kind as u64) << 2 | Stage::Pending as u64)
    }

    fn sequence(self) -> u64 {
        self.0 >> 4
    }

    fn kind(self) -> Kind {
        match self.0 >> 2 & 3 {
            0 => Kind::Enter,
            1 => Kind::Strike,
            _ => Kind::Undo,
        }
    }

    fn stage(self) -> Stage {
        match self.0 & 3 {
            1 => Stage::Pending,
            2 => Stage::Applied,
            _ => Stage::Over,
        }
    }

    fn at(self, stage: Stage) -> Self {
        Self(self.0 & !3 | stage as u64)
    }

    fn mark(self, slot: usize) -> Mark {
        Mark::new(slot, self.sequence())
    }
}

/// Where operations, objects and entries lie.
pub(super) trait House {
    type Cell: Copy;
    fn operation(&self, slot: usize) -> Option<&Operation>;
    fn cell(&self, handle: Handle) -> Option<Self::Cell>;
    fn word<'a>(&'a self, cell: &'a Self::Cell) -> &'a AtomicU64;
    /// The entry at an offset, if there can be one.
    fn entry(&self, at: u64) -> Option<&AtomicU64>;
    /// Whether what is in limbo in this cell is an object.
    fn is_object(&self, cell: &Self::Cell) -> bool;
    /// What becomes of an object whose last reference goes: LIMBO, or DYING in the caller's hands.
    fn end_of(&self, cell: &Self::Cell) -> State;
}

/// An object that came to its end by an operation, and its word.
pub(super) type Ended<C> = Option<(C, Word)>;

impl Operation {
    fn step(&self) -> Step {
        Step(self.step.load(Acquire))
    }

    fn set(&self, step: Step) {
        self.step.store(step.0, Release);
    }

    fn change(&self, from: Step, to: Step) -> bool {
        self.step.compare_exchange(from.0, to.0, AcqRel, Relaxed).is_ok()
    }

    fn handle(&self) -> Option<Handle> {
        Handle::from_bits(self.handle.load(Acquire))
    }

    /// Publish an operation on a count that is `word`.
    fn begin(&self, slot: usize, kind: Kind, word: &AtomicU64) -> Step {
        let last = self.step().sequence();
        let mut step = Step::new(last.wrapping_add(1), kind);
        // SYNC: an earlier mark of this slot must not look like this operation's. Only this thread puts one there, so none comes later.
        if Word::decode(word.load(Acquire)).mark() == step.mark(slot) {
            step = Step::new(last.wrapping_add(2), kind);
        }
        self.set(step);
        step
    }
}

/// Count a reference, and have `entry`, at offset `at`, say so. Otherwise the object is gone, or the entry was not empty.
pub(super) fn enter<H: House>(
    house: &H,
    slot: usize,
    cell: &H::Cell,
    handle: Handle,
    (at, entry): (u64, &AtomicU64),
) -> Result<(), Ended<H::Cell>> {
    let operation = house.operation(slot).filter(|_| entry.load(Acquire) == 0).ok_or(None)?;
    // SYNC: released by themselves: a helper that reads one of a later operation sees that this one is over.
    operation.handle.store(handle.to_bits(), Release);
    operation.entry.store(at, Release);
    let step = operation.begin(slot, Kind::Enter, house.word(cell));
    // DEATH: nothing happened.
    if apply(house, slot, step, cell, handle).is_none() {
        operation.set(step.at(Stage::Over));
        return Err(None);
    }
    // DEATH: the mark tells that it is applied, or whoever took it away has said so: a survivor fills the entry.
    operation.set(step.at(Stage::Applied));
    if entry.compare_exchange(0, handle.to_bits(), AcqRel, Relaxed).is_ok() {
        operation.set(step.at(Stage::Over));
        return Ok(());
    }
    Err(undo(house, slot, operation, cell, handle))
}

/// Empty an entry and take its reference off the count. Says if that was the last one. Can be repeated.
pub(super) fn strike<H: House>(
    house: &H,
    slot: usize,
    handle: Handle,
    (at, entry): (u64, &AtomicU64),
) -> Ended<H::Cell> {
    let found = house.operation(slot).zip(house.cell(handle));
    let Some((operation, cell)) = found else {
        let _ = entry.compare_exchange(handle.to_bits(), 0, AcqRel, Relaxed);
        return None;
    };
    operation.handle.store(handle.to_bits(), Release);
    operation.entry.store(at, Release);
    let step = operation.begin(slot, Kind::Strike, house.word(&cell));
    let applied = apply(house, slot, step, &cell, handle);
    if applied.is_some() {
        // DEATH: until it is over, a survivor empties the entry and ends the object.
        operation.set(step.at(Stage::Applied));
    }
    let _ = entry.compare_exchange(handle.to_bits(), 0, AcqRel, Relaxed);
    let ended = applied.and_then(|word| ended(house, slot, &cell, handle, word));
    operation.set(step.at(Stage::Over));
    ended
}

/// The reference that was just counted goes again: there was something in its entry.
fn undo<H: House>(house: &H, slot: usize, operation: &Operation, cell: &H::Cell, handle: Handle) -> Ended<H::Cell> {
    // DEATH: one store turns what was applied into what is to be undone.
    let step = operation.begin(slot, Kind::Undo, house.word(cell));
    let applied = apply(house, slot, step, cell, handle);
    if applied.is_some() {
        operation.set(step.at(Stage::Applied));
    }
    let ended = applied.and_then(|word| ended(house, slot, cell, handle, word));
    operation.set(step.at(Stage::Over));
    ended
}

/// End, or undo, what the process in a slot was doing when it died. Run by its reaper alone; when that one dies too, by the next.
pub(super) fn settle<H: House>(house: &H, slot: usize) -> Ended<H::Cell> {
    let operation = house.operation(slot)?;
    loop {
        let step = operation.step();
        let over = step.at(Stage::Over);
        let found = operation
            .handle()
            .and_then(|handle| Some((house.cell(handle)?, handle)));
        let Some((cell, handle)) = found.filter(|_| step.stage() != Stage::Over) else {
            operation.set(over);
            return None;
        };
        match (step.stage(), step.kind()) {
            (Stage::Over, _) => return None,
            (Stage::Pending, kind) => {
                let word = Word::decode(house.word(&cell).load(Acquire));
                if is_of(word, handle) && word.mark() == step.mark(slot) {
                    operation.change(step, step.at(Stage::Applied));
                } else if kind != Kind::Undo {
                    // If it fails, a helper has taken the mark away.
                    operation.change(step, over);
                } else if operation.step() == step {
                    // SYNC: a mark that was taken away before the look at the word would show in the step.
                    let applied = apply(house, slot, step, &cell, handle).is_some();
                    operation.set(if applied { step.at(Stage::Applied) } else { over });
                }
            }
            (Stage::Applied, Kind::Enter) => {
                let entry = house.entry(operation.entry.load(Acquire));
                let written = entry.map(|entry| entry.compare_exchange(0, handle.to_bits(), AcqRel, Relaxed));
                match written {
                    Some(Err(there)) if there != handle.to_bits() => {
                        return undo(house, slot, operation, &cell, handle);
                    }
                    None => return undo(house, slot, operation, &cell, handle),
                    _ => operation.set(over),
                }
            }
            (Stage::Applied, kind) => {
                if let Some(entry) = house
                    .entry(operation.entry.load(Acquire))
                    .filter(|_| kind == Kind::Strike)
                {
                    let _ = entry.compare_exchange(handle.to_bits(), 0, AcqRel, Relaxed);
                }
                let ended = conclude(house, slot, &cell, handle);
                operation.set(over);
                return ended;
            }
        }
    }
}

/// Change the count as `step` says, under its mark: the word then. `None` when the object is gone.
fn apply<H: House>(house: &H, slot: usize, step: Step, cell: &H::Cell, handle: Handle) -> Option<Word> {
    let word = house.word(cell);
    let mark = step.mark(slot);
    loop {
        let bits = word.load(Acquire);
        let before = Word::decode(bits);
        let state = match (step.kind(), before.state) {
            _ if !is_of(before, handle) => return None,
            (Kind::Enter, State::Object { refs, .. }) if refs < MAX_REFS => State::Object { mark, refs: refs + 1 },
            (Kind::Enter, State::Limbo { .. }) if house.is_object(cell) => State::Object { mark, refs: 1 },
            (Kind::Strike | Kind::Undo, State::Object { refs: 1, .. }) => match house.end_of(cell) {
                // It does not come back to life: an operation that finds the object gone need not know who took the last reference.
                dying @ State::Dying(_) => dying,
                // The mark has to stay until the operation is known to be applied.
                _ => State::Object { mark, refs: 0 },
            },
            (Kind::Strike | Kind::Undo, State::Object { refs, .. }) if refs > 1 => {
                State::Object { mark, refs: refs - 1 }
            }
            _ => return None,
        };
        help(house, slot, before, (word, bits), handle);
        let after = before.with(state);
        if word.compare_exchange(bits, after.encode(), AcqRel, Relaxed).is_ok() {
            return Some(after);
        }
    }
}

/// After an operation took a reference off and left `word`: if that was the last one, end the object.
fn ended<H: House>(house: &H, slot: usize, cell: &H::Cell, handle: Handle, word: Word) -> Ended<H::Cell> {
    match word.state {
        State::Dying(_) => Some((*cell, word)),
        State::Object { refs: 0, .. } => conclude(house, slot, cell, handle),
        _ => None,
    }
}

/// End an object that has no reference left.
fn conclude<H: House>(house: &H, slot: usize, cell: &H::Cell, handle: Handle) -> Ended<H::Cell> {
    let word = house.word(cell);
    loop {
        let bits = word.load(Acquire);
        let before = Word::decode(bits);
        if !is_of(before, handle) || !matches!(before.state, State::Object { refs: 0, .. }) {
            return None; // somebody refers to it again, or ended it
        }
        // Somebody may have had it in between.
        help(house, slot, before, (word, bits), handle);
        let after = before.with(house.end_of(cell));
        if word.compare_exchange(bits, after.encode(), AcqRel, Relaxed).is_ok() {
            return Some((*cell, after));
        }
    }
}

/// Before the mark on a word is taken away: write into the operation behind it that it was applied.
fn help<H: House>(house: &H, slot: usize, seen: Word, (word, bits): (&AtomicU64, u64), handle: Handle) {
    let other = seen.mark().slot().filter(|&other| other != slot);
    let Some(operation) = other.and_then(|other| house.operation(other)) else {
        return;
    };
    let step = operation.step();
    let is_it = step.stage() == Stage::Pending && step.mark(other.unwrap_or(slot)) == seen.mark();
    // SYNC: the mark is read again after the step: then it is this operation's, not that of an earlier one with the same bit. And a handle
    // of a later operation is read only after this one is over: then the step is another.
    if is_it && operation.handle() == Some(handle) && word.load(Acquire) == bits {
        operation.change(step, step.at(Stage::Applied));
    }
}

fn is_of(word: Word, handle: Handle) -> bool {
    handle
        .split()
        .is_some_and(|(_, generation)| generation == word.generation)
}
