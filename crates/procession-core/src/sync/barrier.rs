//! `Barrier`: a number of parties wait until all have arrived.
//!
//! The word `stage` ends a round: it says whether the round is released, reset or broken. From then on any process can
//! tell the round's waiters. Arrivals, releases and resets are made under a guard, which the next process takes from a
//! holder that died. Two things need no guard: breaking a round that fills, as a timeout and a death do, and telling
//! the waiters of a round that has ended. So a process that is stopped with the guard does not hold up the waiters.

use super::claim::Claim;
use super::death::Holder;
use super::primitive::{fence, AtomicU32, Ordering};
use super::raw::RawLock;
use super::spin::Spin;
use super::wait::Purpose;
use super::waiters::{Chunk, Leave, WaiterSlot};
use crate::arena::{Label, Object, Ref};
use crate::ids::{Kind, Owner};
use crate::liveness;
use crate::{Deadline, Result, WaitError};

/// A barrier's state in the arena.
#[repr(C)]
pub(crate) struct BarrierState {
    guard: RawLock,
    /// Written once, before any other process sees the handle.
    pub(super) parties: AtomicU32,
    /// `round 29 | phase 3`: one of the phases below, and how many rounds were released or reset.
    pub(super) stage: AtomicU32,
    spin: Spin,
    pub(super) waiters: Chunk,
}

/// Parties arrive.
const FILLING: u32 = 0;
/// The last party has arrived and runs its action, under the guard. DEATH: breaks the barrier.
const ACTING: u32 = 1;
/// All have arrived, and the waiters are being released. DEATH: the next holder of the guard, or each waiter by itself,
/// releases the rest.
const RELEASING: u32 = 2;
/// Being reset: the waiters are being turned away. DEATH: as above.
const RESETTING: u32 = 3;
/// Broken until it is reset.
pub(super) const BROKEN: u32 = 4;

pub(super) const PHASE: u32 = 7;
const ROUND: u32 = 8;

// SAFETY: atomics only; zero is a barrier with no parties; an invalid phase counts as broken; the chunk is an object by
// itself.
unsafe impl Object for BarrierState {
    const KIND: Kind = Kind::Barrier;
    const NAME: &'static str = "Barrier";

    fn destroy(&self) {
        self.waiters.destroy();
    }
}

/// Why a wait at a barrier ended badly.
#[derive(Debug, thiserror::Error)]
pub enum BarrierError {
    /// It is broken, or was broken or reset during the wait: by a timeout, an abort, a reset, or the death of a party.
    #[error("the barrier is broken")]
    Broken,
    /// It is broken, because a living process was changing it, or running its action, for as long as this wait could
    /// last.
    #[error("the barrier is broken: {0} was changing it, or running its action, for too long")]
    Kept(String),
    /// The wait itself failed.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// A barrier that processes share.
#[derive(Clone, Debug)]
pub struct Barrier {
    state: Ref<BarrierState>,
}

/// The result of an arrival.
pub enum Arrival {
    /// Others are missing: wait.
    Waits(Participant),
    /// All have arrived: run the action, then release the others.
    Last(Last),
}

/// A party that waits at a barrier. If it is dropped before the end of its wait, its arrival is taken back.
pub struct Participant {
    barrier: Barrier,
    me: Owner,
    index: usize,
    /// The round that it waits for.
    round: u32,
    slot: Option<WaiterSlot>,
}

/// The last party to arrive; until it is done, no other process can change the barrier. Dropped without a
/// [`release`](Last::release), it breaks the barrier.
pub struct Last {
    barrier: Barrier,
    me: Owner,
    index: usize,
    released: bool,
}

/// The guard, held.
struct Guard<'a>(&'a BarrierState);

super::shared!(Barrier);

impl Barrier {
    /// Create a barrier for this number of parties.
    pub fn create(parties: u32) -> Result<Self> {
        Self::labelled(parties, Label::default())
    }

    /// Create a barrier for this number of parties, with a label.
    pub fn labelled(parties: u32, label: Label<'_>) -> Result<Self> {
        let state: Ref<BarrierState> = Ref::labelled(label)?;
        state.parties.store(parties, Ordering::Release);
        Ok(Self { state })
    }

    /// Arrive. Waits only while another process changes the barrier or runs its action. The deadline bounds that wait
    /// as well; when it passes, a round that fills is broken. A call from the barrier's own action fails, because that round is full.
    pub fn arrive(&self, deadline: Deadline) -> Result<Arrival, BarrierError> {
        let me = liveness::me().map_err(WaitError::from)?;
        let guard = match self.guard(deadline) {
            Err(WaitError::TimedOut) => {
                let holder = self.state.guard.owner();
                let stage = self.state.stage();
                self.state.break_round(stage / ROUND);
                return Err(holder
                    .filter(|&holder| !liveness::is_known_dead(holder))
                    .map_or(BarrierError::Broken, |holder| {
                        BarrierError::Kept(liveness::label(holder))
                    }));
            }
            guard => guard?,
        };
        let Some(guard) = guard else {
            return Err(BarrierError::Broken);
        };
        let stage = guard.0.stage();
        let acting = stage & !PHASE | ACTING;
        let index = guard.0.waiters.waiting().map_err(WaitError::from)?;
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
        let slot = guard.0.waiters.take_slot(round, me).map_err(WaitError::from)?;
        // SYNC: a process that breaks the round changes the stage before it looks at the slots: either it saw ours, or
        // we see the stage.
        fence(Ordering::SeqCst);
        guard.0.tell(guard.0.stage());
        drop(guard);
        Ok(Arrival::Waits(Participant {
            barrier: self.clone(),
            me,
            index,
            round,
            slot: Some(slot),
        }))
    }

    /// Break it: present and later waiters get [`BarrierError::Broken`], until it is reset. From its own action this
    /// changes nothing: the end of the action decides.
    pub fn abort(&self) -> Result<(), WaitError> {
        // A round that fills, or has broken, needs no guard.
        let stage = self.state.stage();
        self.state.break_round(stage / ROUND);
        if self.state.stage() & PHASE != BROKEN {
            if let Some(guard) = self.guard(Deadline::Never)? {
                guard.0.break_up();
            }
        }
        Ok(())
    }

    /// Reset it to its initial state; present waiters get [`BarrierError::Broken`]. From its own action this changes
    /// nothing.
    pub fn reset(&self) -> Result<(), WaitError> {
        if let Some(guard) = self.guard(Deadline::Never)? {
            guard.0.enter(RESETTING);
            guard.0.repair();
        }
        Ok(())
    }

    /// The number of parties.
    pub fn parties(&self) -> u32 {
        self.state.parties.load(Ordering::Relaxed)
    }

    /// The number of parties that wait now. Fails if this process has no address space to see all of them.
    pub fn waiting(&self) -> Result<usize> {
        match self.state.phase() {
            FILLING | ACTING => self.state.waiters.waiting(),
            // The waiters are being released one by one: the first of them must not see the others.
            _ => Ok(0),
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

    /// Take the guard, and finish what a dead holder had begun. `None` if this thread has it already, because it runs
    /// the action: it would wait for itself.
    fn guard(&self, deadline: Deadline) -> Result<Option<Guard<'_>>, WaitError> {
        let me = Claim::mine()?;
        if self.state.guard.is_mine(me) {
            return Ok(None);
        }
        let purpose = Purpose::of(Kind::Barrier, Some(self.handle()));
        self.state.guard.acquire(me, Holder::Process, purpose, deadline)?;
        self.state.repair();
        Ok(Some(Guard(&self.state)))
    }

    /// Check that the participant in the next slot and the holder of the guard are alive. The slots in use form a ring:
    /// each dead participant follows a living one, or a dead one, and that death breaks the barrier as well.
    /// The order of arrival would not do: a participant that leaves frees its slot for a later one.
    fn check_deaths(&self, mine: &WaiterSlot, round: u32) {
        let state = &*self.state;
        // The process that began to end the round may be stopped or dead.
        state.tell(state.stage());
        let dead = |owner| !liveness::is_alive(owner);
        if state.guard.owner().is_some_and(dead) {
            // Taking the guard repairs what the dead process began. If another process has it by now, that process
            // repairs.
            let _ = self.guard(Deadline::Now);
        }
        // A participant out of reach is another's successor once this process has address space again.
        let waiting: Vec<_> = state
            .waiters
            .words_in_reach()
            .into_iter()
            .filter(|(_, word)| word.is_waiting())
            .collect();
        // Decided meanwhile, or cleared as a dead participant's slot: the wait is over.
        let Some(position) = waiting.iter().position(|(slot, _)| slot == mine) else {
            return;
        };
        let (slot, word) = &waiting[(position + 1) % waiting.len()];
        if word.owner().is_some_and(liveness::is_alive) {
            return;
        }
        // DEATH: break first, clear second: if we die in between, another process still finds the dead participant.
        state.break_round(round);
        let now = state.waiters.word(slot);
        if now.owner() == word.owner() {
            state.waiters.clear(slot, now);
        }
    }
}

impl BarrierState {
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

    /// If the round of this stage has ended, tell its waiters. Needs no guard, and can be repeated at any time: waiters
    /// of later rounds are not told.
    fn tell(&self, stage: u32) {
        let broken = match stage & PHASE {
            FILLING | ACTING => return,
            RELEASING => false,
            _ => true,
        };
        // SYNC: as in `arrive`.
        fence(Ordering::SeqCst);
        // A waiter that is out of this process's reach tells itself after its slice.
        for (slot, word) in self.waiters.words_in_reach() {
            if word.owner().is_some_and(liveness::is_known_dead) {
                self.waiters.clear(&slot, word);
            } else if word.ticket() == stage / ROUND {
                self.waiters.decide(&slot, word, broken);
            }
        }
    }

    /// Carry out the intent that the stage records. Under the guard.
    fn repair(&self) {
        let stage = self.stage();
        match stage & PHASE {
            FILLING => {}
            RELEASING | RESETTING => {
                self.tell(stage);
                // The next round fills.
                self.change(stage, (stage & !PHASE).wrapping_add(ROUND) | FILLING);
            }
            // A stage of ACTING found here was left by a dead holder.
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
        let Some(slot) = self.slot else {
            return Err(BarrierError::Broken);
        };
        let state = &*self.barrier.state;
        let purpose = Purpose::of(Kind::Barrier, Some(self.barrier.handle())).checking_deaths();
        let check_deaths = || self.barrier.check_deaths(&slot, self.round);
        let end = state.waiters.wait(&slot, &state.spin, purpose, deadline, check_deaths);
        match end {
            Ok(()) => {}
            Err(WaitError::TimedOut) => {
                state.break_round(self.round);
                if !state.waiters.word(&slot).is_decided() {
                    // All have arrived, and the last party runs its action: the end of that action decides.
                    drop(self.barrier.guard(Deadline::Never)?);
                }
            }
            Err(end) => return Err(end.into()),
        }
        self.slot = None;
        match state.waiters.leave(&slot) {
            Leave::Decided { broken: false } => Ok(()),
            Leave::Decided { broken: true } | Leave::Undecided => Err(BarrierError::Broken),
        }
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        // A child forked in the middle of a wait leaves its parent's slot alone.
        if liveness::me().is_ok_and(|me| me == self.me) {
            self.barrier.state.waiters.leave(&slot);
        }
    }
}

impl Last {
    /// The order of arrival, from 0: the number of parties less one.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Release the others.
    pub fn release(mut self) {
        self.released = true;
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        if liveness::me().is_ok_and(|me| me == self.me) {
            let guard = Guard(&self.barrier.state);
            guard.0.enter(if self.released { RELEASING } else { BROKEN });
            guard.0.repair();
        }
    }
}
