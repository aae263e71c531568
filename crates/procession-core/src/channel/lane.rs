//! A lane: what one direction of a pipe has in shared memory, beside its descriptor. The README of this folder,
//! "Pipes", argues its correctness.
//!
//! The descriptor has the order of the messages, their end, and all that poll(2) sees. A lane gives a message to a
//! receiver that spins, and holds large messages, of which only a short frame goes through the descriptor. Leaves that
//! to the faces.

use super::handover::{Handover, HandoverState, PipeReceiver};
use super::slot::{LaneSlotState, Slot, SlotWord};
use super::{Incoming, Message};
use crate::arena::{Object, Ref};
use crate::ids::{Kind, Owner};
use crate::liveness::{is_alive, is_known_dead, is_probably_dead};
use crate::sync::wait::{EventCount, Purpose};
use crate::sync::Spin;
use crate::{liveness, Deadline, Error, Result, WaitError};

/// The number of slots: what fits into a cell of 4 KiB.
const SLOTS: usize = 31;
/// The most bytes in slots at a time; a lone message may be larger.
const BYTES: u64 = 16 << 20;
/// The unit in which slots count bytes.
const UNIT: u64 = 1 << 10;

const SLOT_BITS: u32 = 5;
/// The header of the frame that names slot 0 in generation 0. Lengths of other frames are -1 and more.
const FIRST_HEADER: i32 = -2;

/// One direction of a pipe. Zero-filled: nothing was sent.
#[repr(C, align(64))]
pub struct Lane {
    handover: Handover,
    spin: Spin,
    /// Senders that wait for room in the slots.
    room: EventCount,
    slots: [Slot; SLOTS],
}

const _: () = assert!(size_of::<Lane>() <= 4096);

// SAFETY: all fields are atomics, zero is valid, numbers read are checked before they index.
unsafe impl Object for Lane {
    const KIND: Kind = Kind::Lane;
    const NAME: &'static str = "pipe";

    fn destroy(&self) {
        for slot in &self.slots {
            if slot.word().state() != LaneSlotState::Free {
                slot.header.discard();
            }
        }
    }
}

/// A frame that was announced. Dropping it in the process that made it takes the announcement back: drop it only if not
/// a byte of the frame was written.
#[must_use]
#[derive(Debug)]
pub struct AnnouncedFrame<'a> {
    handover: &'a Handover,
    me: Option<Owner>,
}

impl AnnouncedFrame<'_> {
    /// The frame was written, at least in part.
    pub fn written(self) {
        std::mem::forget(self);
    }
}

impl Drop for AnnouncedFrame<'_> {
    fn drop(&mut self) {
        // A child of fork has a copy: the announcement is its parent's.
        if self.me == liveness::me().ok() {
            self.handover.settle();
        }
    }
}

/// A message in a slot, which no receiver knows of. Dropping it in the process that made it frees the slot.
#[must_use]
pub struct Posted<'a> {
    lane: &'a Lane,
    index: usize,
    word: SlotWord,
    me: Owner,
}

impl Drop for Posted<'_> {
    fn drop(&mut self) {
        // A child of fork has a copy: the slot is its parent's.
        if !liveness::me().is_ok_and(|me| me == self.me) {
            return;
        }
        let claimed = self.word.with(LaneSlotState::Claimed(self.me));
        let slot = &self.lane.slots[self.index];
        if slot.change(self.word, claimed) {
            slot.empty(claimed);
        }
    }
}

impl<'a> Posted<'a> {
    /// Hand the message to a receiver that spins.
    pub fn hand_over(self) -> Result<(), Self> {
        if self.lane.handover.hand(self.index as u32) {
            std::mem::forget(self);
            return Ok(());
        }
        Err(self)
    }

    /// Announce the frame that names the slot. Returns the frame.
    pub fn announce(self) -> Result<Named<'a>, Self> {
        match self.lane.announce() {
            Some(announced) => Ok(Named {
                announced,
                posted: self,
            }),
            None => Err(self),
        }
    }
}

/// A message in a slot, and the announcement of the frame that names it. Dropping it takes both back: drop it only if
/// not a byte of the frame was written.
#[must_use]
pub struct Named<'a> {
    announced: AnnouncedFrame<'a>,
    posted: Posted<'a>,
}

impl Named<'_> {
    /// The frame to write.
    pub fn frame(&self) -> [u8; 4] {
        let Posted { index, word, .. } = self.posted;
        let number = word.generation() << SLOT_BITS | index as u32;
        (FIRST_HEADER - number as i32).to_be_bytes()
    }

    /// The frame was written, at least in part.
    pub fn written(self) {
        self.announced.written();
        std::mem::forget(self.posted);
    }
}

impl Lane {
    /// Create a lane.
    pub fn create() -> Result<Ref<Self>> {
        Ref::create()
    }

    /// Whether all messages go through the descriptor as any program would write them.
    pub fn is_plain(&self) -> bool {
        self.handover.state().is_plain()
    }

    /// Have all further messages go through the descriptor, for good.
    pub fn go_plain(&self) {
        self.handover.go_plain();
    }

    /// Whether a receiver waits to be handed a message. A hint.
    pub fn is_awaited(&self) -> bool {
        let state = self.handover.state();
        state.is_open()
            && match state.receiver() {
                // What is sent to a receiver that is known to be dead finds the end of the pipe in the descriptor.
                PipeReceiver::Spinning(owner) if is_known_dead(owner) => {
                    self.handover.dismiss(owner);
                    false
                }
                _ => true,
            }
    }

    /// Whether a frame may be in the descriptor. A hint.
    pub fn is_pending(&self) -> bool {
        let state = self.handover.state();
        state.is_plain() || state.pending() > 0
    }

    /// Wait until a message of so many bytes fits into the slots, or the pipe is plain.
    pub fn wait_for_room(&self, bytes: usize, deadline: Deadline) -> Result<(), WaitError> {
        let fits = || {
            let is_free = |slot: &Slot| slot.word().state() == LaneSlotState::Free;
            let room = self.has_room(bytes as u64 / UNIT) && self.slots.iter().any(is_free);
            (room || self.is_plain()).then_some(())
        };
        self.room.wait_for(Purpose::default(), deadline, fits)
    }

    /// Put a message into a slot. `None`, and the message is dropped, if there is no room.
    pub fn post(&self, message: Message) -> Result<Option<Posted<'_>>> {
        let me = liveness::me()?;
        let units = message.size() as u64 / UNIT;
        if units > 0 && !self.has_room(units) {
            return Ok(None);
        }
        let Some((index, claimed)) = self.claim(me) else {
            return Ok(None);
        };
        let slot = &self.slots[index];
        // DEATH: a slot that a dead process claimed is emptied by the next sender that finds no other.
        slot.header.post(message);
        let word = claimed.with(LaneSlotState::Posted(u32::try_from(units).unwrap_or(u32::MAX)));
        if !slot.change(claimed, word) {
            return Err(Error::Corrupt("a slot of a pipe"));
        }
        // DEATH: from here to the hand-over, or to the write of the frame, a death leaves a slot that stays in use
        // until the pipe ends.
        Ok(Some(Posted {
            lane: self,
            index,
            word,
            me,
        }))
    }

    /// Announce a frame that the caller writes next. `None` if the pipe is plain.
    pub fn announce(&self) -> Option<AnnouncedFrame<'_>> {
        self.handover.announce().then(|| AnnouncedFrame {
            handover: &self.handover,
            me: liveness::me().ok(),
        })
    }

    /// A whole frame was read from the descriptor.
    pub fn settle(&self) {
        self.handover.settle();
    }

    /// Wait for a message by hand, as long as it seems worth it: some ten microseconds. `None`: look at the descriptor.
    pub fn receive(&self) -> Result<Option<Incoming>> {
        let Ok(me) = liveness::me() else { return Ok(None) };
        if let Some(incoming) = self.take_left()? {
            return Ok(Some(incoming));
        }
        let mut waits = false;
        let _ = self.spin.run(|| {
            if waits {
                return (!self.handover.goes_on(me)).then_some(());
            }
            waits = self.handover.begin(me);
            (!waits).then_some(())
        });
        if waits {
            self.withdraw()
        } else {
            Ok(None)
        }
    }

    /// Begin to wait for a message by hand; [`withdraw`](Self::withdraw) must follow soon. False if one may be in the
    /// descriptor, or if another receiver waits. [`receive`](Self::receive) is made of these two.
    pub fn begin(&self) -> Result<bool> {
        Ok(self.handover.begin(liveness::me()?))
    }

    /// End a wait that `begin` began. Returns the message, if one was handed over.
    pub fn withdraw(&self) -> Result<Option<Incoming>> {
        let me = liveness::me()?;
        // DEATH: the next receiver succeeds one that dies before this line.
        self.handover
            .withdraw(me)
            .map(|slot| self.take_handed(slot, me))
            .transpose()
    }

    /// Whether a message was handed to a receiver that died.
    pub fn has_left(&self) -> bool {
        match self.handover.state().receiver() {
            PipeReceiver::Handed(_, owner) => is_other(owner) && is_probably_dead(owner),
            _ => false,
        }
    }

    /// Take the message that was handed to a receiver that died. Also lets others receive in the place of a dead one.
    pub fn take_left(&self) -> Result<Option<Incoming>> {
        let owner = match self.handover.state().receiver() {
            PipeReceiver::None => return Ok(None),
            PipeReceiver::Spinning(owner) | PipeReceiver::Handed(_, owner) => owner,
        };
        if !is_other(owner) || !is_probably_dead(owner) {
            return Ok(None);
        }
        self.succeed(owner).map_or(Ok(None), |(slot, me)| {
            let word = self.slot(slot)?.word();
            if let LaneSlotState::Taken(dead) = word.state() {
                // The dead receiver had begun to take the message.
                return self.take_over(slot, word, dead, me);
            }
            self.take_handed(slot, me).map(Some)
        })
    }

    /// Take the message that a frame names.
    pub fn open(&self, header: i32) -> Result<Incoming> {
        let (slot, taken) = self.begin_to_open(header, liveness::me()?)?;
        self.finish(slot, taken, || ())
    }

    pub(super) fn begin_to_open(&self, header: i32, me: Owner) -> Result<(&Slot, SlotWord)> {
        let number = FIRST_HEADER
            .checked_sub(header)
            .and_then(|number| u32::try_from(number).ok());
        let number = number.ok_or(BAD_FRAME)?;
        let (index, generation) = (number & ((1 << SLOT_BITS) - 1), number >> SLOT_BITS);
        let slot = self.slot(index)?;
        let word = slot.word();
        let is_named = matches!(word.state(), LaneSlotState::Posted(_)) && word.generation() == generation;
        let taken = word.with(LaneSlotState::Taken(me));
        if !is_named || !slot.change(word, taken) {
            return Err(BAD_FRAME);
        }
        Ok((slot, taken))
    }

    fn slot(&self, index: u32) -> Result<&Slot> {
        self.slots.get(index as usize).ok_or(BAD_FRAME)
    }

    fn take_handed(&self, index: u32, me: Owner) -> Result<Incoming> {
        let end = || self.handover.taken(me);
        let taken = self.slot(index).and_then(|slot| {
            let word = slot.word();
            let taken = word.with(LaneSlotState::Taken(me));
            let is_there = matches!(word.state(), LaneSlotState::Posted(_));
            (is_there && slot.change(word, taken))
                .then_some((slot, taken))
                .ok_or(BAD_FRAME)
        });
        match taken {
            Ok((slot, taken)) => self.finish(slot, taken, end),
            Err(error) => {
                end();
                Err(error)
            }
        }
    }

    /// Go on where a dead receiver was taking a message that had been handed to it.
    fn take_over(&self, index: u32, word: SlotWord, dead: Owner, me: Owner) -> Result<Option<Incoming>> {
        let slot = self.slot(index)?;
        let taken = word.with(LaneSlotState::Taken(me));
        if is_alive(dead) || !slot.change(word, taken) {
            self.handover.taken(me);
            return Ok(None);
        }
        if slot.header.is_whole() {
            return self.finish(slot, taken, || self.handover.taken(me)).map(Some);
        }
        slot.header.discard();
        self.handover.taken(me);
        slot.change(taken, taken.with(LaneSlotState::Free));
        Ok(None)
    }

    /// Take the message out of a slot that is this process's. `end`: what makes that final.
    fn finish(&self, slot: &Slot, taken: SlotWord, end: impl FnOnce()) -> Result<Incoming> {
        let incoming = slot.header.open();
        // DEATH: a receiver that dies before this line leaves the message, or parts of it, to its successor; after it,
        // the slot is emptied by a sender that finds no other.
        end();
        slot.empty(taken);
        self.room.notify_all();
        incoming
    }

    /// Succeed a dead receiver. Returns what was handed to it, and this process.
    fn succeed(&self, dead: Owner) -> Option<(u32, Owner)> {
        let me = liveness::me().ok()?;
        self.handover.succeed(dead, me).map(|slot| (slot, me))
    }

    /// Whether so many units more may wait in slots.
    fn has_room(&self, units: u64) -> bool {
        let waiting: u64 = self
            .slots
            .iter()
            .map(|slot| match slot.word().state() {
                LaneSlotState::Posted(units) => u64::from(units),
                _ => 0,
            })
            .sum();
        waiting == 0 || waiting + units <= BYTES / UNIT
    }

    /// Claim a slot that is free, or that a dead process left.
    pub(super) fn claim(&self, me: Owner) -> Option<(usize, SlotWord)> {
        let free = self.slots.iter().enumerate().find_map(|(index, slot)| {
            let word = slot.word();
            let claimed = SlotWord::new(word.generation() + 1, LaneSlotState::Claimed(me));
            (word.state() == LaneSlotState::Free && slot.change(word, claimed)).then_some((index, claimed))
        });
        free.or_else(|| self.reclaim(me))
    }

    #[cold]
    fn reclaim(&self, me: Owner) -> Option<(usize, SlotWord)> {
        self.slots.iter().enumerate().find_map(|(index, slot)| {
            let word = slot.word();
            let (LaneSlotState::Claimed(owner) | LaneSlotState::Taken(owner)) = word.state() else {
                return None;
            };
            // A slot that was handed over belongs to the receiver's successor. No slot in these states becomes one.
            let is_handed = matches!(self.handover.state().receiver(),
                PipeReceiver::Handed(handed, _) if handed as usize == index);
            let claimed = SlotWord::new(word.generation() + 1, LaneSlotState::Claimed(me));
            if is_handed || !is_known_dead(owner) || !slot.change(word, claimed) {
                return None;
            }
            slot.header.discard();
            Some((index, claimed))
        })
    }
}

/// A frame whose header no correct sender wrote.
const BAD_FRAME: Error = Error::Corrupt("a frame of a pipe");

fn is_other(owner: Owner) -> bool {
    liveness::me().is_ok_and(|me| me != owner)
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state: HandoverState = self.handover.state();
        f.debug_struct("Lane").field("state", &state).finish_non_exhaustive()
    }
}
