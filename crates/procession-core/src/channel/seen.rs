//! What an observer of another family reads of a queue, given copies of its words and segments.

use super::layout::{Waiting, SKIPPED_ONE};
use super::segment::{Link, SlotState, SLOTS, TICKET};
use crate::arena::seen::AnyBits;
use std::mem::offset_of;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) use super::layout::Queue as QueueState;
pub(crate) use super::segment::Segment;

// SAFETY: atomics only, as its `Object` says.
unsafe impl AnyBits for QueueState {}
// SAFETY: atomics only.
unsafe impl AnyBits for Segment {}

/// A queue's words at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueWords {
    /// The oldest ticket whose slot may hold a message.
    pub head: u64,
    /// The next ticket.
    pub tail: u64,
    /// Number of skipped slots that the head has passed.
    pub skipped: u64,
    /// Messages for which `task_done` was called.
    pub done: u64,
    /// Where its oldest segment is.
    pub first: SegmentLink,
}

/// Where a segment is: the number of its cell, and the number of that cell's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentLink {
    pub index: u32,
    pub generation: u32,
}

impl SegmentLink {
    fn of(link: Link) -> Option<Self> {
        (link != Link::NOWHERE).then(|| Self {
            index: link.index(),
            generation: link.generation(),
        })
    }
}

/// What lies in a segment between two tickets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentSeen {
    /// Ticket behind the last slot.
    pub end: u64,
    /// Number of messages.
    pub full: u64,
    pub next: Option<SegmentLink>,
}

/// The operation of a queue whose waiters sleep this far into it.
pub(crate) fn awaited(distance: u64) -> &'static str {
    let waiting = offset_of!(QueueState, waiting) as u64;
    let at = |field: usize| waiting + field as u64;
    if distance == at(offset_of!(Waiting, not_empty)) {
        "get"
    } else if distance == at(offset_of!(Waiting, not_full)) {
        "put"
    } else if distance == at(offset_of!(Waiting, all_done)) {
        "join"
    } else {
        "wait"
    }
}

impl QueueState {
    pub(crate) fn seen(&self) -> Option<QueueWords> {
        let head = self.front.head.load(Relaxed);
        Some(QueueWords {
            head: head & TICKET,
            tail: self.back.tail.load(Relaxed) & TICKET,
            skipped: head / SKIPPED_ONE,
            done: self.front.done.load(Relaxed),
            first: SegmentLink::of(Link(self.front.segment.load(Relaxed)))?,
        })
    }
}

impl Segment {
    /// What lies in this use of the segment, from ticket `from` on. `None`: its cell has another use by now.
    pub(crate) fn seen(&self, link: SegmentLink, from: u64) -> Option<SegmentSeen> {
        let base = self.base.load(Relaxed);
        if self.generation.load(Relaxed) != link.generation || base > TICKET {
            return None;
        }
        let slots = self.slots.iter().skip(from.saturating_sub(base) as usize);
        let full = slots.filter(|slot| {
            let stamp = slot.stamp();
            // The stamp keeps 28 bits of the generation.
            stamp.generation() == link.generation && stamp.state() == Some(SlotState::Full)
        });
        let next = Link(self.next.load(Relaxed));
        Some(SegmentSeen {
            end: base + SLOTS,
            full: full.count() as u64,
            next: SegmentLink::of(next).filter(|next| next.index != 0 || next.generation >> 31 == 0),
        })
    }
}
