//! Moving along a queue: finding what is there, leaving behind what is over.

use super::queue::{Queue, SKIPPED_ONE, TICKET};
use super::segment::{Link, Slot, Stamp, State, View};
use crate::arena::{self, Handle};
use crate::sync::primitive::Ordering;
use crate::{family, Error, Result};
use Ordering::{Acquire, Relaxed, SeqCst};

/// A slot that a walk from the head came upon.
pub(super) struct Found {
    pub view: View,
    pub ticket: u64,
    pub slot: &'static Slot,
}

/// What a walk from the head came upon.
#[derive(Default)]
pub(super) struct Walk {
    pub full: Option<Found>,
    /// Slots before it that somebody is still writing or taking from.
    pub busy: u64,
}

/// A run of segments behind a slow process, all of whose slots are over: the first of them will point past the last.
#[derive(Default)]
struct Detour(Option<View>);

impl Detour {
    /// All slots of `view` are over.
    fn begin(&mut self, view: &View) {
        self.0.get_or_insert(*view);
    }

    /// Not all slots of `view` are over.
    fn end(&mut self, view: &View) {
        if let Some(first) = self.0.take() {
            first.set_detour(view);
        }
    }
}

impl Queue {
    /// Find the first full slot, such that every slot before it that holds no message yet did not hold one when this one did.
    pub(super) fn walk(&self) -> Result<Walk> {
        let mut best = Walk::default();
        let mut limit = u64::MAX;
        loop {
            let mut busy = 0;
            let mut full = None;
            self.visit(|view, ticket, slot, stamp| {
                if ticket >= limit {
                    return false;
                }
                match stamp.state() {
                    // Anything else that calls itself full is damage, which nobody can take.
                    Some(State::Full) if stamp == view.stamp(State::Full, None) => {
                        limit = ticket;
                        full = Some(Found {
                            view: *view,
                            ticket,
                            slot,
                        });
                        return false;
                    }
                    Some(State::Claimed | State::Taken | State::Clearing) => busy += 1,
                    _ => {}
                }
                true
            })?;
            let found = full.is_some();
            if found || best.full.is_none() {
                best = Walk { full, busy };
            }
            // With nobody at work before it, it is the oldest; otherwise look again whether one before it was filled meanwhile.
            if !found || busy == 0 {
                return Ok(best);
            }
        }
    }

    /// How many slots between head and tail are in a state that `counts`.
    pub(super) fn count(&self, counts: impl Fn(State) -> bool) -> Result<u64> {
        let mut number = 0;
        self.visit(|_, _, _, stamp| {
            number += u64::from(stamp.state().is_some_and(&counts));
            true
        })?;
        Ok(number)
    }

    /// Show every claimed slot from the head on to `see`, until it says false or the queue ends; slots that are over may be left out. When
    /// a segment is recycled under way, what was in it is over, and the walk goes on with what is oldest then.
    pub(super) fn visit(&self, mut see: impl FnMut(&View, u64, &'static Slot, Stamp) -> bool) -> Result<()> {
        let mut ticket = 0;
        let mut rounds = Rounds::default();
        'anew: loop {
            // SYNC: head before segment: a ticket is never newer than the segment read after it.
            let head = self.front.head.load(Acquire) & TICKET;
            ticket = ticket.max(head);
            let link = Link(self.front.segment.load(Acquire));
            if link == Link::NOWHERE {
                return Ok(());
            }
            rounds.begin(head, link)?;
            let Some(mut view) = View::at(link) else {
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
                    if !state.is_some_and(State::is_over) {
                        over = false;
                        detour.end(&view);
                        if state == Some(State::Free) || !see(&view, ticket, slot, stamp) {
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
                match View::at(next) {
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

    /// Move the head over everything that is over, and give back the segments left behind.
    pub(super) fn advance(&self) -> Result<()> {
        let mut rounds = Rounds::default();
        loop {
            let head = self.front.head.load(SeqCst);
            let ticket = head & TICKET;
            let link = Link(self.front.segment.load(Acquire));
            rounds.begin(head, link)?;
            let Some(view) = View::at(link) else {
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
                Some(State::Done) => head + 1,
                Some(State::Skipped) => {
                    // Its producer may have died before it moved the tail, and `ever_put` counts from there.
                    let _ = self.back.tail.compare_exchange(ticket, ticket + 1, SeqCst, Relaxed);
                    head.checked_add(SKIPPED_ONE).unwrap_or(head) + 1
                }
                _ => return Ok(()),
            };
            let _ = self.front.head.compare_exchange(head, passed, SeqCst, Relaxed);
        }
    }

    /// Whether the queue behind `handle` has this segment: asked by who clears up after a process that was about to link or to free it, so that
    /// it cannot come in any more. When that cannot be told, because the queue is damaged, it counts as in use.
    pub(super) fn has(handle: Handle, wanted: Link) -> bool {
        let Some(queue) = arena::look_at::<Self>(handle) else {
            return false;
        };
        'anew: loop {
            let first = Link(queue.front.segment.load(Acquire));
            let (mut link, mut base) = (first, None);
            while link != wanted {
                if link == Link::NOWHERE {
                    return false;
                }
                let next = View::at(link).and_then(|view| Some((view.next()?, view.base)));
                let Some((next, at)) = next else {
                    // It was left while we looked, or the queue has ended meanwhile.
                    if arena::look_at::<Self>(handle).is_none() {
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
            return arena::look_at::<Self>(handle).is_some();
        }
    }

    /// Move the front off a segment all of whose slots are over; `false` when there is none to move to.
    fn leave(&self, view: &View) -> bool {
        match view.next() {
            Some(Link::NOWHERE) => return false,
            Some(next) => {
                // The one who appended `next` may not have got round to this; nobody may find the back on a segment that is gone.
                let _ = self.back.segment.compare_exchange(view.link.0, next.0, SeqCst, Relaxed);
                if let Ok(family) = family() {
                    view.claim(family.me());
                }
                // DEATH: a segment that somebody owned is freed if it is in the queue no more.
                let _ = self
                    .front
                    .segment
                    .compare_exchange(view.link.0, next.0, SeqCst, Relaxed);
                // Whoever moved the front off it: nobody comes back to it, and freeing it again does nothing.
                view.free();
            }
            None => {}
        }
        true
    }
}

/// A loop that begins anew because somebody else moved on.
#[derive(Default)]
pub(super) struct Rounds(Option<(u64, u64)>);

impl Rounds {
    /// Begin a round with these words. They only ever move on, so the same ones twice in a row mean damage, and that all further rounds would end
    /// as the last did.
    pub fn begin(&mut self, ticket: u64, link: Link) -> Result<()> {
        if self.0.replace((ticket, link.0)) == Some((ticket, link.0)) {
            return Err(Error::Corrupt("a queue's segments"));
        }
        Ok(())
    }
}
