//! What an observer of another family reads of locks and the other primitives, given a copy of an object's state.

use super::barrier::{BROKEN, PHASE};
use super::claim::Claim;
use super::event::SET;
use super::primitive::{AtomicU64, Ordering::Relaxed};
use super::raw::{RawLock, WAITERS};
use super::waiters::WaiterWord;
use crate::arena::seen::AnyBits;
use crate::ids::{Handle, Owner};
use crate::CreationSite;

pub(crate) use super::barrier::BarrierState;
pub(crate) use super::condition::ConditionState;
pub(crate) use super::event::EventState;
pub(crate) use super::lock::LockState;
pub(crate) use super::permits::Permits;
pub(crate) use super::rlock::RLockState;
pub(crate) use super::waiters::Chunk;

// SAFETY: atomics only, as each type's `Object` says.
unsafe impl AnyBits for LockState {}
// SAFETY: as above.
unsafe impl AnyBits for RLockState {}
// SAFETY: as above.
unsafe impl AnyBits for Permits {}
// SAFETY: as above.
unsafe impl AnyBits for EventState {}
// SAFETY: as above.
unsafe impl AnyBits for ConditionState {}
// SAFETY: as above.
unsafe impl AnyBits for BarrierState {}
// SAFETY: as above.
unsafe impl AnyBits for Chunk {}

/// A lock's word at one moment.
#[derive(Clone, Debug)]
pub(crate) struct LockWord {
    /// The process and the thread that hold it.
    pub holder: Option<(Owner, u32)>,
    /// Whether the lock's release will wake a waiter.
    pub waiters_bit: bool,
}

fn word_of(raw: &RawLock) -> LockWord {
    let word = raw.word.load(Relaxed);
    LockWord {
        holder: Claim::from_bits(word).map(|claim| (claim.owner(), claim.thread())),
        waiters_bit: word & WAITERS != 0,
    }
}

impl LockState {
    pub(crate) fn seen(&self) -> (LockWord, Option<CreationSite>) {
        (word_of(&self.raw), self.options.made.get())
    }
}

impl RLockState {
    /// Word, creation site, and how often the holder has taken it.
    pub(crate) fn seen(&self) -> (LockWord, Option<CreationSite>, u32) {
        (word_of(&self.raw), self.options.made.get(), self.count.load(Relaxed))
    }
}

impl Permits {
    /// The value, and its bound.
    pub(crate) fn seen(&self) -> (u32, u32) {
        (self.value(), self.bound())
    }
}

impl EventState {
    /// Whether it is set.
    pub(crate) fn seen(&self) -> bool {
        self.word.load(Relaxed) & SET != 0
    }
}

impl BarrierState {
    /// How many parties it has, and whether it is broken.
    pub(crate) fn seen(&self) -> (u32, bool) {
        (self.parties.load(Relaxed), self.stage.load(Relaxed) & PHASE >= BROKEN)
    }

    pub(crate) fn first_chunk(&self) -> &Chunk {
        &self.waiters
    }
}

impl ConditionState {
    pub(crate) fn first_chunk(&self) -> &Chunk {
        &self.waiters
    }
}

impl Chunk {
    /// The processes whose threads wait in this chunk, one for each thread, and the chunk that follows.
    pub(crate) fn seen(&self) -> (Vec<Owner>, Option<Handle>) {
        let waiting = |word: &AtomicU64| {
            let word = WaiterWord(word.load(Relaxed));
            word.owner().filter(|_| word.is_waiting())
        };
        (
            self.slots.iter().filter_map(waiting).collect(),
            Handle::from_bits(self.next.load(Relaxed)),
        )
    }
}
