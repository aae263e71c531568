//! What a program does with a queue: put, get, count, wait. Leaves to `walk` the way along its segments, and to
//! `recover` what dead processes left; the README beside this file argues its correctness.

use super::backoff::Backoff;
use super::layout::{Queue, PURPOSE, SKIPPED_ONE};
use super::segment::{Link, QueueSlot, SegmentView, SlotState, SLOTS, TICKET};
use super::walk::{Found, Rounds};
use super::{flush_before_exit, Incoming, Message, Outgoing};
use crate::arena::Ref;
use crate::ids::Owner;
use crate::sync::primitive::Ordering;
use crate::{family, Deadline, Error, Result, WaitError};
use Ordering::{Acquire, Relaxed, SeqCst};

/// Of the consumers that pass over a claim because they found a message behind it, one in this many checks whether the
/// claimant lives.
const CHECK_ONE_IN: u64 = 64;

impl Queue {
    /// Create a queue for at most `maxsize` messages (0 = as many as memory holds).
    pub fn create(maxsize: u64) -> Result<Ref<Self>> {
        let queue = Ref::<Self>::create()?;
        queue.back.maxsize.store(maxsize, Relaxed);
        queue.back.handle.store(queue.handle().to_bits(), Relaxed);
        Ok(queue)
    }

    /// The maximum number of messages; 0 = as many as memory holds.
    pub fn maxsize(&self) -> u64 {
        self.back.maxsize.load(Relaxed)
    }

    /// Put a packed message. On error (`TimedOut` = full) it stays in `message` for another try; on success `message`
    /// is `None`.
    pub fn put(&self, message: &mut Option<Message>, deadline: Deadline) -> Result<(), WaitError> {
        let me = family()?.me();
        if message.is_none() {
            return Ok(());
        }
        let (view, slot) = match self.claim(me)? {
            Some(claimed) => claimed,
            None => match deadline {
                Deadline::Now => {
                    // A consumer that died may hold the missing room.
                    self.recover()?;
                    self.claim(me)?.ok_or(WaitError::TimedOut)?
                }
                _ => self.wait_for_room(me, deadline)?,
            },
        };
        if let Some(message) = message.take() {
            slot.header.post(message);
        }
        // DEATH: before this line the slot is `Claimed` by the dead process and will be skipped; after it the message
        // is there.
        slot.change(
            view.stamp(SlotState::Claimed, Some(me)),
            view.stamp(SlotState::Full, None),
        );
        // SYNC: `notify` fences: either a process that polls is seen below, or it sees the message.
        self.waiting.not_empty.notify(1);
        if self.waiting.pollers.ever_joined() {
            self.note_flush_before_exit(me);
        }
        Ok(())
    }

    /// Note the queue if another process polls it and does not know of the message yet: this process must not exit
    /// before.
    #[cold]
    fn note_flush_before_exit(&self, me: Owner) {
        if self.is_a_poller_behind(me) {
            flush_before_exit::note(self.back.handle.load(Relaxed));
        }
    }

    /// Pack a message and put it.
    pub fn send(&self, out: Outgoing<'_>, deadline: Deadline) -> Result<(), WaitError> {
        self.put(&mut Some(Message::pack(out)?), deadline)
    }

    /// Take the oldest message (`TimedOut` = empty).
    pub fn get(&self, deadline: Deadline) -> Result<Incoming, WaitError> {
        let me = family()?.me();
        if let Some(incoming) = self.try_get(me)? {
            return Ok(incoming);
        }
        if self.recover()? {
            if let Some(incoming) = self.try_get(me)? {
                return Ok(incoming);
            }
        }
        if let Deadline::Now = deadline {
            return Err(WaitError::TimedOut);
        }
        let mut backoff = Backoff::new();
        self.waiting
            .not_empty
            .wait_for(PURPOSE, deadline, || {
                self.try_get(me)
                    .and_then(|got| match got {
                        None if backoff.is_over() && self.recover()? => self.try_get(me),
                        other => Ok(other),
                    })
                    .transpose()
            })?
            .map_err(WaitError::from)
    }

    /// Wait until a `get` would not have to wait. Takes nothing.
    pub fn wait_until_ready(&self, deadline: Deadline) -> Result<(), WaitError> {
        self.wait_until_ready_or(deadline, || false)
    }

    /// Wait as [`wait_until_ready`](Self::wait_until_ready) does, or until `over` is true.
    /// [`wake_consumers`](Self::wake_consumers) makes the waiter check `over`.
    pub(super) fn wait_until_ready_or(&self, deadline: Deadline, over: impl Fn() -> bool) -> Result<(), WaitError> {
        let mut backoff = Backoff::new();
        let result = self.waiting.not_empty.wait_for(PURPOSE, deadline, || {
            if over() {
                return Some(Ok(()));
            }
            let full = self.walk().map(|found| found.full.is_some());
            match full {
                Ok(false) if backoff.is_over() => self.is_empty().map(|empty| !empty),
                other => other,
            }
            .map(|ready| ready.then_some(()))
            .transpose()
        });
        // This wake was consumed without taking a message; pass it on.
        self.waiting.not_empty.notify(1);
        result?.map_err(WaitError::from)
    }

    /// Wake all processes that wait for a message, to check what they wait for.
    pub(super) fn wake_consumers(&self) {
        self.waiting.not_empty.notify_all();
    }

    /// Number of messages in the queue.
    pub fn len(&self) -> Result<u64> {
        self.count(|state| state == SlotState::Full)
    }

    /// Whether a `get` would have to wait.
    pub fn is_empty(&self) -> Result<bool> {
        if self.walk()?.full.is_some() {
            return Ok(false);
        }
        Ok(!self.recover()? || self.walk()?.full.is_none())
    }

    /// Whether a `put` would have to wait.
    pub fn is_full(&self) -> Result<bool> {
        Ok(!self.has_room(self.back.tail.load(Acquire))?)
    }

    /// Record that a taken message has been dealt with; `false` if more were dealt with than put.
    pub fn task_done(&self) -> bool {
        loop {
            let done = self.front.done.load(SeqCst);
            if done >= self.ever_put() {
                return false;
            }
            if self
                .front
                .done
                .compare_exchange(done, done + 1, SeqCst, Relaxed)
                .is_ok()
            {
                if done + 1 >= self.ever_put() {
                    self.waiting.all_done.notify(u32::MAX);
                }
                return true;
            }
        }
    }

    /// Wait until every message put has been dealt with.
    pub fn join(&self, deadline: Deadline) -> Result<(), WaitError> {
        self.recover()?;
        let mut backoff = Backoff::new();
        self.waiting
            .all_done
            .wait_for(PURPOSE, deadline, || {
                if self.front.done.load(SeqCst) >= self.ever_put() {
                    return Some(Ok(()));
                }
                // A producer that died in the middle of a put counts until its slot is skipped.
                if backoff.is_over() {
                    if let Err(error) = self.recover() {
                        return Some(Err(error));
                    }
                }
                None
            })?
            .map_err(WaitError::from)
    }

    /// Number of messages ever put: tickets minus skipped slots.
    fn ever_put(&self) -> u64 {
        let skipped = self.front.head.load(SeqCst) / SKIPPED_ONE;
        self.back.tail.load(SeqCst).saturating_sub(skipped)
    }

    fn wait_for_room(&self, me: Owner, deadline: Deadline) -> Result<(SegmentView, &'static QueueSlot), WaitError> {
        let mut backoff = Backoff::new();
        self.waiting
            .not_full
            .wait_for(PURPOSE, deadline, || {
                self.claim(me)
                    .and_then(|claimed| match claimed {
                        None if backoff.is_over() && self.recover()? => self.claim(me),
                        other => Ok(other),
                    })
                    .transpose()
            })?
            .map_err(WaitError::from)
    }

    /// Claim the next slot; `None` if the queue is full.
    pub(super) fn claim(&self, me: Owner) -> Result<Option<(SegmentView, &'static QueueSlot)>> {
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
            if !self.has_room(ticket)? {
                return Ok(None);
            }
            let free = view.stamp(SlotState::Free, None);
            let claimed = slot.change(free, view.stamp(SlotState::Claimed, Some(me)));
            if claimed || slot.stamp().generation() == view.generation() {
                // DEATH: if the claimant dies before this line, the next producer moves the tail.
                let _ = self.back.tail.compare_exchange(ticket, ticket + 1, SeqCst, Relaxed);
            }
            if claimed {
                return Ok(Some((view, slot)));
            }
        }
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

    /// Whether the slots before `ticket` hold fewer messages than `maxsize`.
    fn has_room(&self, ticket: u64) -> Result<bool> {
        let maxsize = self.maxsize();
        let in_use = || ticket.saturating_sub(self.front.head.load(SeqCst) & TICKET);
        if maxsize == 0 || in_use() < maxsize {
            return Ok(true);
        }
        // A consumer may have died before it moved the head.
        self.advance()?;
        if in_use() < maxsize {
            return Ok(true);
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
        Ok(used < maxsize)
    }

    /// Take the oldest message, if there is one.
    fn try_get(&self, me: Owner) -> Result<Option<Incoming>> {
        loop {
            let walk = self.walk()?;
            let Some(Found { view, ticket, slot }) = walk.full else {
                return Ok(None);
            };
            if walk.busy > 0 && ticket % CHECK_ONE_IN == 0 {
                self.recover_before(ticket)?;
            }
            let taken = view.stamp(SlotState::Taken, Some(me));
            if !slot.change(view.stamp(SlotState::Full, None), taken) {
                continue;
            }
            // DEATH: from here on a survivor looks at the header. It puts a whole message back, and frees what is
            // left of a broken one.
            let incoming = slot.header.open();
            if let Err(error @ Error::Exhausted { .. }) = incoming {
                // This process has no address space for the message: put it back, for the next try or for another
                // process.
                slot.change(taken, view.stamp(SlotState::Full, None));
                self.waiting.not_empty.notify(1);
                return Err(error);
            }
            if incoming.is_err() {
                slot.header.discard();
            }
            let bounded = self.maxsize() != 0;
            if bounded && walk.busy > 0 {
                self.front.ahead.fetch_max(ticket + 1, SeqCst);
            }
            slot.change(taken, view.stamp(SlotState::Done, None));
            self.advance()?;
            if bounded {
                self.waiting.not_full.notify(1);
            }
            return incoming.map(Some);
        }
    }
}
