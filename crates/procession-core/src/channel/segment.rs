//! A segment: queue slots, each used once, in memory that is never used for anything but segments.
//!
//! Leaves the purpose of a slot's states to `queue`.

use super::MessageHeader;
use crate::arena::cells;
use crate::ids::{Handle, Owner};
use crate::sync::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::{Error, Result};
use Ordering::{Acquire, Relaxed, Release};

/// Number of slots in a segment: what fits behind its first words.
pub(super) const SLOTS: u64 = cells::SEGMENT_BYTES as u64 / 128 - 1;

/// The bits of a ticket: the number of a slot, counted from the queue's beginning.
pub(super) const TICKET: u64 = (1 << 48) - 1;

/// The state of a slot. A slot passes through the states in this order. The one step back is from `Taken` to `Full`,
/// when a message is put back, for example after a consumer's death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum SlotState {
    /// No producer has claimed the slot yet.
    Free = 0,
    /// A producer is writing the message.
    Claimed = 1,
    /// The slot holds a message.
    Full = 2,
    /// A consumer is taking the message out.
    Taken = 3,
    /// A survivor is freeing what a dead producer or consumer left.
    Clearing = 4,
    /// The message was taken.
    Done = 5,
    /// There is no message, and no consumer ever got one from this slot.
    Skipped = 6,
}

impl SlotState {
    /// Whether the slot will never hold anything again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Skipped)
    }
}

/// A slot's stamp: segment generation (28 bits), state (4), owner (32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

impl Stamp {
    pub fn new(generation: u32, state: SlotState, owner: Option<Owner>) -> Self {
        let owner = owner.map_or(0, Owner::to_bits);
        Self((generation as u64) << 36 | (state as u64) << 32 | owner as u64)
    }

    pub fn generation(self) -> u32 {
        (self.0 >> 36) as u32
    }

    /// `None` for a number that is not a state.
    pub fn state(self) -> Option<SlotState> {
        Some(match self.0 >> 32 & 0xf {
            0 => SlotState::Free,
            1 => SlotState::Claimed,
            2 => SlotState::Full,
            3 => SlotState::Taken,
            4 => SlotState::Clearing,
            5 => SlotState::Done,
            6 => SlotState::Skipped,
            _ => return None,
        })
    }

    pub fn owner(self) -> Option<Owner> {
        Owner::from_bits(self.0 as u32)
    }
}

/// The slot of one message.
#[repr(C, align(64))]
pub(super) struct QueueSlot {
    stamp: AtomicU64,
    pub header: MessageHeader,
}

impl QueueSlot {
    pub fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(Acquire))
    }

    /// Replace the stamp `from` by `to`; `false` if the stamp is no longer `from`.
    pub fn change(&self, from: Stamp, to: Stamp) -> bool {
        // SYNC: sequentially consistent, for two reasons. Of two consumers that end their slots at the same time, at
        // least one sees the other's end and moves the head over both. And the eventcount's waiters see the change.
        self.stamp
            .compare_exchange(from.0, to.0, Ordering::SeqCst, Relaxed)
            .is_ok()
    }
}

/// Where a segment is: cell index (32 bits) and generation (32). Zero is nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(pub u64);

impl Link {
    pub const NOWHERE: Self = Self(0);

    fn new(index: u32, generation: u32) -> Self {
        Self((index as u64) << 32 | generation as u64)
    }

    pub(super) fn generation(self) -> u32 {
        self.0 as u32
    }

    pub(super) fn index(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A segment, as it lies in a cell of 4,608 bytes.
#[repr(C, align(64))]
pub(crate) struct Segment {
    /// The number of this use of the cell, counted from 1.
    pub(super) generation: AtomicU32,
    /// Ticket of the first slot.
    pub(super) base: AtomicU64,
    /// Link to the next segment. Index 0, this segment's own generation and the top bit of the low half mean that there
    /// is none yet. The generation keeps a process that slept since an earlier use of the cell from appending to this
    /// one.
    pub(super) next: AtomicU64,
    /// Hint: link to a later segment; all slots from here to there are over. No hint is written as `next` writes "none
    /// yet".
    detour: AtomicU64,
    /// Handle of the queue, for the reclaimer of a process that died while it linked or freed this segment. Written
    /// before the segment is linked.
    queue: AtomicU64,
    pub(super) slots: [QueueSlot; SLOTS as usize],
}

const _: () = assert!(size_of::<QueueSlot>() == 128 && size_of::<Segment>() <= cells::SEGMENT_BYTES);

/// A segment as seen through a link. Its cell may be used for a newer segment at any time; the stamps show that.
#[derive(Clone, Copy)]
pub(super) struct SegmentView {
    segment: &'static Segment,
    pub link: Link,
    pub base: u64,
}

/// The segment in the cell of this number.
fn segment(index: u32) -> Option<&'static Segment> {
    let ptr = cells::segment_ptr(index)?;
    // SAFETY: the arena checked the number. Cells are as long as a `Segment`, aligned to 64, mapped for ever, and hold
    // nothing but segments, all of whose fields are atomics.
    #[allow(clippy::cast_ptr_alignment)]
    Some(unsafe { &*ptr.cast::<Segment>() })
}

/// The value of `next` in the last segment.
fn last(generation: u32) -> u64 {
    1 << 31 | generation as u64
}

/// Recover a segment that a dead process owned: it stays if its queue contains it (`is_linked`), otherwise it is freed.
pub(super) fn recover(index: u32, generation: u32, dead: Owner, is_linked: impl FnOnce(Handle, Link) -> bool) {
    let Some(segment) = segment(index) else { return };
    let link = Link::new(index, generation + 1);
    let queue = Handle::from_bits(segment.queue.load(Acquire));
    // A process that died before it wrote its generation here had not linked the segment.
    let written = segment.generation.load(Acquire) == link.generation();
    match queue.filter(|_| written) {
        Some(queue) if is_linked(queue, link) => cells::hand_over(index, generation, dead),
        _ => cells::free_segment(index, generation),
    }
}

impl SegmentView {
    /// A new segment whose first slot has ticket `base`.
    pub fn create(base: u64, queue: u64) -> Result<Self> {
        let (index, generation) = cells::alloc_segment()?;
        // Never zero: fresh memory holds zeros.
        let generation = generation + 1;
        let segment = segment(index).ok_or(Error::Corrupt("a queue's segment"))?;
        segment.generation.store(generation, Relaxed);
        // SYNC: a reader of any of the following new values also reads the new generation.
        segment.base.store(base, Release);
        segment.queue.store(queue, Release);
        segment.next.store(last(generation), Release);
        segment.detour.store(last(generation), Release);
        let free = Stamp::new(generation, SlotState::Free, None);
        for slot in &segment.slots {
            slot.header.clear();
            slot.stamp.store(free.0, Release);
        }
        Ok(Self {
            segment,
            link: Link::new(index, generation),
            base,
        })
    }

    /// The segment behind a link; `None` if its cell is used for a newer one.
    pub fn at(link: Link) -> Option<Self> {
        if link == Link::NOWHERE {
            return None;
        }
        let segment = segment(link.index())?;
        let base = segment.base.load(Acquire);
        let fits = segment.generation.load(Acquire) == link.generation() && base <= TICKET;
        fits.then_some(Self { segment, link, base })
    }

    pub fn generation(&self) -> u32 {
        self.link.generation()
    }

    /// The slot of a ticket at or beyond `base`; `None` beyond the segment's end.
    pub fn slot(&self, ticket: u64) -> Option<&'static QueueSlot> {
        self.segment.slots.get(ticket.checked_sub(self.base)? as usize)
    }

    pub fn slots(&self) -> &'static [QueueSlot] {
        &self.segment.slots
    }

    pub fn stamp(&self, state: SlotState, owner: Option<Owner>) -> Stamp {
        Stamp::new(self.generation(), state, owner)
    }

    /// The link to the next segment: `Some(NOWHERE)` if this is the last, `None` if the cell is used for a newer
    /// segment.
    pub fn next(&self) -> Option<Link> {
        let next = self.segment.next.load(Acquire);
        if self.segment.generation.load(Acquire) != self.generation() {
            return None;
        }
        Some(if next == last(self.generation()) {
            Link::NOWHERE
        } else {
            Link(next)
        })
    }

    /// A later segment; all slots from this one's first up to there are over.
    pub fn detour(&self) -> Option<Self> {
        let word = self.segment.detour.load(Acquire);
        if word == last(self.generation()) {
            return None;
        }
        let view = Self::at(Link(word))?;
        (self.segment.generation.load(Acquire) == self.generation() && view.base > self.base).then_some(view)
    }

    /// Record that all slots from this segment's first up to `further` are over.
    pub fn set_detour(&self, further: &Self) {
        let detour = &self.segment.detour;
        let known = detour.load(Acquire);
        // SYNC: if the cell is used for a newer segment by now, it holds another word, and the exchange fails.
        if self.segment.generation.load(Acquire) == self.generation() && known != further.link.0 {
            let _ = detour.compare_exchange(known, further.link.0, Release, Relaxed);
        }
    }

    /// Append a segment; `false` if another process did, or if the cell is used for a newer segment.
    pub fn append(&self, next: Link) -> bool {
        self.segment
            .next
            .compare_exchange(last(self.generation()), next.0, Ordering::SeqCst, Relaxed)
            .is_ok()
    }

    /// Pass the ownership of a linked segment from this process to the queue.
    pub fn hand_over(&self, me: Owner) {
        cells::hand_over(self.link.index(), self.generation() - 1, me);
    }

    /// Own a segment that is about to be left. If this process dies before it [frees](Self::free) the segment, the
    /// reclaimer checks whether the segment was left.
    pub fn claim(&self, me: Owner) {
        cells::claim(self.link.index(), self.generation() - 1, me);
    }

    /// Give the cell back. The caller must make sure that no link to it is left.
    pub fn free(self) {
        cells::free_segment(self.link.index(), self.generation() - 1);
    }
}
