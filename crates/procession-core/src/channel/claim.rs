//! Claiming slots for new messages, and the segments to have them in. Leaves to `queue` what waits for room.

use super::layout::Queue;
use super::segment::{Link, QueueSlot, SegmentView, SlotState, SLOTS, TICKET};
use super::walk::Rounds;
use super::Message;
use crate::ids::Owner;
use crate::sync::primitive::Ordering;
use crate::{Error, Result};
use Ordering::{Acquire, Relaxed, SeqCst};

/// Slots that this process has claimed, one behind the other.
pub(super) struct Run {
    view: SegmentView,
    /// The first slot's ticket.
    pub ticket: u64,
    pub len: u64,
    pub first: &'static QueueSlot,
}

impl Run {
    /// The slot of this place in the run; `None` beyond the segment's end.
    pub fn slot(&self, at: u64) -> Option<&'static QueueSlot> {
        self.view.slot(self.ticket + at)
    }

    /// Put a message into one of the slots.
    pub fn fill(&self, slot: &QueueSlot, message: Message, me: Owner) {
        slot.header.post(message);
        // DEATH: before this line the slot is `Claimed` by the dead process and will be skipped; after it the message
        // is there.
        slot.change(
            self.view.stamp(SlotState::Claimed, Some(me)),
            self.view.stamp(SlotState::Full, None),
        );
    }
}

impl Queue {
    /// Claim the next slots: at least one, at most `most`, and none beyond the segment's end. `None` if the queue is
    /// full.
    pub(super) fn claim(&self, me: Owner, most: u64) -> Result<Option<Run>> {
        let mut rounds = Rounds::default();
        loop {
            // SYNC: ticket before segment, so that the ticket is never newer than the segment read after it.
            let ticket = self.back.tail.load(Acquire);
            let link = Link(self.back.segment.load(Acquire));
            rounds.begin(ticket, link)?;
            if link == Link::NOWHERE {
                self.create_first(me)?;
                continue;
            }
            let Some(view) = SegmentView::at(link) else {
                continue;
            };
            if ticket < view.base {
                continue;
            }
            let Some(slot) = view.slot(ticket) else {
                self.extend(&view, ticket, me)?;
                continue;
            };
            let room = self.room(ticket)?;
            if room == 0 {
                return Ok(None);
            }
            let free = view.stamp(SlotState::Free, None);
            let claimed = view.stamp(SlotState::Claimed, Some(me));
            let mut run = Run {
                view,
                ticket,
                len: 0,
                first: slot,
            };
            if slot.change(free, claimed) {
                run.len = 1;
                let most = most.min(room);
                while run.len < most && run.slot(run.len).is_some_and(|slot| slot.change(free, claimed)) {
                    run.len += 1;
                }
            }
            if run.len > 0 || slot.stamp().generation() == view.generation() {
                // DEATH: if the claimant dies before this line, the next producers move the tail.
                // SYNC: before any of these messages is there: `ever_put` counts up to the tail.
                self.back.tail.fetch_max(ticket + run.len.max(1), SeqCst);
            }
            if run.len > 0 {
                return Ok(Some(run));
            }
        }
    }

    /// How many slots, from `ticket` on, may be claimed without more than `maxsize` messages in the queue.
    pub(super) fn room(&self, ticket: u64) -> Result<u64> {
        let maxsize = self.maxsize();
        if maxsize == 0 {
            return Ok(u64::MAX);
        }
        let room = || {
            let in_use = ticket.saturating_sub(self.front.head.load(SeqCst) & TICKET);
            maxsize.saturating_sub(in_use)
        };
        let seen = room();
        if seen > 0 {
            return Ok(seen);
        }
        // A consumer may have died before it moved the head.
        self.advance()?;
        let seen = room();
        if seen > 0 {
            return Ok(seen);
        }
        // One slow process may hold up the head while others went on behind it: up to `ahead`, count only slots that
        // are not over.
        let head = self.front.head.load(SeqCst) & TICKET;
        let ahead = self.front.ahead.load(SeqCst).clamp(head, ticket.max(head));
        let mut used = ticket.saturating_sub(ahead);
        self.visit(|_, at, _, stamp| {
            let counts = at >= head && at < ahead && !stamp.state().is_some_and(SlotState::is_over);
            used += u64::from(counts);
            at < ahead
        })?;
        Ok(maxsize.saturating_sub(used))
    }

    /// Make the first segment.
    fn create_first(&self, me: Owner) -> Result<()> {
        let front = &self.front.segment;
        if front.load(Acquire) == Link::NOWHERE.0 {
            let view = SegmentView::create(0, self.back.handle.load(Relaxed))?;
            let linked = front.compare_exchange(Link::NOWHERE.0, view.link.0, SeqCst, Relaxed);
            match linked {
                Ok(_) => view.hand_over(me),
                Err(_) => view.free(),
            }
        }
        // While the back has no segment, the front's is the first: the front leaves a segment only after the back has
        // been moved off it.
        let first = front.load(Acquire);
        let _ = self
            .back
            .segment
            .compare_exchange(Link::NOWHERE.0, first, SeqCst, Relaxed);
        Ok(())
    }

    /// Move the back to the segment after `view`. If there is no such segment, make it, for a `ticket` that lies behind
    /// `view`.
    fn extend(&self, view: &SegmentView, ticket: u64, me: Owner) -> Result<()> {
        let end = view.base + SLOTS;
        if view.next() == Some(Link::NOWHERE) {
            // The tail never passes a free slot, so a ticket beyond the end is damage.
            if ticket != end {
                return Err(Error::Corrupt("a queue's tail"));
            }
            let fresh = SegmentView::create(end, self.back.handle.load(Relaxed))?;
            if view.append(fresh.link) {
                fresh.hand_over(me);
            } else {
                fresh.free();
            }
        }
        if let Some(next) = view.next() {
            let _ = self.back.segment.compare_exchange(view.link.0, next.0, SeqCst, Relaxed);
        }
        Ok(())
    }
}
