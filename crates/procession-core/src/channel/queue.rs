//! What a program does with a queue: put, get, count, wait. Leaves to `claim` and `walk` the way along its segments, and
//! to `recover` what dead processes left; the README beside this file argues its correctness.

use super::backoff::Backoff;
use super::claim::Run;
use super::layout::{Queue, PURPOSE, SKIPPED_ONE};
use super::segment::{QueueSlot, SegmentView, SlotState, TICKET};
use super::walk::Found;
use super::{flush_before_exit, Incoming, Message, Outgoing};
use crate::arena::{Label, Ref};
use crate::ids::{Handle, Owner};
use crate::sync::primitive::Ordering;
use crate::sync::wait::Purpose;
use crate::trace::{self, What};
use crate::{family, Deadline, Error, Result, WaitError};
use std::collections::VecDeque;
use Ordering::{Acquire, Relaxed, SeqCst};

/// Of the consumers that pass over a claim because they found a message behind it, one in this many checks whether the
/// claimant lives.
const CHECK_ONE_IN: u64 = 64;

impl Queue {
    /// Create a queue for at most `maxsize` messages (0 = as many as memory holds).
    pub fn create(maxsize: u64) -> Result<Ref<Self>> {
        Self::labelled(maxsize, Label::default())
    }

    /// As [`create`](Self::create), with a label.
    pub fn labelled(maxsize: u64, label: Label<'_>) -> Result<Ref<Self>> {
        let queue = Ref::<Self>::labelled(label)?;
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
        self.put_or(message, deadline, || false)
    }

    /// As [`put`](Self::put), but a wait ends with `Interrupted` as soon as `over` is true.
    /// [`wake_producers`](Self::wake_producers) makes the waiter check `over`.
    pub fn put_or(
        &self,
        message: &mut Option<Message>,
        deadline: Deadline,
        over: impl Fn() -> bool,
    ) -> Result<(), WaitError> {
        let me = family()?.me();
        if message.is_none() {
            return Ok(());
        }
        let run = match self.claim(me, 1)? {
            Some(run) => run,
            None => self.claim_later(me, 1, deadline, over)?,
        };
        self.trace(What::Put, run.ticket, 1);
        if let Some(message) = message.take() {
            run.fill(run.first, message, me);
        }
        self.announce(1, me);
        Ok(())
    }

    /// Put packed messages, in order. It waits for room as often as there is none. On error (`TimedOut` = full) the
    /// messages that were not put stay in `messages`; on success it is empty.
    ///
    /// Messages of other producers may come to lie between these.
    pub fn put_many(&self, messages: &mut VecDeque<Message>, deadline: Deadline) -> Result<(), WaitError> {
        let me = family()?.me();
        while !messages.is_empty() {
            let most = messages.len() as u64;
            let run = match self.claim(me, most)? {
                Some(run) => run,
                None => self.claim_later(me, most, deadline, || false)?,
            };
            self.trace(What::Put, run.ticket, run.len);
            // DEATH: slots that are not full yet are `Claimed` by the dead process. The messages before them are there.
            for (at, message) in (0..run.len).zip(messages.drain(..run.len as usize)) {
                if let Some(slot) = run.slot(at) {
                    run.fill(slot, message, me);
                }
            }
            self.announce(run.len, me);
        }
        Ok(())
    }

    #[inline]
    fn trace(&self, what: What, ticket: u64, number: u64) {
        if trace::is_on() {
            if let Some(queue) = self.handle() {
                trace::note(what, queue, ticket & TICKET | number << TICKET.count_ones());
            }
        }
    }

    /// The queue's own handle.
    fn handle(&self) -> Option<Handle> {
        Handle::from_bits(self.back.handle.load(Relaxed))
    }

    fn purpose(&self) -> Purpose {
        let object = self.handle();
        Purpose { object, ..PURPOSE }
    }

    /// Tell consumers and processes that poll about so many new messages.
    fn announce(&self, messages: u64, me: Owner) {
        // SYNC: `notify` fences: either a process that polls is seen below, or it sees the messages.
        self.waiting.not_empty.notify(messages as u32);
        if self.waiting.pollers.ever_joined() {
            self.note_flush_before_exit(me);
        }
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
        self.get_or(deadline, || false)
    }

    /// As [`get`](Self::get), but a wait ends with `Interrupted` as soon as `over` is true.
    /// [`wake_consumers`](Self::wake_consumers) makes the waiter check `over`.
    pub fn get_or(&self, deadline: Deadline, over: impl Fn() -> bool) -> Result<Incoming, WaitError> {
        let mut got = None;
        self.take(1, deadline, over, |incoming| got = Some(incoming))?;
        got.ok_or(WaitError::TimedOut)
    }

    /// Take the oldest messages, at most `most`, and append them to `run`. It waits for the first only (`TimedOut` =
    /// empty), and returns no more than lie in one segment: to get all that are there, call it again.
    ///
    /// If it fails, messages that it appended before are this process's all the same.
    pub fn get_many(&self, most: usize, deadline: Deadline, run: &mut Vec<Incoming>) -> Result<(), WaitError> {
        self.get_many_or(most, deadline, run, || false)
    }

    /// As [`get_many`](Self::get_many), but a wait ends with `Interrupted` as soon as `over` is true.
    /// [`wake_consumers`](Self::wake_consumers) makes the waiter check `over`.
    pub fn get_many_or(
        &self,
        most: usize,
        deadline: Deadline,
        run: &mut Vec<Incoming>,
        over: impl Fn() -> bool,
    ) -> Result<(), WaitError> {
        self.take(most as u64, deadline, over, |incoming| run.push(incoming))
    }

    fn take(
        &self,
        most: u64,
        deadline: Deadline,
        over: impl Fn() -> bool,
        mut each: impl FnMut(Incoming),
    ) -> Result<(), WaitError> {
        let me = family()?.me();
        if self.try_take(me, most, &mut each)? || self.recover()? && self.try_take(me, most, &mut each)? {
            return Ok(());
        }
        if let Deadline::Now = deadline {
            return Err(WaitError::TimedOut);
        }
        let mut backoff = Backoff::new();
        let took = self.waiting.not_empty.wait_for(self.purpose(), deadline, || {
            if over() {
                return Some(Ok(false));
            }
            self.try_take(me, most, &mut each)
                .and_then(|took| match took {
                    false if backoff.is_over() && self.recover()? => self.try_take(me, most, &mut each),
                    other => Ok(other),
                })
                .map(|took| took.then_some(true))
                .transpose()
        })??;
        if !took {
            // The wake may have been for a message: pass it on.
            self.waiting.not_empty.notify(1);
            return Err(WaitError::Interrupted);
        }
        Ok(())
    }

    /// Wait until a `get` would not have to wait. Takes nothing.
    pub fn wait_until_ready(&self, deadline: Deadline) -> Result<(), WaitError> {
        self.wait_until_ready_or(deadline, || false)
    }

    /// Wait as [`wait_until_ready`](Self::wait_until_ready) does, or until `over` is true.
    /// [`wake_consumers`](Self::wake_consumers) makes the waiter check `over`.
    pub fn wait_until_ready_or(&self, deadline: Deadline, over: impl Fn() -> bool) -> Result<(), WaitError> {
        let mut backoff = Backoff::new();
        let result = self.waiting.not_empty.wait_for(self.purpose(), deadline, || {
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

    /// Wait until a `put` would not have to wait, or until `over` is true. Puts nothing.
    /// [`wake_producers`](Self::wake_producers) makes the waiter check `over`.
    pub fn wait_until_room_or(&self, deadline: Deadline, over: impl Fn() -> bool) -> Result<(), WaitError> {
        let mut backoff = Backoff::new();
        let result = self.waiting.not_full.wait_for(self.purpose(), deadline, || {
            if over() {
                return Some(Ok(()));
            }
            let full = match self.is_full() {
                Ok(true) if backoff.is_over() => self.recover().and_then(|_| self.is_full()),
                full => full,
            };
            full.map(|full| (!full).then_some(())).transpose()
        });
        // This wake was consumed without putting a message; pass it on.
        self.waiting.not_full.notify(1);
        result?.map_err(WaitError::from)
    }

    /// Wake all processes that wait for a message, to check what they wait for.
    pub fn wake_consumers(&self) {
        self.waiting.not_empty.notify_all();
    }

    /// Wake all processes that wait for room, to check what they wait for.
    pub fn wake_producers(&self) {
        self.waiting.not_full.notify_all();
    }

    /// Number of messages in the queue.
    pub fn len(&self) -> Result<u64> {
        self.count(|state| state == SlotState::Full)
    }

    /// The number of slots from the head to the tail: at least as many as there are messages.
    pub fn extent(&self) -> u64 {
        let head = self.front.head.load(Acquire) & TICKET;
        self.back.tail.load(Acquire).saturating_sub(head)
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
        Ok(self.room(self.back.tail.load(Acquire))? == 0)
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
            .wait_for(self.purpose(), deadline, || {
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

    /// Claim slots of a queue that was full, once there is room.
    #[cold]
    fn claim_later(&self, me: Owner, most: u64, deadline: Deadline, over: impl Fn() -> bool) -> Result<Run, WaitError> {
        if let Deadline::Now = deadline {
            // A consumer that died may hold the missing room.
            self.recover()?;
            return self.claim(me, most)?.ok_or(WaitError::TimedOut);
        }
        let mut backoff = Backoff::new();
        let claimed = self.waiting.not_full.wait_for(self.purpose(), deadline, || {
            if over() {
                return Some(Ok(None));
            }
            self.claim(me, most)
                .and_then(|claimed| match claimed {
                    None if backoff.is_over() && self.recover()? => self.claim(me, most),
                    other => Ok(other),
                })
                .map(|claimed| claimed.map(Some))
                .transpose()
        })??;
        claimed.ok_or_else(|| {
            // The wake may have been for room: pass it on.
            self.waiting.not_full.notify(1);
            WaitError::Interrupted
        })
    }

    /// Take the oldest messages that are there, up to `most` and none beyond the segment's end; `false` if there is
    /// none.
    fn try_take(&self, me: Owner, most: u64, each: &mut impl FnMut(Incoming)) -> Result<bool> {
        let bounded = self.maxsize() != 0;
        loop {
            let walk = self.walk()?;
            let Some(Found { view, ticket, .. }) = walk.full else {
                return Ok(false);
            };
            // Behind a slot that a process is at work on, each message needs a walk of its own: the producer of a later
            // one may have filled that slot before.
            let end = ticket.saturating_add(if walk.busy > 0 { 1 } else { most });
            if walk.busy > 0 {
                if ticket % CHECK_ONE_IN == 0 {
                    self.recover_before(ticket)?;
                }
                if bounded {
                    self.front.ahead.fetch_max(end, SeqCst);
                }
            }
            let mut taken = 0;
            let mut failed = None;
            for slot in (ticket..end).map_while(|at| view.slot(at)) {
                match self.take_one(me, &view, slot) {
                    Ok(Some(incoming)) => each(incoming),
                    Ok(None) => break,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
                taken += 1;
            }
            if taken == 0 && failed.is_none() {
                continue;
            }
            self.trace(What::Get, ticket, taken);
            self.advance_over(&view, ticket, taken)?;
            if bounded {
                self.waiting.not_full.notify((taken as u32).max(1));
            }
            return match failed {
                // It is still there, for the next call.
                Some(Error::Exhausted { .. }) if taken > 0 => Ok(true),
                Some(error) => Err(error),
                None => Ok(true),
            };
        }
    }

    /// Take the message of this slot; `None` if the slot is not full any more.
    fn take_one(&self, me: Owner, view: &SegmentView, slot: &QueueSlot) -> Result<Option<Incoming>> {
        let full = view.stamp(SlotState::Full, None);
        let taken = view.stamp(SlotState::Taken, Some(me));
        if !slot.change(full, taken) {
            return Ok(None);
        }
        // DEATH: from here on a survivor looks at the header. It puts a whole message back, and frees what is left of a
        // broken one.
        let incoming = slot.header.open();
        if let Err(error @ Error::Exhausted { .. }) = incoming {
            // This process has no address space for the message: put it back, for the next try or for another process.
            slot.change(taken, full);
            self.waiting.not_empty.notify(1);
            return Err(error);
        }
        if incoming.is_err() {
            slot.header.discard();
        }
        slot.change(taken, view.stamp(SlotState::Done, None));
        incoming.map(Some)
    }
}
