//! Who holds a semaphore's permits, so that those of the dead come back.
//!
//! The truth is `total` less what the places say; each operation changes one of these words, under the guard. The semaphore's own value follows
//! from them, and is derived anew by who gets the guard from a dead holder.

use super::claim::Claim;
use super::death::Holder;
use super::primitive::{AtomicU32, AtomicU64, Ordering};
use super::raw::RawLock;
use super::semaphore::{State, SEM_VALUE_MAX};
use super::wait::Purpose;
use super::waiters::Chunk;
use crate::arena::{self, Handle, Kind};
use crate::roll::{self, Owner};
use crate::{Deadline, Result, WaitError};

/// The account of a semaphore. Zero-filled: none is kept.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Ledger {
    guard: RawLock,
    /// Handle of the first chunk of places, each `permits 32 | - | owner 31`. Written once, before anybody else sees the semaphore.
    holders: AtomicU64,
    /// The permits that there are, taken or not.
    total: AtomicU32,
}

fn place_of(owner: Owner, permits: u32) -> u64 {
    if permits == 0 {
        0
    } else {
        u64::from(permits) << 32 | u64::from(owner.to_bits())
    }
}

fn read(place: &AtomicU64) -> (Option<Owner>, u32) {
    let word = place.load(Ordering::Relaxed);
    (Owner::from_bits(word as u32), (word >> 32) as u32)
}

/// The guard, held.
struct Guard<'a>(&'a RawLock);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Ledger {
    pub(super) fn begin(&self, total: u32, holders: Handle) -> Result<()> {
        self.total.store(total, Ordering::Relaxed);
        arena::link(&self.holders, holders)?;
        Ok(())
    }

    pub(super) fn holders(&self) -> Option<Handle> {
        Handle::from_bits(self.holders.load(Ordering::Acquire))
    }

    /// At the semaphore's end.
    pub(super) fn end(&self) -> Result<()> {
        arena::unlink(&self.holders)
    }

    /// Take a permit and note it down.
    pub(super) fn take(&self, state: &State, holders: &Chunk) -> Result<bool> {
        if state.value() == 0 && !self.has_dead(holders) {
            return Ok(false);
        }
        let guard = self.lock(state, holders)?;
        if state.value() == 0 {
            self.bury_under(&guard, state, holders);
        }
        if state.value() == 0 {
            return Ok(false);
        }
        let me = Claim::mine()?.owner();
        // One process may come to have several places: only their sum matters.
        holders.find(|place| match read(place) {
            (Some(owner), permits) if owner == me => {
                place.store(place_of(me, permits.saturating_add(1)), Ordering::Relaxed);
                true
            }
            (None, _) => {
                place.store(place_of(me, 1), Ordering::Relaxed);
                true
            }
            _ => false,
        })?;
        // DEATH: before this the permit is taken, by a dead process; the next holder of the guard corrects the value.
        Ok(state.try_take())
    }

    /// Give a permit back, or a further one if this process holds none. False: the value is at its bound already.
    pub(super) fn give(&self, state: &State, holders: &Chunk) -> Result<bool> {
        let _guard = self.lock(state, holders)?;
        if state.value() >= state.bound() {
            return Ok(false);
        }
        let me = Claim::mine()?.owner();
        let mut mine = false;
        holders.each(|place| {
            if let (Some(owner), permits @ 1..) = read(place) {
                if owner == me && !mine {
                    mine = true;
                    place.store(place_of(me, permits - 1), Ordering::Relaxed);
                }
            }
        });
        if !mine {
            self.total.fetch_add(1, Ordering::Relaxed);
        }
        // DEATH: as when taking.
        Ok(state.give())
    }

    /// Take back what the dead held.
    pub(super) fn bury(&self, state: &State, holders: &Chunk) -> Result<()> {
        if self.involves(holders, |owner| !roll::is_alive(owner)) {
            let guard = self.lock(state, holders)?;
            self.bury_under(&guard, state, holders);
        }
        Ok(())
    }

    fn bury_under(&self, _: &Guard<'_>, state: &State, holders: &Chunk) {
        holders.each(|place| {
            if read(place).0.is_some_and(|owner| !roll::is_alive(owner)) {
                place.store(0, Ordering::Relaxed);
            }
        });
        self.derive(state, holders);
    }

    /// The semaphore's value, from the truth.
    fn derive(&self, state: &State, holders: &Chunk) {
        let mut taken = 0_u64;
        holders.each(|place| taken += u64::from(read(place).1));
        let left = u64::from(self.total.load(Ordering::Relaxed)).saturating_sub(taken);
        let most = state.bound().min(SEM_VALUE_MAX);
        state.reset(u32::try_from(left).unwrap_or(most).min(most));
    }

    fn lock(&self, state: &State, holders: &Chunk) -> Result<Guard<'_>> {
        let purpose = Purpose::of(Kind::Semaphore, None);
        loop {
            match self
                .guard
                .acquire(Claim::mine()?, Holder::Process, purpose, Deadline::Never)
            {
                Ok(dead) => {
                    let guard = Guard(&self.guard);
                    if dead.is_some() {
                        self.derive(state, holders);
                    }
                    return Ok(guard);
                }
                // It is held for some hundred instructions.
                Err(WaitError::Interrupted | WaitError::TimedOut | WaitError::OwnerDied(_)) => {}
                Err(WaitError::Other(error)) => return Err(error),
            }
        }
    }

    /// Whether such a process holds permits; or the guard, under which it may have taken others' back and not said so.
    fn involves(&self, holders: &Chunk, is: impl Fn(Owner) -> bool) -> bool {
        let mut found = self.guard.owner().is_some_and(&is);
        holders.each(|place| found = found || read(place).0.is_some_and(&is));
        found
    }

    /// Whether a dead process is involved: asks the kernel only now and then.
    fn has_dead(&self, holders: &Chunk) -> bool {
        let ask = roll::may_ask();
        self.involves(holders, |owner| {
            roll::is_known_dead(owner) || ask && !roll::is_alive(owner)
        })
    }
}
