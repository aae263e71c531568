//! `Condition`: wait until another process says that something changed. Who waited longest is notified first, exactly.
//!
//! It knows nothing of the lock that goes with it: the caller enqueues himself while he holds it, releases it, waits, and takes it again.

use super::primitive::{AtomicU32, Ordering};
use super::spin::Spin;
use super::wait::Purpose;
use super::waiters::{Chunk, Leave, Seat, Word};
use crate::arena::{Kind, Object, Ref};
use crate::roll::{self, Owner};
use crate::{Deadline, Result, WaitError};

/// A condition's state in the arena.
#[repr(C)]
pub(crate) struct State {
    /// The ticket drawn next.
    ticket: AtomicU32,
    spin: Spin,
    waiters: Chunk,
}

// SAFETY: atomics only; zero is a condition nobody waits for; the chunk is an object by itself.
unsafe impl Object for State {
    const KIND: Kind = Kind::Condition;
    const NAME: &'static str = "Condition";

    fn destroy(&self) {
        self.waiters.destroy();
    }
}

/// A condition that processes share.
#[derive(Clone, Debug)]
pub struct Condition {
    state: Ref<State>,
}

/// A place in a condition's line. Dropped before it was notified, it leaves the line; a notification that it got but did not use goes to the next.
pub struct Waiter {
    condition: Condition,
    me: Owner,
    seat: Option<Seat>,
}

super::shared!(Condition);

impl Condition {
    /// A new condition.
    pub fn create() -> Result<Self> {
        Ok(Self { state: Ref::create()? })
    }

    /// Get in line, while holding the lock.
    pub fn enqueue(&self) -> Result<Waiter> {
        let me = roll::me()?;
        let ticket = self.state.ticket.fetch_add(1, Ordering::Relaxed);
        let seat = self.state.waiters.sit(ticket, me)?;
        Ok(Waiter {
            condition: self.clone(),
            me,
            seat: Some(seat),
        })
    }

    /// Notify the `n` that wait longest and live, while holding the lock.
    pub fn notify(&self, n: u32) {
        let waiters = &self.state.waiters;
        let mut left = n;
        while left > 0 {
            let next = self.state.ticket.load(Ordering::Relaxed);
            let mut oldest: Option<(Seat, Word)> = None;
            waiters.visit(|seat, word| {
                if word.is_waiting()
                    && oldest
                        .as_ref()
                        .is_none_or(|(_, first)| word.age(next) > first.age(next))
                {
                    oldest = Some((seat(), word));
                }
                false
            });
            let Some((seat, word)) = oldest else { return };
            // Who spins is alive, or was some microseconds ago; a sleeper may be dead for long.
            let dead = word
                .owner()
                .is_none_or(|owner| roll::is_known_dead(owner) || word.is_asleep() && !roll::is_alive(owner));
            if dead {
                waiters.clear(&seat, word);
            } else if waiters.decide(&seat, word, false) {
                left -= 1;
            }
        }
    }

    /// Notify everybody, while holding the lock.
    pub fn notify_all(&self) {
        for (seat, word) in self.state.waiters.words() {
            self.state.waiters.decide(&seat, word, false);
        }
    }

    /// How many are in line.
    pub fn waiting(&self) -> usize {
        self.state.waiters.waiting()
    }

    /// A waiter that was notified and died before it noticed: its notification goes to the next in line.
    fn look_after_the_dead(&self) {
        for (seat, word) in self.state.waiters.words() {
            if word.is_decided() && word.owner().is_some_and(|owner| !roll::is_alive(owner)) {
                // DEATH: killed between the two, the notification is lost with us.
                if self.state.waiters.clear(&seat, word) {
                    self.notify(1);
                }
            }
        }
    }
}

impl Waiter {
    /// Wait to be notified; `Ok` at most once. After [`Interrupted`](WaitError::Interrupted) the place in line is kept; after
    /// [`TimedOut`](WaitError::TimedOut) it is lost.
    pub fn wait(&mut self, deadline: Deadline) -> Result<(), WaitError> {
        let Some(seat) = self.seat else {
            return Err(WaitError::TimedOut);
        };
        let state = &*self.condition.state;
        let purpose = Purpose::of(Kind::Condition, Some(self.condition.handle()));
        let look_around = || self.condition.look_after_the_dead();
        let end = state.waiters.wait(&seat, &state.spin, purpose, deadline, look_around);
        if matches!(end, Err(WaitError::Interrupted)) {
            return end;
        }
        self.seat = None;
        // Who was notified just before the time was up was notified.
        match state.waiters.leave(&seat) {
            Leave::Decided { .. } => Ok(()),
            Leave::Undecided => Err(WaitError::TimedOut),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        // A child of fork that was born in the middle of a wait leaves its parent's place alone.
        if roll::me().is_ok_and(|me| me == self.me) && self.condition.state.waiters.leave(&seat) != Leave::Undecided {
            self.condition.notify(1);
        }
    }
}
