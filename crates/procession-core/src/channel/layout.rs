//! A queue's memory: the words that its users share, and its end. Leaves the slots to `segment`, and what is done with
//! them to `queue`.

use super::pollers::Pollers;
use super::segment::{Link, SegmentView, SlotState};
use crate::arena::Object;
use crate::family;
use crate::ids::{Kind, Owner};
use crate::sync::primitive::{AtomicU64, Ordering};
use crate::sync::wait::{EventCount, Purpose, SLICE};
use Ordering::{Acquire, SeqCst};

/// A queue in the arena. Zero-filled is an empty, unbounded queue; the first `put` makes its first segment.
#[repr(C, align(64))]
pub struct Queue {
    pub(super) back: Back,
    pub(super) front: Front,
    pub(super) waiting: Waiting,
}

/// The words that producers write.
#[repr(C, align(64))]
pub(super) struct Back {
    /// The next ticket to claim, or an older one; every process helps it along.
    pub tail: AtomicU64,
    /// The last segment, or an older one.
    pub segment: AtomicU64,
    /// 0 = unbounded. Written once, before another process knows the queue.
    pub maxsize: AtomicU64,
    /// The queue's own handle, which its segments record. Written once, as `maxsize` is.
    pub handle: AtomicU64,
}

/// The words that consumers write.
#[repr(C, align(64))]
pub(super) struct Front {
    /// Lower 48 bits: the oldest ticket whose slot may hold a message. Upper 16: number of skipped slots that the head
    /// has passed (saturating).
    pub head: AtomicU64,
    /// The oldest segment.
    pub segment: AtomicU64,
    /// Bounded queues only: no slot from this ticket on was taken while an earlier one was still busy, so none of them
    /// is over.
    pub ahead: AtomicU64,
    /// Number of messages for which `task_done` was called.
    pub done: AtomicU64,
}

#[repr(C, align(64))]
pub(super) struct Waiting {
    pub not_empty: EventCount,
    pub not_full: EventCount,
    pub all_done: EventCount,
    pub pollers: Pollers,
}

/// One skipped slot in [`Front::head`].
pub(super) const SKIPPED_ONE: u64 = 1 << 48;

/// What the process table records about a process that waits here.
pub(super) const PURPOSE: Purpose = Purpose {
    kind: Some(Kind::Queue),
    object: None,
    slice: SLICE,
};

// SAFETY: all fields are atomics, zero is valid, numbers read are checked before they index (`Link`, `SegmentView`).
unsafe impl Object for Queue {
    const KIND: Kind = Kind::Queue;
    const NAME: &'static str = "queue";

    fn destroy(&self) {
        loop {
            let link = Link(self.front.segment.load(Acquire));
            let Some(view) = SegmentView::at(link) else { return };
            for slot in view.slots() {
                let stamp = slot.stamp();
                if stamp.generation() == view.generation()
                    && matches!(
                        stamp.state(),
                        Some(SlotState::Claimed | SlotState::Full | SlotState::Taken | SlotState::Clearing)
                    )
                {
                    slot.header.discard();
                }
            }
            let next = view.next().unwrap_or(Link::NOWHERE);
            if let Ok(family) = family() {
                view.claim(family.me());
            }
            // DEATH: before this line a successor repeats everything; after it this process owns the segment, which is
            // in no queue.
            self.front.segment.store(next.0, SeqCst);
            view.free();
        }
    }
}

impl Queue {
    /// Whether the descriptor of another process may not show yet what was put.
    pub(super) fn is_a_poller_behind(&self, me: Owner) -> bool {
        self.waiting.pollers.behind(me).next().is_some()
    }
}
