//! The permits of a semaphore: a counter that waits at zero. Leaves to `permit_log` which process holds them.

use super::primitive::{wake_low, AtomicU32, AtomicU64, Ordering};
use super::spin::Spin;
use super::wait::{Check, Purpose, Sleeper};
use crate::arena::{self, Object};
use crate::ids::{Handle, Kind};
use crate::{Deadline, Result, WaitError};

/// There may be sleepers on the word.
const WAITERS: u64 = 1 << 31;
const VALUE: u64 = WAITERS - 1;
/// The greatest value of a semaphore.
pub const SEM_VALUE_MAX: u32 = i32::MAX as u32;

/// A semaphore's state in the arena. Upper half of the word: the permit log's note. Lower half: the waiters bit and the
/// value (31 bits); waiters sleep on this half.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Permits {
    pub(super) word: AtomicU64,
    /// The value it never exceeds. Written once, before any other process sees the handle.
    pub(super) bound: AtomicU32,
    pub(super) spin: Spin,
    /// Which processes hold permits, if the permits of dead processes are to be given back.
    pub(super) permit_log: PermitLog,
}

// SAFETY: atomics only; zero is an empty semaphore; every word is a value; the permit log's handle is checked when it
// is used.
unsafe impl Object for Permits {
    const KIND: Kind = Kind::Semaphore;
    const NAME: &'static str = "Semaphore";

    fn destroy(&self) {
        // Fails without a family, and without memory for this process's entry: then the chunk stays.
        let _ = self.permit_log.end();
    }
}

impl Permits {
    /// Take a permit, without a permit log.
    #[inline]
    pub(super) fn try_take(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & VALUE != 0 {
            match self
                .word
                .compare_exchange_weak(word, word - 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Wait until `take` takes a permit; `check_deaths` is called after each slice.
    #[cold]
    pub(super) fn take_slowly(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        take: impl Fn() -> Result<bool>,
        check_deaths: impl Fn(),
    ) -> Result<(), WaitError> {
        if deadline.is_over() {
            return Err(WaitError::TimedOut);
        }
        let attempt = || match take() {
            Ok(false) => None,
            end => Some(end.map(drop)),
        };
        if let Some(end) = self.spin.run(attempt) {
            return Ok(end?);
        }
        // A waiter that leaves has nothing to pass on. A wake that it consumed was for a permit that another has taken,
        // and the process that gives that permit back finds the bit still set.
        Sleeper::new(&self.word, purpose, deadline).run(|whole| {
            if whole {
                check_deaths();
            }
            if take()? {
                return Ok(Check::Over(()));
            }
            // SYNC: value zero and the bit are one word: a release either sees the bit or keeps us from falling asleep.
            let word = self.word.load(Ordering::Relaxed);
            if word & VALUE != 0 || word & WAITERS == 0 && !self.swap(word, word | WAITERS) {
                return Ok(Check::Again);
            }
            Ok(Check::Sleep(WAITERS as u32))
        })
    }

    /// Give a permit back, without a permit log.
    #[inline]
    pub(super) fn give(&self) -> bool {
        let bound = u64::from(self.bound().min(SEM_VALUE_MAX));
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & VALUE >= bound {
                return false;
            }
            match self
                .word
                .compare_exchange_weak(word, word + 1, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        self.wake_after_release(word + 1);
        true
    }

    /// The word, for the permit log.
    pub(super) fn load(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    /// Change the word; false if it is no longer `from`.
    pub(super) fn swap(&self, from: u64, to: u64) -> bool {
        self.word
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// The value in a word.
    pub(super) fn value_of(word: u64) -> u32 {
        (word & VALUE) as u32
    }

    pub(super) fn value(&self) -> u32 {
        Self::value_of(self.word.load(Ordering::Relaxed))
    }

    pub(super) fn bound(&self) -> u32 {
        self.bound.load(Ordering::Relaxed)
    }

    /// Wake a sleeper if `word`, the value that the release left, says that there may be one.
    #[inline]
    pub(super) fn wake_after_release(&self, word: u64) {
        if word & WAITERS != 0 {
            self.wake_one(word);
        }
    }

    /// Wake all sleepers to check the value.
    pub(super) fn wake_all(&self) {
        wake_low(&self.word, u32::MAX);
    }

    #[cold]
    fn wake_one(&self, word: u64) {
        if wake_low(&self.word, 1) != 0 {
            return;
        }
        // No waiter was asleep: save the next release the system call.
        let cleared = self
            .word
            .compare_exchange(word, word & !WAITERS, Ordering::Relaxed, Ordering::Relaxed);
        if cleared.is_ok() {
            // SYNC: the value may have been zero in between, and others may have gone to sleep: they are woken to
            // announce themselves again.
            self.wake_all();
        }
    }
}

/// The accounts of a semaphore. Zero-filled: no accounts are kept.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct PermitLog {
    /// Handle of the first chunk of slots; an account takes two of them. Written once, before any other process sees
    /// the semaphore.
    holders: AtomicU64,
}

impl PermitLog {
    pub(super) fn begin(&self, holders: Handle) -> Result<()> {
        arena::link(&self.holders, holders)?;
        Ok(())
    }

    pub(super) fn holders(&self) -> Option<Handle> {
        Handle::from_bits(self.holders.load(Ordering::Acquire))
    }

    /// Drop the accounts, when the semaphore is destroyed.
    pub(super) fn end(&self) -> Result<()> {
        arena::unlink(&self.holders)
    }
}
