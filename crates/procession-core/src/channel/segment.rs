//! A segment: slots of a queue, each used once, in memory that is never used for anything but segments.
//!
//! Leaves to `queue` what the states of a slot are for.

use super::queue::TICKET;
use super::{Envelope, Queue};
use crate::arena::{cells, Handle};
use crate::roll::Owner;
use crate::sync::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::{Error, Result};
use Ordering::{Acquire, Relaxed, Release};

/// Slots of a segment: what fits behind its first words.
pub(super) const SLOTS: u64 = cells::SEGMENT_BYTES as u64 / 128 - 1;

/// What a slot is in. Each state is entered once, in this order; `Full` may be left and entered again after a consumer's death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Nobody's yet.
    Free = 0,
    /// A producer writes.
    Claimed = 1,
    /// A message is in it.
    Full = 2,
    /// A consumer takes the message out.
    Taken = 3,
    /// A survivor frees what a dead producer or consumer left.
    Clearing = 4,
    /// The message was taken.
    Done = 5,
    /// There is no message, and there never was one that anybody got.
    Skipped = 6,
}

impl State {
    /// Whether nothing will ever be in the slot again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Skipped)
    }
}

/// A slot's stamp: segment generation (28 bits), state (4), owner (32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

impl Stamp {
    pub fn new(generation: u32, state: State, owner: Option<Owner>) -> Self {
        let owner = owner.map_or(0, Owner::to_bits);
        Self((generation as u64) << 36 | (state as u64) << 32 | owner as u64)
    }

    pub fn generation(self) -> u32 {
        (self.0 >> 36) as u32
    }

    /// `None` for a number that is no state.
    pub fn state(self) -> Option<State> {
        Some(match self.0 >> 32 & 0xf {
            0 => State::Free,
            1 => State::Claimed,
            2 => State::Full,
            3 => State::Taken,
            4 => State::Clearing,
            5 => State::Done,
            6 => State::Skipped,
            _ => return None,
        })
    }

    pub fn owner(self) -> Option<Owner> {
        Owner::from_bits(self.0 as u32)
    }
}

/// One place for one message.
#[repr(C, align(64))]
pub(super) struct Slot {
    stamp: AtomicU64,
    pub envelope: Envelope,
}

impl Slot {
    pub fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(Acquire))
    }

    /// Change the stamp; `false` when it is no longer `from`.
    pub fn change(&self, from: Stamp, to: Stamp) -> bool {
        // SYNC: sequentially consistent, so that of two consumers that end their slots at once at least one sees the other's end and
        // moves the head over both; and so that the eventcount's waiters see it.
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

    fn generation(self) -> u32 {
        self.0 as u32
    }

    fn index(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The cell: 4,608 bytes.
#[repr(C, align(64))]
pub(super) struct Segment {
    /// Which use of the cell this is, counted from 1.
    generation: AtomicU32,
    /// Ticket of the first slot.
    base: AtomicU64,
    /// Link to the next segment; index 0 with this segment's own generation and the top bit of the low half set means none yet, so that no
    /// process that slept since an earlier use of the cell can append to this one.
    next: AtomicU64,
    /// Hint: link to a later segment; all slots from here to there are over. Nothing is said as `next` says that there is none.
    detour: AtomicU64,
    /// Handle of the queue: written before the segment is linked, for who clears up after a process that died about that.
    queue: AtomicU64,
    slots: [Slot; SLOTS as usize],
}

const _: () = assert!(size_of::<Slot>() == 128 && size_of::<Segment>() <= cells::SEGMENT_BYTES);

/// A segment as one who was handed its link sees it. It may be used for something newer at any time: stamps tell.
#[derive(Clone, Copy)]
pub(super) struct View {
    segment: &'static Segment,
    pub link: Link,
    pub base: u64,
}

/// The cell of that number.
fn segment(index: u32) -> Option<&'static Segment> {
    let ptr = cells::segment_ptr(index)?;
    // SAFETY: the arena checked the number; cells are as long as a `Segment`, aligned to 64, mapped for ever, and hold nothing but segments,
    // all of whose fields are atomics.
    #[allow(clippy::cast_ptr_alignment)]
    Some(unsafe { &*ptr.cast::<Segment>() })
}

/// The `next` of a segment that is the last.
fn last(generation: u32) -> u64 {
    1 << 31 | generation as u64
}

/// A dead process owned this segment: it was about to link it, or to free it. Which of the two had happened, its queue tells.
pub(crate) fn settle(index: u32, generation: u32, dead: Owner) {
    let Some(segment) = segment(index) else { return };
    let link = Link::new(index, generation + 1);
    let queue = Handle::from_bits(segment.queue.load(Acquire));
    // Who died before it wrote its generation here had not linked it.
    let written = segment.generation.load(Acquire) == link.generation();
    match queue.filter(|_| written) {
        Some(queue) if Queue::has(queue, link) => cells::hand_over(index, generation, dead),
        _ => cells::free_segment(index, generation),
    }
}

impl View {
    /// A new segment whose first slot has ticket `base`.
    pub fn create(base: u64, queue: u64) -> Result<Self> {
        let (index, generation) = cells::alloc_segment()?;
        // Never zero, which fresh memory holds.
        let generation = generation + 1;
        let segment = segment(index).ok_or(Error::Corrupt("a queue's segment"))?;
        segment.generation.store(generation, Relaxed);
        // SYNC: who reads any of the following new values also reads the new generation.
        segment.base.store(base, Release);
        segment.queue.store(queue, Release);
        segment.next.store(last(generation), Release);
        segment.detour.store(last(generation), Release);
        let free = Stamp::new(generation, State::Free, None);
        for slot in &segment.slots {
            slot.envelope.clear();
            slot.stamp.store(free.0, Release);
        }
        Ok(Self {
            segment,
            link: Link::new(index, generation),
            base,
        })
    }

    /// The segment behind a link; `None` when it is used for something newer.
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
    pub fn slot(&self, ticket: u64) -> Option<&'static Slot> {
        self.segment.slots.get(ticket.checked_sub(self.base)? as usize)
    }

    pub fn slots(&self) -> &'static [Slot] {
        &self.segment.slots
    }

    pub fn stamp(&self, state: State, owner: Option<Owner>) -> Stamp {
        Stamp::new(self.generation(), state, owner)
    }

    /// The link to the next segment: `Some(NOWHERE)` when this is the last, `None` when this one is used for something newer.
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

    /// Say that all slots from this segment's first up to `further` are over.
    pub fn set_detour(&self, further: &Self) {
        let detour = &self.segment.detour;
        let known = detour.load(Acquire);
        // SYNC: a segment that is used for something newer by now has another word.
        if self.segment.generation.load(Acquire) == self.generation() && known != further.link.0 {
            let _ = detour.compare_exchange(known, further.link.0, Release, Relaxed);
        }
    }

    /// Append a segment; `false` when somebody else did or this one is used for something newer.
    pub fn append(&self, next: Link) -> bool {
        self.segment
            .next
            .compare_exchange(last(self.generation()), next.0, Ordering::SeqCst, Relaxed)
            .is_ok()
    }

    /// It has been linked: it is the queue's now, no longer this process's.
    pub fn hand_over(&self, me: Owner) {
        cells::hand_over(self.link.index(), self.generation() - 1, me);
    }

    /// It is about to be left: if this process dies before it [freed](Self::free) it, whoever clears up looks whether it was.
    pub fn claim(&self, me: Owner) {
        cells::claim(self.link.index(), self.generation() - 1, me);
    }

    /// Give the cell back. The caller must have made sure that no link to it is left.
    pub fn free(self) {
        cells::free_segment(self.link.index(), self.generation() - 1);
    }
}
