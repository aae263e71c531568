//! Moving along a queue: finding what is there, and leaving behind what is over. Leaves to `queue` what is done with
//! what a walk finds.

use super::layout::{Queue, SKIPPED_ONE};
use super::segment::{Link, QueueSlot, SegmentView, SlotState, Stamp, TICKET};
use crate::arena;
use crate::ids::Handle;
use crate::sync::primitive::Ordering;
use crate::{family, Error, Result};
use Ordering::{Acquire, Relaxed, SeqCst};

/// A slot that a walk from the head found.
pub(super) struct Found {
    pub view: SegmentView,
    pub ticket: u64,
}

/// The result of a walk from the head.
#[derive(Default)]
pub(super) struct Walk {
    pub full: Option<Found>,
    /// Number of earlier slots that a process is still writing, taking from or clearing.
    pub busy: u64,
}

/// A run of segments behind a slow process, with all their slots over. The first of them will point past the last.
#[derive(Default)]
struct Detour(Option<SegmentView>);

impl Detour {
    /// Record that all slots of `view` are over.
    fn begin(&mut self, view: &SegmentView) {
        self.0.get_or_insert(*view);
    }

    /// Record that not all slots of `view` are over.
    fn end(&mut self, view: &SegmentView) {
        if let Some(first) = self.0.take() {
            first.set_detour(view);
        }
    }
}

impl Queue {
    /// Find the first full slot such that every earlier slot without a message had none when this one already was full.
    pub(super) fn walk(&self) -> Result<Walk> {
        if let Some(walk) = self.look_at_head() {
            return Ok(walk);
        }
        let mut best = Walk::default();
        let mut limit = u64::MAX;
        loop {
            let mut busy = 0;
            let mut full = None;
            self.visit(|view, ticket, _, stamp| {
                if ticket >= limit {
                    return false;
                }
                match stamp.state() {
                    // Any other stamp of a full slot is damage; no process can take it.
                    Some(SlotState::Full) if stamp == view.stamp(SlotState::Full, None) => {
                        limit = ticket;
                        full = Some(Found { view: *view, ticket });
                        return false;
                    }
                    Some(SlotState::Claimed | SlotState::Taken | SlotState::Clearing) => busy += 1,
                    _ => {}
                }
                true
            })?;
            let found = full.is_some();
            if found || best.full.is_none() {
                best = Walk { full, busy };
            }
            // If no process is at work before it, it is the oldest. Otherwise look again whether an earlier slot was
            // filled meanwhile.
            if !found || busy == 0 {
                return Ok(best);
            }
        }
    }

    /// The walk that ends at the head's own slot, because it is full, or free and with it all others. `None` if it is
    /// neither.
    fn look_at_head(&self) -> Option<Walk> {
        // SYNC: head before segment, as in `visit`.
        let ticket = self.front.head.load(Acquire) & TICKET;
        let view = SegmentView::at(Link(self.front.segment.load(Acquire)))?;
        let stamp = view.slot(ticket)?.stamp();
        if stamp == view.stamp(SlotState::Full, None) {
            let full = Some(Found { view, ticket });
            return Some(Walk { full, busy: 0 });
        }
        (stamp == view.stamp(SlotState::Free, None)).then(Walk::default)
    }

    /// Move the head over the slots that this process has ended, `number` of them from `ticket` on, and over what else
    /// is over.
    pub(super) fn advance_over(&self, view: &SegmentView, ticket: u64, number: u64) -> Result<()> {
        let head = self.front.head.load(SeqCst);
        let is_over = |slot: &QueueSlot| {
            let stamp = slot.stamp();
            stamp.generation() != view.generation() || stamp.state().is_some_and(SlotState::is_over)
        };
        if head & TICKET == ticket
            && self
                .front
                .head
                .compare_exchange(head, head + number, SeqCst, Relaxed)
                .is_ok()
            && view.slot(ticket + number).is_some_and(|next| !is_over(next))
        {
            return Ok(());
        }
        self.advance()
    }

    /// Number of slots between head and tail whose state `counts`.
    pub(super) fn count(&self, counts: impl Fn(SlotState) -> bool) -> Result<u64> {
        let mut number = 0;
        self.visit(|_, _, _, stamp| {
            number += u64::from(stamp.state().is_some_and(&counts));
            true
        })?;
        Ok(number)
    }

    /// Show every claimed slot from the head on to `see`, until it returns false or the queue ends; slots that are over
    /// may be left out. If a segment is recycled during the walk, everything in it is over, and the walk goes on with
    /// the oldest segment of that moment.
    pub(super) fn visit(
        &self,
        mut see: impl FnMut(&SegmentView, u64, &'static QueueSlot, Stamp) -> bool,
    ) -> Result<()> {
        let mut ticket = 0;
        let mut rounds = Rounds::default();
        'anew: loop {
            // SYNC: head before segment, so that the ticket is never newer than the segment read after it.
            let head = self.front.head.load(Acquire) & TICKET;
            ticket = ticket.max(head);
            let link = Link(self.front.segment.load(Acquire));
            if link == Link::NOWHERE {
                return Ok(());
            }
            rounds.begin(head, link)?;
            let Some(mut view) = SegmentView::at(link) else {
                continue;
            };
            let mut detour = Detour::default();
            loop {
                ticket = ticket.max(view.base);
                let mut over = ticket == view.base;
                while let Some(slot) = view.slot(ticket) {
                    let stamp = slot.stamp();
                    if stamp.generation() != view.generation() {
                        continue 'anew;
                    }
                    let state = stamp.state();
                    if !state.is_some_and(SlotState::is_over) {
                        over = false;
                        detour.end(&view);
                        if state == Some(SlotState::Free) || !see(&view, ticket, slot, stamp) {
                            return Ok(());
                        }
                    }
                    ticket += 1;
                }
                if over {
                    detour.begin(&view);
                }
                let Some(next) = view.next() else {
                    continue 'anew;
                };
                if next == Link::NOWHERE {
                    return Ok(());
                }
                match SegmentView::at(next) {
                    Some(next) if next.base > view.base => view = next,
                    _ => continue 'anew,
                }
                while let Some(further) = view.detour() {
                    detour.begin(&view);
                    view = further;
                }
            }
        }
    }

    /// Move the head over every slot that is over, and give back the segments left behind.
    pub(super) fn advance(&self) -> Result<()> {
        let mut rounds = Rounds::default();
        loop {
            let head = self.front.head.load(SeqCst);
            let ticket = head & TICKET;
            let link = Link(self.front.segment.load(Acquire));
            rounds.begin(head, link)?;
            let Some(view) = SegmentView::at(link) else {
                continue;
            };
            if ticket < view.base {
                continue;
            }
            let Some(slot) = view.slot(ticket) else {
                if !self.leave(&view) {
                    return Ok(());
                }
                continue;
            };
            let stamp = slot.stamp();
            let passed = match stamp.state() {
                _ if stamp.generation() != view.generation() => continue,
                Some(SlotState::Done) => head + 1,
                Some(SlotState::Skipped) => {
                    // The slot's producer may have died before it moved the tail, from which `ever_put` counts.
                    let _ = self.back.tail.compare_exchange(ticket, ticket + 1, SeqCst, Relaxed);
                    head.checked_add(SKIPPED_ONE).unwrap_or(head) + 1
                }
                _ => return Ok(()),
            };
            let _ = self.front.head.compare_exchange(head, passed, SeqCst, Relaxed);
        }
    }

    /// Whether the queue behind `handle` contains this segment. The reclaimer asks, for a dead process that was about
    /// to link or to free the segment, so the segment cannot come in any more. If damage to the queue hides the answer,
    /// or want of address space, the segment counts as in use.
    pub(super) fn has(handle: Handle, wanted: Link) -> bool {
        let gone = || matches!(arena::look_up::<Self>(handle), Ok(None));
        let queue = match arena::look_up::<Self>(handle) {
            Ok(Some(queue)) => queue,
            Ok(None) => return false,
            // This process has no address space to look.
            Err(_) => return true,
        };
        'anew: loop {
            let first = Link(queue.front.segment.load(Acquire));
            let (mut link, mut base) = (first, None);
            while link != wanted {
                if link == Link::NOWHERE {
                    return false;
                }
                let next = SegmentView::at(link).and_then(|view| Some((view.next()?, view.base)));
                let Some((next, at)) = next else {
                    // The segment was left during this walk, or the queue has ended.
                    if gone() {
                        return false;
                    }
                    if queue.front.segment.load(Acquire) == first.0 {
                        return true;
                    }
                    continue 'anew;
                };
                if base.is_some_and(|before| at <= before) {
                    return true;
                }
                (link, base) = (next, Some(at));
            }
            return !gone();
        }
    }

    /// Move the front off a segment with all its slots over; `false` if there is no segment to move to.
    fn leave(&self, view: &SegmentView) -> bool {
        match view.next() {
            Some(Link::NOWHERE) => return false,
            Some(next) => {
                // The process that appended `next` may not have moved the back yet. No process may find the back on a
                // segment that is gone.
                let _ = self.back.segment.compare_exchange(view.link.0, next.0, SeqCst, Relaxed);
                if let Ok(family) = family() {
                    view.claim(family.me());
                }
                // DEATH: a segment that the dead process owned is freed if it is no longer in the queue.
                let _ = self
                    .front
                    .segment
                    .compare_exchange(view.link.0, next.0, SeqCst, Relaxed);
                // Whichever process moved the front off it: none comes back to it, and freeing it again does nothing.
                view.free();
            }
            None => {}
        }
        true
    }
}

/// The progress of a loop that begins anew when another process moved on.
#[derive(Default)]
pub(super) struct Rounds(Option<(u64, u64)>);

impl Rounds {
    /// Begin a round with these words. They only ever move on. So the same words twice in a row mean damage, and every
    /// further round would end as the last did.
    pub fn begin(&mut self, ticket: u64, link: Link) -> Result<()> {
        if self.0.replace((ticket, link.0)) == Some((ticket, link.0)) {
            return Err(Error::Corrupt("a queue's segments"));
        }
        Ok(())
    }
}
