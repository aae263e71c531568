//! Recovery of what dead processes left in a queue: slots that they had claimed or taken, and segments. Leaves to
//! `liveness` which processes are dead, and to `reclaim` the memory that they owned besides.

use super::layout::Queue;
use super::segment::{self, QueueSlot, SegmentView, SlotState, Stamp};
use crate::ids::Owner;
use crate::liveness::is_alive;
use crate::sync::primitive::Ordering::SeqCst;
use crate::{family, Result};

impl Queue {
    /// Recover what dead processes left between head and tail; `true` if there was something.
    pub(super) fn recover(&self) -> Result<bool> {
        self.recover_before(u64::MAX)
    }

    /// As [`recover`](Self::recover), but only as far as ticket `limit`.
    pub(super) fn recover_before(&self, limit: u64) -> Result<bool> {
        let mut orphans = Vec::new();
        let mut end = 0;
        self.visit(|view, ticket, slot, stamp| {
            if let Some(owner) = stamp.owner() {
                orphans.push((*view, slot, stamp, owner));
                end = ticket + 1;
            }
            ticket < limit
        })?;
        orphans.retain(|(.., owner)| !is_alive(*owner));
        if orphans.is_empty() {
            return Ok(false);
        }
        let me = family()?.me();
        for (view, slot, stamp, _) in &orphans {
            recover_slot(me, view, slot, *stamp);
        }
        self.front.ahead.fetch_max(end, SeqCst);
        self.advance()?;
        self.waiting.not_empty.notify(u32::MAX);
        self.waiting.not_full.notify(u32::MAX);
        self.waiting.all_done.notify(u32::MAX);
        Ok(true)
    }
}

/// End or undo what a dead process had begun with a slot. Idempotent: the next survivor may repeat each step.
fn recover_slot(me: Owner, view: &SegmentView, slot: &QueueSlot, stamp: Stamp) {
    let taken = view.stamp(SlotState::Taken, Some(me));
    let clearing = view.stamp(SlotState::Clearing, Some(me));
    match stamp.state() {
        Some(SlotState::Taken) => {
            if !slot.change(stamp, taken) {
                return;
            }
            if slot.header.is_whole() {
                slot.change(taken, view.stamp(SlotState::Full, None));
                return;
            }
            slot.change(taken, clearing);
        }
        Some(SlotState::Claimed | SlotState::Clearing) => {
            if !slot.change(stamp, clearing) {
                return;
            }
        }
        _ => return,
    }
    slot.header.discard();
    slot.change(clearing, view.stamp(SlotState::Skipped, None));
}

/// Recover a segment that a dead process owned, because it was about to link it or to free it. The segment's queue
/// tells which of the two had happened.
pub(crate) fn recover_segment(index: u32, generation: u32, dead: Owner) {
    segment::recover(index, generation, dead, Queue::has);
}
