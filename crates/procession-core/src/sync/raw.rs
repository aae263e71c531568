//! A lock word that records its owner: the base of `Lock`, `RLock` and the barrier's guard.

use super::claim::Claim;
use super::death::Holder;
use super::primitive::{wake_low, AtomicU64, Ordering};
use super::spin::Spin;
use super::wait::{Check, Purpose, Sleeper};
use crate::ids::Owner;
use crate::liveness;
use crate::{Deadline, WaitError};

/// There may be sleepers on the word.
pub(super) const WAITERS: u64 = 1 << 31;

/// State of a lock. Zero-filled is free.
///
/// Word: 0, or the holder's [`Claim`] and, between its parts, the waiters bit. Waiters sleep on the lower half.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct RawLock {
    pub(super) word: AtomicU64,
    spin: Spin,
}

impl RawLock {
    /// Take the lock if it is free.
    #[inline]
    pub(super) fn try_acquire(&self, me: Claim) -> bool {
        self.swap_word(0, me.to_bits())
    }

    /// Take the lock, from a dead holder if need be: then returns `Some` with that holder. Exactly one new holder
    /// learns of a death. If it dies before it can report it, the next one learns of *its* death.
    #[inline]
    pub(super) fn acquire(
        &self,
        me: Claim,
        holder: Holder,
        purpose: Purpose,
        deadline: Deadline,
    ) -> Result<Option<Claim>, WaitError> {
        if self.try_acquire(me) {
            return Ok(None);
        }
        self.acquire_slowly(me, holder, purpose, deadline)
    }

    #[cold]
    fn acquire_slowly(
        &self,
        me: Claim,
        holder: Holder,
        purpose: Purpose,
        deadline: Deadline,
    ) -> Result<Option<Claim>, WaitError> {
        if deadline.is_over() {
            let word = self.word.load(Ordering::Relaxed);
            return match Claim::from_bits(word).filter(|&claim| holder.is_probably_dead(claim)) {
                Some(dead) if self.inherit(word, me) => Ok(Some(dead)),
                _ => Err(WaitError::TimedOut),
            };
        }
        let spun = self.spin.run(|| {
            let free = self.word.load(Ordering::Relaxed) == 0;
            (free && self.try_acquire(me)).then_some(())
        });
        if spun.is_some() {
            return Ok(None);
        }
        let end = self.sleep_for(me, holder, purpose, deadline);
        if end.is_err() {
            self.pass_on();
        }
        end
    }

    fn sleep_for(
        &self,
        me: Claim,
        holder: Holder,
        purpose: Purpose,
        deadline: Deadline,
    ) -> Result<Option<Claim>, WaitError> {
        Sleeper::new(&self.word, purpose.checking_deaths(), deadline).run(|whole| {
            let word = self.word.load(Ordering::Relaxed);
            let Some(claim) = Claim::from_bits(word) else {
                // SYNC: others may still sleep here; the last release took the bit away, and we set it again.
                let taken = self.swap_word(word, me.to_bits() | WAITERS);
                return Ok(if taken { Check::Over(None) } else { Check::Again });
            };
            if liveness::is_known_dead(claim.owner()) || whole && holder.is_dead(claim) {
                let inherited = self.inherit(word, me);
                return Ok(if inherited {
                    Check::Over(Some(claim))
                } else {
                    Check::Again
                });
            }
            if word & WAITERS == 0 && !self.swap_word(word, word | WAITERS) {
                return Ok(Check::Again);
            }
            Ok(Check::Sleep((word | WAITERS) as u32))
        })
    }

    /// Wait until the lock is free or its holder dead, or until `over` is true. Takes nothing.
    pub(super) fn wait_until_free(
        &self,
        holder: Holder,
        purpose: Purpose,
        deadline: Deadline,
        over: impl Fn() -> bool,
    ) -> Result<(), WaitError> {
        let end = Sleeper::new(&self.word, purpose.checking_deaths(), deadline).run(|whole| {
            let word = self.word.load(Ordering::Relaxed);
            let Some(claim) = Claim::from_bits(word).filter(|_| !over()) else {
                return Ok(Check::Over(()));
            };
            if liveness::is_known_dead(claim.owner()) || whole && holder.is_dead(claim) {
                return Ok(Check::Over(()));
            }
            if word & WAITERS == 0 && !self.swap_word(word, word | WAITERS) {
                return Ok(Check::Again);
            }
            Ok(Check::Sleep((word | WAITERS) as u32))
        });
        // The wake that ended the sleep may have been meant for a waiter that takes the lock.
        self.pass_on();
        end
    }

    fn swap_word(&self, from: u64, to: u64) -> bool {
        self.word
            // SYNC: Release as well, for those that look for deadlocks: see `Announced::awake`.
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Take the lock from the dead holder that `word` names: one caller succeeds. Sets the waiters bit, because others
    /// may sleep.
    fn inherit(&self, word: u64, me: Claim) -> bool {
        self.swap_word(word, me.to_bits() | WAITERS)
    }

    /// Clean up after a waiter that leaves without the lock: a wake that it consumed, or a bit that it took away,
    /// belongs to the waiters that still sleep.
    fn pass_on(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        while word != 0 && word & WAITERS == 0 {
            match self
                .word
                .compare_exchange(word, word | WAITERS, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
        if word == 0 {
            wake_low(&self.word, 1);
        }
    }

    /// Give the lock back, whichever thread holds it. False: it was free.
    #[inline]
    pub(super) fn release(&self) -> bool {
        if self.claim().is_none() {
            return false;
        }
        let word = self.word.swap(0, Ordering::Release);
        if word & WAITERS != 0 {
            // DEATH: if we are killed before this wake, a sleeper finds the lock free in its next slice.
            wake_low(&self.word, 1);
        }
        Claim::from_bits(word).is_some()
    }

    /// The holder's claim.
    #[inline]
    fn claim(&self) -> Option<Claim> {
        Claim::from_bits(self.word.load(Ordering::Relaxed))
    }

    /// The process that holds it.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.claim().map(Claim::owner)
    }

    /// Whether its holder took it for a scope, at whose end it releases it.
    pub(super) fn is_scoped(&self) -> bool {
        Claim::is_scoped(self.word.load(Ordering::Relaxed))
    }

    /// Whether the calling thread holds it.
    #[inline]
    pub(super) fn is_mine(&self, me: Claim) -> bool {
        self.claim() == Some(me)
    }
}
