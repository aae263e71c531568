//! The queues of tasks (first in, first out, one producer), one for each priority, and the stack of finished ones.
//!
//! Claiming is one compare-and-swap on the task's own state. The queue's head is only moved along afterwards, by any
//! process that sees that it lags. So a claimer that dies in between does not block the others.

use super::shared::{PoolView, StateWord, Status, QUEUES};
use crate::ids::Owner;
use crate::Result;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};

fn low(word: u64) -> u32 {
    word as u32
}

/// The slot that the head of this queue names.
fn named(queue: usize, head: u64) -> u32 {
    match low(head) {
        0 => queue as u32,
        slot => slot,
    }
}

/// The head one slot further, with a new tag.
fn advanced(head: u64, slot: u32) -> u64 {
    u64::from(((head >> 32) as u32).wrapping_add(1)) << 32 | u64::from(slot)
}

impl PoolView {
    /// Append `slot` (complete but for its state) behind `tail`, the last of a queue. Only the parent calls it, under its lock.
    pub(super) fn append(&self, tail: u32, slot: u32, generation: u32) -> Result<()> {
        let new = self.slot(slot)?;
        new.next.store(0, Relaxed);
        new.store(StateWord::of(Status::Pending, generation, None));
        // SYNC: a reader of this link sees the complete pending slot. SeqCst against a worker about to sleep: see
        // `wake_one`.
        self.slot(tail)?.next.store(slot, SeqCst);
        Ok(())
    }

    fn head_of(&self, queue: usize) -> &AtomicU64 {
        &self.shared.heads[queue].0
    }

    /// Claim the first task of the first queue that has one for `me`, and return its slot number and state. The slot
    /// number is noted in `intent` before the claim.
    pub(super) fn claim(&self, me: Owner, intent: &std::sync::atomic::AtomicU32) -> Result<Option<(u32, StateWord)>> {
        for queue in 0..QUEUES {
            let claimed = self.claim_in(queue, me, intent)?;
            if claimed.is_some() {
                return Ok(claimed);
            }
        }
        Ok(None)
    }

    fn claim_in(
        &self,
        queue: usize,
        me: Owner,
        intent: &std::sync::atomic::AtomicU32,
    ) -> Result<Option<(u32, StateWord)>> {
        let head = self.head_of(queue);
        loop {
            let seen = head.load(SeqCst);
            let next = self.slot(named(queue, seen))?.next.load(SeqCst);
            if next == 0 {
                if head.load(SeqCst) == seen {
                    return Ok(None);
                }
                continue;
            }
            let slot = self.slot(next)?;
            let state = slot.load();
            // SYNC: if the head is unchanged, `next` really is the first in the queue, and `state` was read while it
            // was. As tasks are only claimed in order, it stays the first as long as that state (with its generation)
            // is unchanged.
            if head.load(SeqCst) != seen {
                continue;
            }
            let mut claimed = None;
            if let Some(state) = state.filter(|state| state.status == Status::Pending) {
                // DEATH: the intent comes first; the task's own state tells whether the claim followed.
                intent.store(next, SeqCst);
                let mine = StateWord::of(Status::Running, state.generation, Some(me));
                claimed = slot.swap(state, mine).then_some((next, mine));
            }
            let _ = head.compare_exchange(seen, advanced(seen, next), SeqCst, Relaxed);
            if claimed.is_some() {
                return Ok(claimed);
            }
        }
    }

    /// The slot behind the head of a queue, and that head: the first task, unless it was claimed or withdrawn. 0: none.
    fn first_of(&self, queue: usize) -> Result<(u32, u64)> {
        let head = self.head_of(queue).load(SeqCst);
        Ok((self.slot(named(queue, head))?.next.load(SeqCst), head))
    }

    /// Whether a task is queued. A hint: it may be claimed at once.
    pub(super) fn is_waiting(&self) -> bool {
        (0..QUEUES).any(|queue| self.first_of(queue).is_ok_and(|(first, _)| first != 0))
    }

    /// Make sure that the head of its queue is not *before* the claimed `slot`: afterwards it is at it or beyond.
    /// Parent only.
    pub(super) fn pass(&self, queue: usize, slot: u32) -> Result<()> {
        let (first, head) = self.first_of(queue)?;
        if first == slot {
            // Fails if a worker moved it.
            let _ = self
                .head_of(queue)
                .compare_exchange(head, advanced(head, slot), SeqCst, Relaxed);
        }
        Ok(())
    }

    /// Move the heads past the first tasks of their queues, at most `limit` times each, as long as these were withdrawn
    /// and cannot be claimed. Parent only.
    pub(super) fn skip_withdrawn(&self, limit: usize) -> Result<()> {
        for queue in 0..QUEUES {
            for _ in 0..limit {
                let (first, head) = self.first_of(queue)?;
                if first == 0
                    || self
                        .slot(first)?
                        .load()
                        .is_some_and(|state| state.status == Status::Pending)
                {
                    break;
                }
                // Fails if a worker moved it: look again.
                let _ = self
                    .head_of(queue)
                    .compare_exchange(head, advanced(head, first), SeqCst, Relaxed);
            }
        }
        Ok(())
    }

    /// The slot that was claimed last in this queue.
    pub(super) fn head(&self, queue: usize) -> u32 {
        named(queue, self.head_of(queue).load(SeqCst))
    }

    /// Whether a queue still needs `slot`, as the one claimed last. It must not be used again yet.
    pub(super) fn is_head(&self, slot: u32) -> bool {
        (0..QUEUES).any(|queue| self.head(queue) == slot)
    }

    /// Put the finished `slot` on the stack, and wake the waiters if that makes as many as they wait for.
    pub(super) fn push_finished(&self, index: u32) -> Result<()> {
        let (slot, top) = (self.slot(index)?, &self.shared.finished.0);
        let mut seen = top.load(Relaxed);
        let count = loop {
            slot.aux.store(low(seen), Relaxed);
            let count = ((seen >> 32) as u32).saturating_add(1);
            // DEATH: before this line the task is finished but not reported: the parent looks at the task that the dead
            // worker had noted.
            match top.compare_exchange_weak(seen, u64::from(count) << 32 | u64::from(index), SeqCst, Relaxed) {
                Ok(_) => break count,
                Err(now) => seen = now,
            }
        };
        // SYNC: the push above and these loads are SeqCst, as are a waiter's store of its number and its load of the
        // stack: one of the two sees the other.
        let wanted = self.shared.wake_at.load(SeqCst);
        if wanted != 0 && count >= wanted {
            self.shared.done.notify(u32::MAX);
        }
        let wanted = self.shared.room.0.at.load(SeqCst);
        if wanted != 0 && count >= wanted {
            self.shared.room.0.count.notify(u32::MAX);
        }
        Ok(())
    }

    /// Number of finished tasks that wait to be collected.
    pub(super) fn finished(&self) -> u32 {
        (self.shared.finished.0.load(SeqCst) >> 32) as u32
    }

    /// Take all finished tasks off the stack, oldest first, into `out`. Parent only, under its lock.
    pub(super) fn take_finished(&self, out: &mut Vec<u32>) {
        out.clear();
        let word = self.shared.finished.0.swap(0, AcqRel);
        let (mut count, mut index) = ((word >> 32) as u32, low(word));
        while count > 0 && index != 0 {
            out.push(index);
            count -= 1;
            index = self.slot(index).map_or(0, |slot| slot.aux.load(Acquire));
        }
        out.reverse();
    }

    /// Wake a worker, because work was queued, unless one is spinning, or was woken and has not looked yet.
    pub(super) fn wake_one(&self) {
        // SYNC: the queue was changed (SeqCst) before these loads. A spinner that gives up, and a worker that was
        // asleep or is about to sleep, clears its word (SeqCst) before it looks at the queue.
        if self.shared.spinner.load(SeqCst) == 0 && self.shared.wake_pending.load(SeqCst) == 0 {
            self.shared.wake_pending.store(1, SeqCst);
            self.shared.work.notify(1);
        }
    }

    /// Wake workers when a waiter has waited for a while without success. If tasks are still queued, the worker that
    /// was to claim them, as the spinner or as the one that was woken, may be stopped. So all others are woken; those
    /// that are stopped in their sleep do not wake.
    pub(super) fn relieve(&self) {
        if self.is_waiting() {
            self.shared.spinner.store(0, SeqCst);
            self.shared.work.notify(u32::MAX);
        }
    }

    /// Stop being the spinner, or clear a dead one.
    pub(super) fn leave_spinner(&self, owner: Owner) {
        let _ = self
            .shared
            .spinner
            .compare_exchange(owner.to_bits(), 0, SeqCst, Relaxed);
    }
}
