//! The state of one direction of a pipe, in one word: which receiver may take the next message by hand, and how many
//! messages are in the descriptor. The README of this folder, "Pipes", has the transitions and why messages keep their
//! order.
//!
//! Leaves to `lane` where the messages lie, and to the faces what is read from the descriptor and written to it.

use crate::ids::Owner;
use crate::sync::primitive::{AtomicU64, Ordering};
use Ordering::{Acquire, Relaxed};

/// Bits 0 to 19: the number of pending frames.
const PENDING: u64 = (1 << 20) - 1;
/// Bits 20 to 25: the slot of a message that was handed over.
const SLOT_SHIFT: u32 = 20;
const SLOT: u64 = 0x3f;
/// Bits 26 and 27: the receiver's stage.
const STAGE_SHIFT: u32 = 26;
const STAGE: u64 = 3;
const SPINNING: u64 = 1;
const HANDED: u64 = 2;
/// Bit 28: all messages go through the descriptor, for good.
const PLAIN: u64 = 1 << 28;
/// Bits 32 to 63: the receiver, while there is one.
const OWNER_SHIFT: u32 = 32;
/// What tells of the receiver.
const RECEIVER: u64 = !(PENDING | PLAIN);

/// The receiver that a sender may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PipeReceiver {
    /// No receiver spins.
    None,
    /// A thread of this process spins, and looks at nothing but the word.
    Spinning(Owner),
    /// The message in this slot belongs to this process, or to the process that succeeds it if it dies.
    Handed(u32, Owner),
}

/// A value of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HandoverState(u64);

impl HandoverState {
    pub fn is_plain(self) -> bool {
        self.0 & PLAIN != 0
    }

    /// Frames that senders have announced and no receiver has read yet: never fewer than are in the descriptor, as
    /// long as the state is not plain.
    pub fn pending(self) -> u64 {
        self.0 & PENDING
    }

    /// A damaged word has no receiver.
    pub fn receiver(self) -> PipeReceiver {
        let owner = Owner::from_bits((self.0 >> OWNER_SHIFT) as u32);
        match (self.0 >> STAGE_SHIFT & STAGE, owner) {
            (SPINNING, Some(owner)) => PipeReceiver::Spinning(owner),
            (HANDED, Some(owner)) => PipeReceiver::Handed((self.0 >> SLOT_SHIFT & SLOT) as u32, owner),
            _ => PipeReceiver::None,
        }
    }

    /// Whether the next message may be handed to a receiver: it is newer than all that were announced.
    pub fn is_open(self) -> bool {
        self.0 & (PENDING | PLAIN) == 0 && matches!(self.receiver(), PipeReceiver::Spinning(_))
    }

    fn with(self, receiver: PipeReceiver) -> Self {
        let bits = match receiver {
            PipeReceiver::None => 0,
            PipeReceiver::Spinning(owner) => SPINNING << STAGE_SHIFT | bits_of(owner),
            PipeReceiver::Handed(slot, owner) => {
                HANDED << STAGE_SHIFT | (u64::from(slot) & SLOT) << SLOT_SHIFT | bits_of(owner)
            }
        };
        Self(self.0 & !RECEIVER | bits)
    }
}

fn bits_of(owner: Owner) -> u64 {
    u64::from(owner.to_bits()) << OWNER_SHIFT
}

/// The word. Zero: no receiver, no frames.
#[repr(transparent)]
#[derive(Debug, Default)]
pub(super) struct Handover(AtomicU64);

impl Handover {
    /// SYNC: acquires the message of a hand-over, which its sender filled in before.
    pub fn state(&self) -> HandoverState {
        HandoverState(self.0.load(Acquire))
    }

    /// Apply a change until no other process comes between. Returns the value before it, or the last one seen if there
    /// is nothing to change.
    fn change(
        &self,
        mut to: impl FnMut(HandoverState) -> Option<HandoverState>,
    ) -> Result<HandoverState, HandoverState> {
        // SYNC: acquires and releases. A hand-over passes a slot's content on; every other change is ordered with it,
        // because all are changes of one word.
        let change = |bits| to(HandoverState(bits)).map(|state| state.0);
        self.0
            .fetch_update(Ordering::AcqRel, Acquire, change)
            .map(HandoverState)
            .map_err(HandoverState)
    }

    /// Announce a frame, which the caller writes to the descriptor next. False if the state is plain: then a frame
    /// needs no announcement.
    pub fn announce(&self) -> bool {
        let before = self.change(|state| {
            if state.is_plain() {
                return None;
            }
            // More frames than the descriptor can hold: the word is damaged. The descriptor alone is right then.
            let full = state.pending() == PENDING;
            Some(HandoverState(if full { state.0 | PLAIN } else { state.0 + 1 }))
        });
        before.is_ok_and(|state| state.pending() != PENDING)
    }

    /// Take one announcement back: its frame was read, or was never written.
    pub fn settle(&self) {
        let _ = self.change(|state| (!state.is_plain() && state.pending() > 0).then(|| HandoverState(state.0 - 1)));
    }

    /// Have all further messages go through the descriptor.
    pub fn go_plain(&self) {
        if !self.state().is_plain() {
            self.0.fetch_or(PLAIN, Ordering::AcqRel);
        }
    }

    /// Begin to wait for a message by hand. False if one may be in the descriptor, or if another receiver waits.
    pub fn begin(&self, me: Owner) -> bool {
        let state = HandoverState(self.0.load(Relaxed));
        if state.pending() > 0 || state.is_plain() || state.receiver() != PipeReceiver::None {
            return false;
        }
        self.exchange(state, state.with(PipeReceiver::Spinning(me)))
    }

    /// Whether the wait of this process goes on.
    pub fn goes_on(&self, me: Owner) -> bool {
        let state = HandoverState(self.0.load(Relaxed));
        state.pending() == 0 && !state.is_plain() && state.receiver() == PipeReceiver::Spinning(me)
    }

    /// End the wait. Returns the slot of a message if one was handed over.
    pub fn withdraw(&self, me: Owner) -> Option<u32> {
        let before = self
            .change(|state| (state.receiver() == PipeReceiver::Spinning(me)).then(|| state.with(PipeReceiver::None)));
        match before.map_err(HandoverState::receiver) {
            Err(PipeReceiver::Handed(slot, owner)) if owner == me => Some(slot),
            _ => None,
        }
    }

    /// Hand the message in this slot to the receiver that waits. False if there is none any more, or if another message
    /// comes first.
    pub fn hand(&self, slot: u32) -> bool {
        let before = self.change(|state| match state.receiver() {
            PipeReceiver::Spinning(owner) if state.is_open() => Some(state.with(PipeReceiver::Handed(slot, owner))),
            _ => None,
        });
        before.is_ok()
    }

    /// The message that was handed to this process is its own now.
    pub fn taken(&self, me: Owner) {
        let _ = self.change(|state| match state.receiver() {
            PipeReceiver::Handed(_, owner) if owner == me => Some(state.with(PipeReceiver::None)),
            _ => None,
        });
    }

    /// Forget a dead receiver to which no message was handed.
    pub fn dismiss(&self, dead: Owner) {
        let _ = self
            .change(|state| (state.receiver() == PipeReceiver::Spinning(dead)).then(|| state.with(PipeReceiver::None)));
    }

    /// Succeed a dead receiver. Returns the slot of a message that was handed to it and is this process's now.
    pub fn succeed(&self, dead: Owner, me: Owner) -> Option<u32> {
        let before = self.change(|state| match state.receiver() {
            PipeReceiver::Spinning(owner) if owner == dead => Some(state.with(PipeReceiver::None)),
            PipeReceiver::Handed(slot, owner) if owner == dead => Some(state.with(PipeReceiver::Handed(slot, me))),
            _ => None,
        });
        match before.map(HandoverState::receiver) {
            Ok(PipeReceiver::Handed(slot, _)) => Some(slot),
            _ => None,
        }
    }

    fn exchange(&self, from: HandoverState, to: HandoverState) -> bool {
        self.0.compare_exchange(from.0, to.0, Ordering::AcqRel, Relaxed).is_ok()
    }
}
