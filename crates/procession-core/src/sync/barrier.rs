//! `Barrier`: a number of parties wait until all are there.
//!
//! All changes are made under a guard, an engine lock; before each an intent is written into `phase`, which the next holder of the guard
//! completes if its writer died.

use super::claim::Claim;
use super::death::Holder;
use super::primitive::{AtomicU32, Ordering};
use super::raw::RawLock;
use super::spin::Spin;
use super::wait::Purpose;
use super::waiters::{Chunk, Leave, Seat};
use crate::arena::{Kind, Object, Ref};
use crate::roll::{self, Owner};
use crate::{Deadline, Result, WaitError};

/// A barrier's state in the arena.
#[repr(C)]
pub(crate) struct State {
    guard: RawLock,
    /// Written once, before anybody else sees the handle.
    parties: AtomicU32,
    /// One of the phases below.
    phase: AtomicU32,
    spin: Spin,
    waiters: Chunk,
}

/// Parties arrive.
const FILLING: u32 = 0;
/// The last one has arrived and is running its action, under the guard. DEATH: breaks the barrier.
const ACTING: u32 = 1;
/// All are there: those who wait are being let go. DEATH: the next holder of the guard lets the rest go.
const RELEASING: u32 = 2;
/// Being reset: those who wait are being turned away. DEATH: the next holder of the guard turns the rest away.
const RESETTING: u32 = 3;
/// Broken until it is reset.
const BROKEN: u32 = 4;

// SAFETY: atomics only; zero is a barrier for nobody; a phase that makes no sense counts as broken; the chunk is an object by itself.
unsafe impl Object for State {
    const KIND: Kind = Kind::Barrier;
    const NAME: &'static str = "Barrier";

    fn destroy(&self) {
        self.waiters.destroy();
    }
}

/// Why a wait at a barrier ended badly.
#[derive(Debug, thiserror::Error)]
pub enum BarrierError {
    /// It is broken, or was broken or reset while we waited: a timeout, an abort, a reset, or the death of a party.
    #[error("the barrier is broken")]
    Broken,
    /// The wait itself.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// A barrier that processes share.
#[derive(Clone, Debug)]
pub struct Barrier {
    state: Ref<State>,
}

/// What an arrival leads to.
pub enum Arrival {
    /// Others are missing: wait.
    Waits(Participant),
    /// All are there: run the action, then let them go.
    Last(Last),
}

/// One who waits at a barrier. Dropped before the end of its wait, it takes its arrival back.
pub struct Participant {
    barrier: Barrier,
    me: Owner,
    index: usize,
    seat: Option<Seat>,
}

/// The last to arrive; until it is done, nobody else gets at the barrier. Dropped without a [`release`](Last::release), it breaks the barrier.
pub struct Last {
    barrier: Barrier,
    me: Owner,
    index: usize,
    released: bool,
}

/// The guard, held.
struct Guard<'a>(&'a State);

super::shared!(Barrier);

impl Barrier {
    /// A barrier for so many parties.
    pub fn create(parties: u32) -> Result<Self> {
        let state: Ref<State> = Ref::create()?;
        state.parties.store(parties, Ordering::Release);
        Ok(Self { state })
    }

    /// Arrive. Waits only while somebody else changes the barrier, or runs its action.
    pub fn arrive(&self) -> Result<Arrival, BarrierError> {
        let me = roll::me().map_err(WaitError::from)?;
        let guard = self.guard()?;
        if guard.0.phase() != FILLING {
            return Err(BarrierError::Broken);
        }
        let index = guard.0.waiters.waiting();
        if index + 1 >= self.parties() as usize {
            guard.0.enter(ACTING);
            std::mem::forget(guard);
            return Ok(Arrival::Last(Last {
                barrier: self.clone(),
                me,
                index,
                released: false,
            }));
        }
        let seat = guard.0.waiters.sit(index as u32, me).map_err(WaitError::from)?;
        drop(guard);
        Ok(Arrival::Waits(Participant {
            barrier: self.clone(),
            me,
            index,
            seat: Some(seat),
        }))
    }

    /// Break it: whoever waits or will wait gets [`BarrierError::Broken`], until it is reset.
    pub fn abort(&self) -> Result<(), WaitError> {
        self.guard()?.0.break_up();
        Ok(())
    }

    /// Make it as new; whoever waits gets [`BarrierError::Broken`].
    pub fn reset(&self) -> Result<(), WaitError> {
        let guard = self.guard()?;
        guard.0.enter(RESETTING);
        guard.0.repair();
        Ok(())
    }

    /// For how many it is.
    pub fn parties(&self) -> u32 {
        self.state.parties.load(Ordering::Relaxed)
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        match self.state.phase() {
            FILLING | ACTING => self.state.waiters.waiting(),
            // They are being let go one by one: the first of them must not see the others.
            _ => 0,
        }
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.state.phase() >= BROKEN
    }

    #[cfg(test)]
    pub(super) fn is_acting(&self) -> bool {
        self.state.phase() == ACTING
    }

    /// Take the guard, and finish what a dead holder had begun.
    fn guard(&self) -> Result<Guard<'_>, WaitError> {
        let purpose = Purpose::of(Kind::Barrier, Some(self.handle()));
        self.state
            .guard
            .acquire(Claim::mine()?, Holder::Process, purpose, Deadline::Never)?;
        self.state.repair();
        Ok(Guard(&self.state))
    }

    /// As [`guard`](Self::guard), whatever signals come.
    fn guard_surely(&self) -> Result<Guard<'_>, WaitError> {
        loop {
            match self.guard() {
                Err(WaitError::Interrupted) => {}
                end => return end,
            }
        }
    }

    /// Look after the participant in the next seat, and after the holder of the guard. The seats in use form a ring: each dead participant sits behind
    /// a living one, or behind one whose death breaks the barrier as well. The order of arrival is another one: a participant that leaves
    /// frees its seat for a later one.
    fn look_around(&self, mine: &Seat) {
        let state = &*self.state;
        if let Some(holder) = state.guard.owner() {
            if !roll::is_alive(holder) {
                // Taking the guard repairs what the dead began.
                let _ = self.guard_surely();
            }
        }
        let waiting: Vec<_> = state
            .waiters
            .words()
            .into_iter()
            .filter(|(_, word)| word.is_waiting())
            .collect();
        // Decided meanwhile, or cleared as a dead one's: the wait is over.
        let Some(place) = waiting.iter().position(|(seat, _)| seat == mine) else {
            return;
        };
        let (seat, word) = &waiting[(place + 1) % waiting.len()];
        if word.owner().is_some_and(roll::is_alive) {
            return;
        }
        if let Ok(guard) = self.guard_surely() {
            if state.waiters.clear(seat, *word) {
                guard.0.break_up();
            }
        }
    }
}

impl State {
    fn phase(&self) -> u32 {
        self.phase.load(Ordering::Acquire)
    }

    fn enter(&self, phase: u32) {
        self.phase.store(phase, Ordering::Release);
    }

    fn break_up(&self) {
        self.enter(BROKEN);
        self.decide_all(true);
    }

    fn decide_all(&self, broken: bool) {
        for (seat, word) in self.waiters.words() {
            self.waiters.decide(&seat, word, broken);
        }
    }

    /// Carry out the intent that `phase` tells of. Under the guard.
    fn repair(&self) {
        match self.phase() {
            FILLING => {}
            RELEASING => {
                self.decide_all(false);
                self.enter(FILLING);
            }
            RESETTING => {
                self.decide_all(true);
                self.enter(FILLING);
            }
            // ACTING found here is of a dead holder.
            _ => self.break_up(),
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.guard.release();
    }
}

impl Participant {
    /// The order of arrival, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Wait for the others. A timeout breaks the barrier. After `Interrupted`, wait again or drop it.
    pub fn wait(&mut self, deadline: Deadline) -> Result<(), BarrierError> {
        let Some(seat) = self.seat else {
            return Err(BarrierError::Broken);
        };
        let state = &*self.barrier.state;
        let purpose = Purpose::of(Kind::Barrier, Some(self.barrier.handle())).watching();
        let look_around = || self.barrier.look_around(&seat);
        let end = state.waiters.wait(&seat, &state.spin, purpose, deadline, look_around);
        match end {
            Ok(()) => {
                self.seat = None;
                match state.waiters.leave(&seat) {
                    Leave::Decided { broken: false } => Ok(()),
                    _ => Err(BarrierError::Broken),
                }
            }
            Err(WaitError::TimedOut) => {
                let guard = self.barrier.guard_surely()?;
                self.seat = None;
                match state.waiters.leave(&seat) {
                    Leave::Decided { broken: false } => Ok(()),
                    Leave::Decided { broken: true } => Err(BarrierError::Broken),
                    Leave::Undecided => {
                        guard.0.break_up();
                        Err(BarrierError::Broken)
                    }
                }
            }
            Err(end) => Err(end.into()),
        }
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        // A child of fork that was born in the middle of a wait leaves its parent's place alone.
        if roll::me().is_ok_and(|me| me == self.me) {
            self.barrier.state.waiters.leave(&seat);
        }
    }
}

impl Last {
    /// The order of arrival, from 0: the number of parties less one.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Let the others go.
    pub fn release(mut self) {
        self.released = true;
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        if roll::me().is_ok_and(|me| me == self.me) {
            let guard = Guard(&self.barrier.state);
            guard.0.enter(if self.released { RELEASING } else { BROKEN });
            guard.0.repair();
        }
    }
}
