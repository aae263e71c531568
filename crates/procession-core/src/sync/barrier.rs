//! `Barrier`: a number of parties wait until all are there.
//!
//! A round is ended by the word `stage`, which says whether it is released, reset or broken; from then on anybody can tell its waiters. Arrivals, releases and resets
//! are made under a guard, which the next one takes from a holder that died; but breaking a round that fills, as a timeout and a death do, and
//! telling the waiters of one that has ended, need no guard: a process that is stopped with it holds up none of those who wait.

use super::claim::Claim;
use super::death::Holder;
use super::primitive::{fence, AtomicU32, Ordering};
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
    /// `round 29 | phase 3`: one of the phases below, and how many rounds were passed or reset.
    stage: AtomicU32,
    spin: Spin,
    waiters: Chunk,
}

/// Parties arrive.
const FILLING: u32 = 0;
/// The last one has arrived and is running its action, under the guard. DEATH: breaks the barrier.
const ACTING: u32 = 1;
/// All are there: those who wait are being let go. DEATH: the next holder of the guard, or each by itself, lets the rest go.
const RELEASING: u32 = 2;
/// Being reset: those who wait are being turned away. DEATH: as above.
const RESETTING: u32 = 3;
/// Broken until it is reset.
const BROKEN: u32 = 4;

const PHASE: u32 = 7;
const ROUND: u32 = 8;

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
    /// It is broken, because a living process was changing it, or running its action, for as long as this wait could last.
    #[error("the barrier is broken: {0} was changing it, or running its action, for too long")]
    Kept(String),
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
    /// The round that it waits for.
    round: u32,
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

    /// Arrive. Waits only while somebody else changes the barrier, or runs its action; the time for that is the deadline's, too, and a round that fills
    /// breaks when it is over.
    pub fn arrive(&self, deadline: Deadline) -> Result<Arrival, BarrierError> {
        let me = roll::me().map_err(WaitError::from)?;
        let guard = match self.guard(deadline) {
            Err(WaitError::TimedOut) => {
                let keeper = self.state.guard.owner();
                let stage = self.state.stage();
                self.state.break_round(stage / ROUND);
                return Err(keeper.map_or(BarrierError::Broken, |keeper| BarrierError::Kept(roll::label(keeper))));
            }
            guard => guard?,
        };
        let stage = guard.0.stage();
        let acting = stage & !PHASE | ACTING;
        let index = guard.0.waiters.waiting();
        if stage & PHASE != FILLING {
            return Err(BarrierError::Broken);
        }
        if index + 1 >= self.parties() as usize {
            if !guard.0.change(stage, acting) {
                return Err(BarrierError::Broken);
            }
            std::mem::forget(guard);
            return Ok(Arrival::Last(Last {
                barrier: self.clone(),
                me,
                index,
                released: false,
            }));
        }
        let round = stage / ROUND;
        let seat = guard.0.waiters.sit(round, me).map_err(WaitError::from)?;
        // SYNC: who breaks the round changes the stage before it looks for those who sit: it saw us, or we see the stage.
        fence(Ordering::SeqCst);
        guard.0.tell(guard.0.stage());
        drop(guard);
        Ok(Arrival::Waits(Participant {
            barrier: self.clone(),
            me,
            index,
            round,
            seat: Some(seat),
        }))
    }

    /// Break it: whoever waits or will wait gets [`BarrierError::Broken`], until it is reset.
    pub fn abort(&self) -> Result<(), WaitError> {
        // A round that fills, or has broken, needs no guard.
        let stage = self.state.stage();
        self.state.break_round(stage / ROUND);
        if self.state.stage() & PHASE != BROKEN {
            self.guard(Deadline::Never)?.0.break_up();
        }
        Ok(())
    }

    /// Make it as new; whoever waits gets [`BarrierError::Broken`].
    pub fn reset(&self) -> Result<(), WaitError> {
        let guard = self.guard(Deadline::Never)?;
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
    fn guard(&self, deadline: Deadline) -> Result<Guard<'_>, WaitError> {
        let purpose = Purpose::of(Kind::Barrier, Some(self.handle()));
        self.state
            .guard
            .acquire(Claim::mine()?, Holder::Process, purpose, deadline)?;
        self.state.repair();
        Ok(Guard(&self.state))
    }

    /// Look after the participant in the next seat, and after the holder of the guard. The seats in use form a ring: each dead participant sits behind
    /// a living one, or behind one whose death breaks the barrier as well. The order of arrival is another one: a participant that leaves
    /// frees its seat for a later one.
    fn look_around(&self, mine: &Seat, round: u32) {
        let state = &*self.state;
        // A round whose end was begun by a process that is stopped, or dead.
        state.tell(state.stage());
        let dead = |owner| !roll::is_alive(owner);
        if state.guard.owner().is_some_and(dead) {
            // Taking the guard repairs what the dead began; if another one has it by now, that one does.
            let _ = self.guard(Deadline::Now);
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
        // DEATH: in this order, another one finds the dead participant still.
        state.break_round(round);
        let now = state.waiters.word(seat);
        if now.owner() == word.owner() {
            state.waiters.clear(seat, now);
        }
    }
}

impl State {
    fn stage(&self) -> u32 {
        self.stage.load(Ordering::SeqCst)
    }

    fn phase(&self) -> u32 {
        self.stage() & PHASE
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.stage
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Enter a phase of the same round. Under the guard.
    fn enter(&self, phase: u32) {
        let _ = self.stage.fetch_update(Ordering::SeqCst, Ordering::Relaxed, |stage| {
            Some(stage & !PHASE | phase)
        });
    }

    /// Break a round if it still fills; otherwise it has ended, or is about to. Needs no guard.
    fn break_round(&self, round: u32) {
        let filling = round.wrapping_mul(ROUND) | FILLING;
        self.change(filling, filling | BROKEN);
        self.tell(self.stage());
    }

    fn break_up(&self) {
        self.enter(BROKEN);
        self.tell(self.stage());
    }

    /// Tell those who wait in the round of this stage that it has ended, if it has. Needs no guard, and can be repeated at any time: those of later rounds are not
    /// told.
    fn tell(&self, stage: u32) {
        let broken = match stage & PHASE {
            FILLING | ACTING => return,
            RELEASING => false,
            _ => true,
        };
        // SYNC: as in `arrive`.
        fence(Ordering::SeqCst);
        for (seat, word) in self.waiters.words() {
            if word.owner().is_some_and(roll::is_known_dead) {
                self.waiters.clear(&seat, word);
            } else if word.ticket() == stage / ROUND {
                self.waiters.decide(&seat, word, broken);
            }
        }
    }

    /// Carry out the intent that the stage tells of. Under the guard.
    fn repair(&self) {
        let stage = self.stage();
        match stage & PHASE {
            FILLING => {}
            RELEASING | RESETTING => {
                self.tell(stage);
                // The next round fills.
                self.change(stage, (stage & !PHASE).wrapping_add(ROUND) | FILLING);
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
        let look_around = || self.barrier.look_around(&seat, self.round);
        let end = state.waiters.wait(&seat, &state.spin, purpose, deadline, look_around);
        match end {
            Ok(()) => {}
            Err(WaitError::TimedOut) => {
                state.break_round(self.round);
                if !state.waiters.word(&seat).is_decided() {
                    // All are there, and the last one is in its action: it decides.
                    drop(self.barrier.guard(Deadline::Never)?);
                }
            }
            Err(end) => return Err(end.into()),
        }
        self.seat = None;
        match state.waiters.leave(&seat) {
            Leave::Decided { broken: false } => Ok(()),
            Leave::Decided { broken: true } | Leave::Undecided => Err(BarrierError::Broken),
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
