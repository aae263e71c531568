//! Changes of reference counts. No process waits for another's change, and a survivor can tell how far a change has
//! come.
//!
//! A reference is a count (in the object's owner word) and an *entry* (a word that holds the handle). The two change
//! one after the other, so each process slot has one [`Operation`] that says what its process is doing. The count keeps
//! the *mark* of the process that changed it last: its slot, and the lowest bit of the number of that operation. The
//! process that changes the count next first records, in the operation behind the mark, that it was applied. So an
//! operation was applied exactly if it says so, or if its mark is on the word.
//!
//! One thread at a time runs the operation of a slot: a thread of the process itself, or the reaper of the dead
//! process.

use super::word::{CellState, Mark, OwnerWord, MAX_REFS};
use crate::ids::Handle;
use crate::sys::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// The change of a reference by the process in a process table slot. Zero-filled: no change.
#[repr(C)]
pub(super) struct Operation {
    /// See [`Step`].
    step: AtomicU64,
    /// The object of which the count changes. Written before the step says PENDING, kept until it says OVER.
    handle: AtomicU64,
    /// Offset of the entry in the arena. Written and kept likewise.
    entry: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ChangeStage {
    /// No operation is under way.
    Over = 0,
    /// The count has changed only if the mark is on it.
    Pending = 1,
    /// The count has changed.
    Applied = 2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ChangeKind {
    /// Add a reference, and fill the entry.
    Acquire = 0,
    /// Remove a reference, and empty the entry.
    Release = 1,
    /// Remove the reference again, because the entry was not empty.
    Undo = 2,
}

/// An operation's `step` word: `sequence (60) | kind (2) | stage (2)`. The sequence only grows, even when another
/// process gets the slot, so a helper that was stopped for a long time changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Step(u64);

impl Step {
    fn new(sequence: u64, kind: ChangeKind) -> Self {
        Self(sequence << 4 | (kind as u64) << 2 | ChangeStage::Pending as u64)
    }

    fn sequence(self) -> u64 {
        self.0 >> 4
    }

    fn kind(self) -> ChangeKind {
        match self.0 >> 2 & 3 {
            0 => ChangeKind::Acquire,
            1 => ChangeKind::Release,
            _ => ChangeKind::Undo,
        }
    }

    fn stage(self) -> ChangeStage {
        match self.0 & 3 {
            1 => ChangeStage::Pending,
            2 => ChangeStage::Applied,
            _ => ChangeStage::Over,
        }
    }

    fn at(self, stage: ChangeStage) -> Self {
        Self(self.0 & !3 | stage as u64)
    }

    fn mark(self, slot: usize) -> Mark {
        Mark::new(slot, self.sequence())
    }
}

/// Access to operations, objects and entries.
pub(super) trait Counted {
    type Cell: Copy;
    fn operation(&self, slot: usize) -> Option<&Operation>;
    fn cell(&self, handle: Handle) -> Option<Self::Cell>;
    fn word<'a>(&'a self, cell: &'a Self::Cell) -> &'a AtomicU64;
    /// The entry at an offset, if the offset is a possible one.
    fn entry(&self, at: u64) -> Option<&AtomicU64>;
    /// Whether this cell, which is deferred, is an object.
    fn is_object(&self, cell: &Self::Cell) -> bool;
    /// What an object becomes when its last reference goes: DEFERRED, or DYING with the caller as its owner.
    fn end_of(&self, cell: &Self::Cell) -> CellState;
}

/// An object that an operation ended, and its owner word.
pub(super) type Ended<C> = Option<(C, OwnerWord)>;

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

    /// Publish an operation on the count in `word`.
    fn begin(&self, slot: usize, kind: ChangeKind, word: &AtomicU64) -> Step {
        let last = self.step().sequence();
        let mut step = Step::new(last.wrapping_add(1), kind);
        // SYNC: an earlier mark of this slot must not look like this operation's. Only this thread writes marks of this
        // slot, so none appears after the check.
        if OwnerWord::decode(word.load(Acquire)).mark() == step.mark(slot) {
            step = Step::new(last.wrapping_add(2), kind);
        }
        self.set(step);
        step
    }
}

/// Count a reference, and store the handle in `entry`, at offset `at`. Fails if the object is gone or the entry is not
/// empty. The error holds the object if removing the reference again ended it.
pub(super) fn acquire<H: Counted>(
    memory: &H,
    slot: usize,
    cell: &H::Cell,
    handle: Handle,
    (at, entry): (u64, &AtomicU64),
) -> Result<(), Ended<H::Cell>> {
    let operation = memory
        .operation(slot)
        .filter(|_| entry.load(Acquire) == 0)
        .ok_or(None)?;
    // SYNC: both stores are releases. A helper of this operation that reads a value of a later one also sees that this
    // one is over.
    operation.handle.store(handle.to_bits(), Release);
    operation.entry.store(at, Release);
    let step = operation.begin(slot, ChangeKind::Acquire, memory.word(cell));
    // DEATH: nothing has changed yet.
    if apply(memory, slot, step, cell, handle).is_none() {
        operation.set(step.at(ChangeStage::Over));
        return Err(None);
    }
    // DEATH: the mark shows that the operation was applied, or the process that replaced the mark has recorded it. A
    // survivor fills the entry.
    operation.set(step.at(ChangeStage::Applied));
    if entry.compare_exchange(0, handle.to_bits(), AcqRel, Relaxed).is_ok() {
        operation.set(step.at(ChangeStage::Over));
        return Ok(());
    }
    Err(undo(memory, slot, operation, cell, handle))
}

/// Empty an entry and take its reference off the count. Returns the object if that was its last reference. May be
/// repeated.
pub(super) fn release<H: Counted>(
    memory: &H,
    slot: usize,
    handle: Handle,
    (at, entry): (u64, &AtomicU64),
) -> Ended<H::Cell> {
    let found = memory.operation(slot).zip(memory.cell(handle));
    let Some((operation, cell)) = found else {
        let _ = entry.compare_exchange(handle.to_bits(), 0, AcqRel, Relaxed);
        return None;
    };
    operation.handle.store(handle.to_bits(), Release);
    operation.entry.store(at, Release);
    let step = operation.begin(slot, ChangeKind::Release, memory.word(&cell));
    let applied = apply(memory, slot, step, &cell, handle);
    if applied.is_some() {
        // DEATH: until the operation is OVER, a survivor empties the entry and ends the object.
        operation.set(step.at(ChangeStage::Applied));
    }
    let _ = entry.compare_exchange(handle.to_bits(), 0, AcqRel, Relaxed);
    let ended = applied.and_then(|word| ended(memory, slot, &cell, handle, word));
    operation.set(step.at(ChangeStage::Over));
    ended
}

/// Remove the reference that was just counted, because its entry was not empty.
fn undo<H: Counted>(memory: &H, slot: usize, operation: &Operation, cell: &H::Cell, handle: Handle) -> Ended<H::Cell> {
    // DEATH: this one store turns the applied operation into one to be undone.
    let step = operation.begin(slot, ChangeKind::Undo, memory.word(cell));
    let applied = apply(memory, slot, step, cell, handle);
    if applied.is_some() {
        operation.set(step.at(ChangeStage::Applied));
    }
    let ended = applied.and_then(|word| ended(memory, slot, cell, handle, word));
    operation.set(step.at(ChangeStage::Over));
    ended
}

/// Finish, or undo, the operation that was under way in a slot when its process died. Only the reaper runs this; if the
/// reaper dies too, its successor does.
pub(super) fn resolve<H: Counted>(memory: &H, slot: usize) -> Ended<H::Cell> {
    let operation = memory.operation(slot)?;
    loop {
        let step = operation.step();
        let over = step.at(ChangeStage::Over);
        let found = operation
            .handle()
            .and_then(|handle| Some((memory.cell(handle)?, handle)));
        let Some((cell, handle)) = found.filter(|_| step.stage() != ChangeStage::Over) else {
            operation.set(over);
            return None;
        };
        match (step.stage(), step.kind()) {
            (ChangeStage::Over, _) => return None,
            (ChangeStage::Pending, kind) => {
                let word = OwnerWord::decode(memory.word(&cell).load(Acquire));
                if is_of(word, handle) && word.mark() == step.mark(slot) {
                    operation.change(step, step.at(ChangeStage::Applied));
                } else if kind != ChangeKind::Undo {
                    // On failure a helper has recorded the operation as applied and replaced its mark.
                    operation.change(step, over);
                } else if operation.step() == step {
                    // SYNC: had the mark been replaced before the word was read, the step would show it.
                    let applied = apply(memory, slot, step, &cell, handle).is_some();
                    operation.set(if applied { step.at(ChangeStage::Applied) } else { over });
                }
            }
            (ChangeStage::Applied, ChangeKind::Acquire) => {
                let entry = memory.entry(operation.entry.load(Acquire));
                let written = entry.map(|entry| entry.compare_exchange(0, handle.to_bits(), AcqRel, Relaxed));
                match written {
                    Some(Err(there)) if there != handle.to_bits() => {
                        return undo(memory, slot, operation, &cell, handle);
                    }
                    None => return undo(memory, slot, operation, &cell, handle),
                    _ => operation.set(over),
                }
            }
            (ChangeStage::Applied, kind) => {
                if let Some(entry) = memory
                    .entry(operation.entry.load(Acquire))
                    .filter(|_| kind == ChangeKind::Release)
                {
                    let _ = entry.compare_exchange(handle.to_bits(), 0, AcqRel, Relaxed);
                }
                let ended = conclude(memory, slot, &cell, handle);
                operation.set(over);
                return ended;
            }
        }
    }
}

/// Change the count as `step` says, and put its mark on the word. Returns the new word. `None` if the object is gone or
/// its count has no room.
fn apply<H: Counted>(memory: &H, slot: usize, step: Step, cell: &H::Cell, handle: Handle) -> Option<OwnerWord> {
    let word = memory.word(cell);
    let mark = step.mark(slot);
    loop {
        let bits = word.load(Acquire);
        let before = OwnerWord::decode(bits);
        let state = match (step.kind(), before.state) {
            _ if !is_of(before, handle) => return None,
            (ChangeKind::Acquire, CellState::Object { refs, .. }) if refs < MAX_REFS => {
                CellState::Object { mark, refs: refs + 1 }
            }
            (ChangeKind::Acquire, CellState::Deferred { .. }) if memory.is_object(cell) => {
                CellState::Object { mark, refs: 1 }
            }
            (ChangeKind::Release | ChangeKind::Undo, CellState::Object { refs: 1, .. }) => match memory.end_of(cell) {
                // DYING is final: an operation that finds the object gone need not know which one removed the last
                // reference.
                dying @ CellState::Dying(_) => dying,
                // The mark has to stay until the operation is recorded as applied.
                _ => CellState::Object { mark, refs: 0 },
            },
            (ChangeKind::Release | ChangeKind::Undo, CellState::Object { refs, .. }) if refs > 1 => {
                CellState::Object { mark, refs: refs - 1 }
            }
            _ => return None,
        };
        help(memory, slot, before, (word, bits), handle);
        let after = before.with(state);
        if word.compare_exchange(bits, after.encode(), AcqRel, Relaxed).is_ok() {
            return Some(after);
        }
    }
}

/// After an operation removed a reference and left `word`: end the object if that was the last one.
fn ended<H: Counted>(memory: &H, slot: usize, cell: &H::Cell, handle: Handle, word: OwnerWord) -> Ended<H::Cell> {
    match word.state {
        CellState::Dying(_) => Some((*cell, word)),
        CellState::Object { refs: 0, .. } => conclude(memory, slot, cell, handle),
        _ => None,
    }
}

/// End an object that has no reference left.
fn conclude<H: Counted>(memory: &H, slot: usize, cell: &H::Cell, handle: Handle) -> Ended<H::Cell> {
    let word = memory.word(cell);
    loop {
        let bits = word.load(Acquire);
        let before = OwnerWord::decode(bits);
        if !is_of(before, handle) || !matches!(before.state, CellState::Object { refs: 0, .. }) {
            return None; // referred to again, or already ended
        }
        // Another process may have added and removed a reference in between, and left its mark.
        help(memory, slot, before, (word, bits), handle);
        let after = before.with(memory.end_of(cell));
        if word.compare_exchange(bits, after.encode(), AcqRel, Relaxed).is_ok() {
            return Some((*cell, after));
        }
    }
}

/// Before the mark on a word is replaced: record in the operation behind it that it was applied.
fn help<H: Counted>(memory: &H, slot: usize, seen: OwnerWord, (word, bits): (&AtomicU64, u64), handle: Handle) {
    let other = seen.mark().slot().filter(|&other| other != slot);
    let Some(operation) = other.and_then(|other| memory.operation(other)) else {
        return;
    };
    let step = operation.step();
    let is_it = step.stage() == ChangeStage::Pending && step.mark(other.unwrap_or(slot)) == seen.mark();
    // SYNC: the mark is read again after the step, so it belongs to this operation and not to an earlier one with the
    // same bit. The handle of a later operation is read only after this one is over, and then the step is another.
    if is_it && operation.handle() == Some(handle) && word.load(Acquire) == bits {
        operation.change(step, step.at(ChangeStage::Applied));
    }
}

fn is_of(word: OwnerWord, handle: Handle) -> bool {
    handle
        .split()
        .is_some_and(|(_, generation)| generation == word.generation)
}
