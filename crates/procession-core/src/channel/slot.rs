//! A slot of a lane: the memory of one message, and the word that tells what it is used for.
//!
//! Leaves to `lane` which process may change the word.

use super::MessageHeader;
use crate::ids::Owner;
use crate::sync::primitive::{AtomicU64, Ordering};
use Ordering::{AcqRel, Acquire, Relaxed};

/// The bits of a slot's generation that are used: a frame has room for no more.
const GENERATION: u32 = (1 << 25) - 1;

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneSlotState {
    Free,
    /// A sender fills the slot, or a survivor empties it.
    Claimed(Owner),
    /// The slot holds a message of so many units.
    Posted(u32),
    /// A receiver takes the message out.
    Taken(Owner),
    /// No correct process wrote this.
    Damaged,
}

/// The word of a slot: generation (26 bits, of which 25 are used) | state (6 bits) | owner or units (32 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotWord(u64);

impl SlotWord {
    pub fn new(generation: u32, state: LaneSlotState) -> Self {
        let (number, detail) = match state {
            LaneSlotState::Free | LaneSlotState::Damaged => (0, 0),
            LaneSlotState::Claimed(owner) => (1, owner.to_bits()),
            LaneSlotState::Posted(units) => (2, units),
            LaneSlotState::Taken(owner) => (3, owner.to_bits()),
        };
        Self(u64::from(generation & GENERATION) << 38 | number << 32 | u64::from(detail))
    }

    pub fn generation(self) -> u32 {
        (self.0 >> 38) as u32 & GENERATION
    }

    pub fn state(self) -> LaneSlotState {
        let detail = self.0 as u32;
        match (self.0 >> 32 & 0x3f, Owner::from_bits(detail)) {
            (0, None) => LaneSlotState::Free,
            (1, Some(owner)) => LaneSlotState::Claimed(owner),
            (2, _) => LaneSlotState::Posted(detail),
            (3, Some(owner)) => LaneSlotState::Taken(owner),
            _ => LaneSlotState::Damaged,
        }
    }

    pub fn with(self, state: LaneSlotState) -> Self {
        Self::new(self.generation(), state)
    }
}

/// A message that waits for a receiver.
#[repr(C, align(64))]
pub(super) struct Slot {
    word: AtomicU64,
    pub header: MessageHeader,
}

impl Slot {
    pub fn word(&self) -> SlotWord {
        SlotWord(self.word.load(Acquire))
    }

    pub fn change(&self, from: SlotWord, to: SlotWord) -> bool {
        // SYNC: releases what this process did with the header, acquires what the one before did.
        self.word.compare_exchange(from.0, to.0, AcqRel, Relaxed).is_ok()
    }

    /// Free a slot whose word is this process's claim.
    pub fn empty(&self, claimed: SlotWord) {
        self.header.discard();
        self.change(claimed, claimed.with(LaneSlotState::Free));
    }
}
