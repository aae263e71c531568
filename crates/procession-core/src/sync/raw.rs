//! A lock word that knows its owner: the base of `Lock`, `RLock` and the barrier's guard.

use super::primitive::{sleep, wake, AtomicU32, AtomicU64, Ordering, Woken};
use super::spin::Spin;
use super::wait::Purpose;
use crate::roll::{self, Owner};
use crate::{Deadline, WaitError};

/// Somebody may be asleep on the word.
const WAITERS: u32 = 1 << 31;

/// State of a lock. Zero-filled is free.
///
/// Word: 0, or the holder's [`Owner`] (31 bits) and the waiters bit.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct RawLock {
    word: AtomicU32,
    spin: Spin,
    /// The holder's thread, as its process knows it. Written by the holder after it took the word and before it gives it back, so a thread that finds its own number here,
    /// and its process in the word, wrote it itself.
    thread: AtomicU64,
}

/// This thread among those of its process; the same before and after a fork. It costs a third of what the kernel's number kept in a thread-local does.
#[inline]
fn this_thread() -> u64 {
    // SAFETY: it has no preconditions and cannot fail.
    unsafe { libc::pthread_self() as u64 }
}

impl RawLock {
    /// Take the lock if it is free.
    #[inline]
    pub(super) fn try_acquire(&self, me: Owner) -> bool {
        let taken = self
            .word
            .compare_exchange(0, me.to_bits(), Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if taken {
            self.thread.store(this_thread(), Ordering::Relaxed);
        }
        taken
    }

    /// Take the lock. [`WaitError::OwnerDied`]: the holder died; the lock is free now, and not ours.
    #[inline]
    pub(super) fn acquire(&self, me: Owner, purpose: Purpose, deadline: Deadline) -> Result<(), WaitError> {
        if self.try_acquire(me) {
            return Ok(());
        }
        self.acquire_slowly(me, purpose, deadline)
    }

    #[cold]
    fn acquire_slowly(&self, me: Owner, purpose: Purpose, deadline: Deadline) -> Result<(), WaitError> {
        if deadline.is_over() {
            let holder = self.owner();
            return Err(match holder.filter(|&owner| roll::looks_dead_lately(owner)) {
                Some(dead) if self.bury(dead) => WaitError::OwnerDied(dead),
                _ => WaitError::TimedOut,
            });
        }
        let spun = self.spin.run(|| {
            let free = self.word.load(Ordering::Relaxed) == 0;
            (free && self.try_acquire(me)).then_some(())
        });
        if spun.is_some() {
            return Ok(());
        }
        let end = self.sleep_for(me, purpose, deadline);
        if end.is_err() {
            self.pass_on();
        }
        end
    }

    fn sleep_for(&self, me: Owner, purpose: Purpose, deadline: Deadline) -> Result<(), WaitError> {
        let _announced = roll::announce(&self.word, purpose.kind, purpose.object);
        let mut ask = false;
        loop {
            let word = self.word.load(Ordering::Relaxed);
            let Some(owner) = Owner::from_bits(word) else {
                // SYNC: others may sleep here still; the bit that the last release took away is ours to put back.
                if self.swap_word(word, me.to_bits() | WAITERS) {
                    self.thread.store(this_thread(), Ordering::Relaxed);
                    return Ok(());
                }
                continue;
            };
            if roll::is_known_dead(owner) || std::mem::take(&mut ask) && !roll::is_alive(owner) {
                if self.bury(owner) {
                    return Err(WaitError::OwnerDied(owner));
                }
                continue;
            }
            if deadline.is_over() {
                return Err(WaitError::TimedOut);
            }
            if word & WAITERS == 0 && !self.swap_word(word, word | WAITERS) {
                continue;
            }
            match sleep(&self.word, word | WAITERS, deadline.slice(purpose.watching().slice)) {
                Woken::Wake | Woken::Changed => {}
                Woken::TimedOut => ask = true,
                Woken::Interrupted => {
                    if self.word.load(Ordering::Relaxed) != 0 {
                        return Err(WaitError::Interrupted);
                    }
                }
            }
        }
    }

    fn swap_word(&self, from: u32, to: u32) -> bool {
        self.word
            .compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Free the lock of its dead holder. Exactly one caller succeeds, and reports the death; the others try again.
    fn bury(&self, dead: Owner) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        let freed = Owner::from_bits(word) == Some(dead) && self.swap_word(word, 0);
        if freed {
            // DEATH: killed here, a sleeper learns of the free lock by its next slice.
            wake(&self.word, 1);
        }
        freed
    }

    /// A waiter leaves without the lock: the wake it may have eaten, or the bit it may have taken away, belongs to whoever still sleeps.
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
            wake(&self.word, 1);
        }
    }

    /// Give the lock back, whoever holds it. False: it was free.
    #[inline]
    pub(super) fn release(&self) -> bool {
        if self.owner().is_none() {
            return false;
        }
        self.thread.store(0, Ordering::Relaxed);
        let word = self.word.swap(0, Ordering::Release);
        if word & WAITERS != 0 {
            wake(&self.word, 1);
        }
        Owner::from_bits(word).is_some()
    }

    /// Who holds it.
    #[inline]
    pub(super) fn owner(&self) -> Option<Owner> {
        Owner::from_bits(self.word.load(Ordering::Relaxed))
    }

    /// Whether the calling thread holds it.
    #[inline]
    pub(super) fn is_mine(&self, me: Owner) -> bool {
        self.owner() == Some(me) && self.thread.load(Ordering::Relaxed) == this_thread()
    }
}
