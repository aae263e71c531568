//! The owner word: the authoritative state of a cell.
//!
//! `generation (24) | state (3) | detail (37)`.
//! The detail is the owner (OWNED, DYING), the mark and the reference count (OBJECT), the birth number at the drop
//! (DEFERRED), the receiver (AWAITED), or zero. All-zero is a free cell of generation 0.

use crate::ids::{Owner, GENERATION, GENERATION_BITS};

const DETAIL_BITS: u32 = 37;
const STATE_BITS: u32 = 3;
const GENERATION_SHIFT: u32 = DETAIL_BITS + STATE_BITS;
const _: () = assert!(GENERATION_SHIFT + GENERATION_BITS == 64);
/// The state of a cell that is never used again.
const SPENT: u64 = 7;
const DETAIL: u64 = (1 << DETAIL_BITS) - 1;

/// Largest number of process slots that marks can distinguish.
pub(crate) const MOST_SLOTS: usize = (1 << (DETAIL_BITS - REFS_BITS - 1)) - 1;
const REFS_BITS: u32 = 21;
/// Largest number of references an object can have.
pub(crate) const MAX_REFS: u32 = (1 << REFS_BITS) - 1;

/// What owns a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellState {
    /// Nothing owns it.
    Free,
    /// One process owns it exclusively.
    Owned(Owner),
    /// A message owns it (for segments, a queue): any process with the token may take it.
    Transit,
    /// All holders of a reference own it together.
    Object {
        /// The process that changed the count last.
        mark: Mark,
        /// Number of references; zero only while the end of the object is decided.
        refs: u32,
    },
    /// Given back, but a process forked in the meantime may still read it.
    Deferred {
        /// Low half of the birth counter when it was given back.
        upto: u32,
    },
    /// The last reference is gone; this process is running the object's `destroy`.
    Dying(Owner),
    /// As `Transit`, but only as long as the addressee, this process, lives.
    Awaited(Receiver),
    /// Never used again: the cell has had all its generations.
    Spent,
    /// No valid state: the word is damaged.
    Damaged,
}

/// The process that changed a count last, and its operation: process slot + 1 and the lowest bit of the operation's
/// number. Zero names no process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark(u32);

impl Mark {
    const BITS: u32 = DETAIL_BITS - REFS_BITS;

    pub(super) fn new(slot: usize, sequence: u64) -> Self {
        Self((slot as u32 + 1) << 1 & ((1 << Self::BITS) - 1) | sequence as u32 & 1)
    }

    pub(super) fn slot(self) -> Option<usize> {
        (self.0 as usize >> 1).checked_sub(1)
    }
}

/// A process that may not be in the process table yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receiver {
    pub(super) pid: u32,
    /// Low bits of its start time.
    pub(super) start: u32,
}

impl Receiver {
    const START_BITS: u32 = 15;
    pub(super) const START: u64 = (1 << Self::START_BITS) - 1;
    const PID: u64 = DETAIL >> Self::START_BITS;

    /// Keeps as many bits of each as the word has room for.
    pub(super) fn new(pid: u64, start: u64) -> Self {
        Self {
            pid: (pid & Self::PID) as u32,
            start: (start & Self::START) as u32,
        }
    }
}

/// A decoded owner word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnerWord {
    pub generation: u32,
    pub state: CellState,
}

impl OwnerWord {
    pub(crate) fn decode(bits: u64) -> Self {
        let detail = bits & DETAIL;
        let owner = Owner::from_bits(detail as u32);
        let state = match ((bits >> DETAIL_BITS) & 7, owner) {
            (0, _) => CellState::Free,
            (1, Some(owner)) => CellState::Owned(owner),
            (2, _) => CellState::Transit,
            (3, _) => CellState::Object {
                mark: Mark((detail >> REFS_BITS) as u32),
                refs: detail as u32 & MAX_REFS,
            },
            (4, _) => CellState::Deferred { upto: detail as u32 },
            (5, Some(owner)) => CellState::Dying(owner),
            (6, _) => CellState::Awaited(Receiver::new(detail >> Receiver::START_BITS, detail)),
            (SPENT, _) => CellState::Spent,
            _ => CellState::Damaged,
        };
        Self {
            generation: (bits >> GENERATION_SHIFT) as u32,
            state,
        }
    }

    pub(crate) fn encode(self) -> u64 {
        let (state, detail) = match self.state {
            CellState::Free => (0, 0),
            CellState::Owned(owner) => (1, u64::from(owner.to_bits())),
            CellState::Transit => (2, 0),
            CellState::Object { mark, refs } => (3, u64::from(mark.0) << REFS_BITS | u64::from(refs)),
            CellState::Deferred { upto } => (4, u64::from(upto)),
            CellState::Dying(owner) => (5, u64::from(owner.to_bits())),
            CellState::Awaited(Receiver { pid, start }) => {
                (6, u64::from(pid) << Receiver::START_BITS | u64::from(start))
            }
            CellState::Spent | CellState::Damaged => (SPENT, 0),
        };
        u64::from(self.generation & GENERATION) << GENERATION_SHIFT | state << DETAIL_BITS | detail & DETAIL
    }

    /// The mark of an object's word; for other words the mark that names no process.
    pub(super) fn mark(self) -> Mark {
        match self.state {
            CellState::Object { mark, .. } => mark,
            _ => Mark::default(),
        }
    }

    /// The same cell in another state.
    pub(crate) fn with(self, state: CellState) -> Self {
        Self { state, ..self }
    }

    /// The same cell, given back. The next generation makes old tokens and handles stale.
    pub(crate) fn freed(self) -> Self {
        if self.generation >= GENERATION {
            return self.with(CellState::Spent);
        }
        Self {
            generation: self.generation + 1,
            state: CellState::Free,
        }
    }
}

/// Whether nothing owns the cell: FREE or SPENT.
pub(crate) fn is_unused(bits: u64) -> bool {
    matches!(bits >> DETAIL_BITS & 7, 0 | SPENT)
}

/// Whether the word says FREE. It does not decode the rest: scans look at many words.
pub(crate) fn is_free(bits: u64) -> bool {
    bits & (7 << DETAIL_BITS) == 0
}

/// The fields that the owner word has no room for. The owner writes them before other processes can see the cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CellNote {
    /// Low half of the birth counter when the memory was allocated or taken.
    pub birth: u32,
    /// Kind of the object; 0 for a block.
    pub kind: u8,
    /// Which parts the object's label has (2 bits).
    pub label: u8,
    /// Number of references that the block begins with.
    pub references: u32,
}

/// Largest number of references that a block can begin with.
pub(crate) const MAX_REFERENCES: u32 = (1 << 24) - 1;

/// Largest number of a kind.
pub(crate) const MAX_KIND: u8 = (1 << 6) - 1;

impl CellNote {
    pub(crate) fn decode(bits: u64) -> Self {
        Self {
            birth: bits as u32,
            kind: (bits >> 32) as u8 & MAX_KIND,
            label: (bits >> 38) as u8 & 3,
            references: (bits >> 40) as u32,
        }
    }

    pub(crate) fn encode(self) -> u64 {
        u64::from(self.references & MAX_REFERENCES) << 40
            | u64::from(self.label & 3) << 38
            | u64::from(self.kind & MAX_KIND) << 32
            | u64::from(self.birth)
    }
}

/// The latest birth number that has `low` as its low half and is not after `now`. Zero if there is none: the note is
/// damaged.
pub(crate) fn full_birth(low: u32, now: u64) -> u64 {
    now.saturating_sub(u64::from((now as u32).wrapping_sub(low)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner() -> Owner {
        Owner::from_bits(0x7fff_ffff).unwrap()
    }

    #[test]
    fn every_state_survives_encoding() {
        let states = [
            CellState::Free,
            CellState::Owned(owner()),
            CellState::Transit,
            CellState::Object {
                mark: Mark::new(MOST_SLOTS - 1, 1),
                refs: MAX_REFS,
            },
            CellState::Object {
                mark: Mark::default(),
                refs: 0,
            },
            CellState::Deferred { upto: u32::MAX },
            CellState::Dying(owner()),
            CellState::Spent,
            CellState::Awaited(Receiver::new(u64::MAX, u64::MAX)),
        ];
        for state in states {
            for generation in [0, 1, GENERATION] {
                let word = OwnerWord { generation, state };
                assert_eq!(OwnerWord::decode(word.encode()), word);
            }
        }
    }

    #[test]
    fn marks_name_their_slot() {
        for slot in [0, 1, MOST_SLOTS - 1] {
            assert_eq!(Mark::new(slot, 7).slot(), Some(slot));
            assert_ne!(Mark::new(slot, 7), Mark::new(slot, 8));
        }
        assert_eq!(Mark::default().slot(), None);
    }

    #[test]
    fn zero_is_free() {
        assert_eq!(
            OwnerWord::decode(0),
            OwnerWord {
                generation: 0,
                state: CellState::Free
            }
        );
    }

    #[test]
    fn no_generation_comes_twice() {
        let mut word = OwnerWord {
            generation: GENERATION - 1,
            state: CellState::Transit,
        }
        .freed();
        assert_eq!((word.generation, word.state), (GENERATION, CellState::Free));
        word = word.with(CellState::Transit).freed();
        assert_eq!((word.generation, word.state), (GENERATION, CellState::Spent));
        assert!(is_unused(word.encode()) && !is_free(word.encode()));
    }

    #[test]
    fn births_are_restored_across_a_wrap() {
        assert_eq!(full_birth(7, 9), 7);
        assert_eq!(full_birth(u32::MAX, (1 << 32) + 2), u64::from(u32::MAX));
        assert_eq!(full_birth(5, 3), 0, "a damaged note is older than everything");
    }

    proptest! {
        #[test]
        fn any_bits_decode(bits: u64) {
            let word = OwnerWord::decode(bits);
            prop_assert!(word.generation <= GENERATION);
            if word.state != CellState::Damaged {
                prop_assert_eq!(OwnerWord::decode(word.encode()), word);
            }
            prop_assert_eq!(CellNote::decode(bits).encode(), bits);
        }
    }
}
