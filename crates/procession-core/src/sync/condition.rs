//! `Condition`: wait until another process says that something changed. Waiters are notified exactly in the order in
//! which they began to wait.
//!
//! It knows nothing of the lock that goes with it: the caller enqueues while it holds the lock, releases it, waits, and
//! takes it again.

use super::primitive::{AtomicU32, Ordering};
use super::spin::Spin;
use super::wait::Purpose;
use super::waiters::{Chunk, Leave, WaiterSlot, WaiterWord};
use crate::arena::{Label, Object, Ref};
use crate::ids::{Kind, Owner};
use crate::liveness;
use crate::{Deadline, Result, WaitError};

/// A condition's state in the arena.
#[repr(C)]
pub(crate) struct ConditionState {
    /// The next ticket to draw.
    ticket: AtomicU32,
    spin: Spin,
    pub(super) waiters: Chunk,
}

// SAFETY: atomics only; zero is a condition without waiters; the chunk is an object by itself.
unsafe impl Object for ConditionState {
    const KIND: Kind = Kind::Condition;
    const NAME: &'static str = "Condition";

    fn destroy(&self) {
        self.waiters.destroy();
    }
}

/// A condition that processes share.
#[derive(Clone, Debug)]
pub struct Condition {
    state: Ref<ConditionState>,
}

/// A waiter in a condition's queue. If it is dropped before it is notified, it leaves the queue; a notification that it
/// got but did not use goes to the next waiter.
pub struct Waiter {
    condition: Condition,
    me: Owner,
    slot: Option<WaiterSlot>,
}

super::shared!(Condition);

impl Condition {
    /// Create a condition.
    pub fn create() -> Result<Self> {
        Self::labelled(Label::default())
    }

    /// Create a condition with a label.
    pub fn labelled(label: Label<'_>) -> Result<Self> {
        Ok(Self {
            state: Ref::labelled(label)?,
        })
    }

    /// Enqueue a waiter. The caller holds the lock.
    pub fn enqueue(&self) -> Result<Waiter> {
        let me = liveness::me()?;
        let ticket = self.state.ticket.fetch_add(1, Ordering::Relaxed);
        let slot = self.state.waiters.take_slot(ticket, me)?;
        Ok(Waiter {
            condition: self.clone(),
            me,
            slot: Some(slot),
        })
    }

    /// Notify the `n` living waiters that have waited longest. The caller holds the lock. Fails if this process has no
    /// address space to see all waiters, of which then none may have been notified.
    pub fn notify(&self, n: u32) -> Result<()> {
        let waiters = &self.state.waiters;
        let mut left = n;
        while left > 0 {
            let next = self.state.ticket.load(Ordering::Relaxed);
            let mut oldest: Option<(WaiterSlot, WaiterWord)> = None;
            waiters.visit(|slot, word| {
                if word.is_waiting()
                    && oldest
                        .as_ref()
                        .is_none_or(|(_, first)| word.age(next) > first.age(next))
                {
                    oldest = Some((slot(), word));
                }
                false
            })?;
            let Some((slot, word)) = oldest else { break };
            // A spinning waiter is alive, or was some microseconds ago; a sleeper may have been dead for long.
            let dead = word
                .owner()
                .is_none_or(|owner| liveness::is_known_dead(owner) || word.is_asleep() && !liveness::is_alive(owner));
            if dead {
                waiters.clear(&slot, word);
            } else if waiters.decide(&slot, word, false) {
                left -= 1;
            }
        }
        Ok(())
    }

    /// Notify all waiters. The caller holds the lock. Fails if this process has no address space to see all of them;
    /// those that it sees are notified.
    pub fn notify_all(&self) -> Result<()> {
        let mut found = Vec::new();
        let whole = self.state.waiters.words(&mut found);
        for (slot, word) in found {
            self.state.waiters.decide(&slot, word, false);
        }
        whole
    }

    /// The number of waiters that were not notified yet. Fails as [`notify`](Self::notify) does.
    pub fn waiting(&self) -> Result<usize> {
        self.state.waiters.waiting()
    }

    /// Pass on the notifications of waiters that were notified and died before they noticed: each goes to the next
    /// waiter.
    fn pass_on_from_dead(&self) {
        for (slot, word) in self.state.waiters.words_in_reach() {
            if word.is_decided() && word.owner().is_some_and(|owner| !liveness::is_alive(owner)) {
                // DEATH: if we are killed between the two, the notification is lost.
                if self.state.waiters.clear(&slot, word) {
                    let _ = self.notify(1);
                }
            }
        }
    }
}

impl Waiter {
    /// Wait to be notified; returns `Ok` at most once. After [`Interrupted`](WaitError::Interrupted) it is still in
    /// the queue; after [`TimedOut`](WaitError::TimedOut) it is not.
    pub fn wait(&mut self, deadline: Deadline) -> Result<(), WaitError> {
        let Some(slot) = self.slot else {
            return Err(WaitError::TimedOut);
        };
        let state = &*self.condition.state;
        let purpose = Purpose::of(Kind::Condition, Some(self.condition.handle()));
        let check_deaths = || self.condition.pass_on_from_dead();
        let end = state.waiters.wait(&slot, &state.spin, purpose, deadline, check_deaths);
        if matches!(end, Err(WaitError::Interrupted)) {
            return end;
        }
        self.slot = None;
        // A notification just before the deadline counts.
        match state.waiters.leave(&slot) {
            Leave::Decided { .. } => Ok(()),
            Leave::Undecided => Err(WaitError::TimedOut),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        // A child forked in the middle of a wait leaves its parent's slot alone.
        if liveness::me().is_ok_and(|me| me == self.me) && self.condition.state.waiters.leave(&slot) != Leave::Undecided
        {
            // Out of address space, it is lost, as with a process that dies here.
            let _ = self.condition.notify(1);
        }
    }
}
