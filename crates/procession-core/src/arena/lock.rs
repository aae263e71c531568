//! The engine's own lock: a word that names its holder, so that a holder's death is noticed and repaired by the next.
//!
//! For structures whose truth lies elsewhere (owner words, the unit table): whoever gets [`Acquired::Recovered`] derives them anew.

use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, SeqCst},
};
use std::time::Duration;

use crate::roll::{self, Owner};
use crate::sys::futex::{self, Woken};

/// How often a holder's state is looked at before the first kernel wait.
const SPINS: u32 = 200;
/// After a kernel wait of this length the holder's liveness is checked.
const SLICE: Duration = Duration::from_millis(20);

/// A lock over structures in the arena that the next holder can repair. Zero-filled is unlocked. Not reentrant.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(crate) struct EngineLock {
    /// The holder's `Owner`, or 0.
    holder: AtomicU32,
    /// How many may be asleep; the dead among them only cost a needless wake.
    waiters: AtomicU32,
}

/// How a lock was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// From somebody who gave it back.
    Clean,
    /// From somebody who died while holding it: repair first.
    Recovered,
}

/// Unlocks when dropped.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    lock: &'a EngineLock,
    how: Acquired,
}

impl Guard<'_> {
    /// Whether the structures must be repaired.
    pub(crate) fn how(&self) -> Acquired {
        self.how
    }
}

impl EngineLock {
    /// Wait for the lock. The holder keeps it for microseconds, or is dead.
    pub(crate) fn lock(&self, me: Owner) -> Guard<'_> {
        let guard = |how| Guard { lock: self, how };
        if self.try_replace(0, me) {
            return guard(Acquired::Clean);
        }
        loop {
            for _ in 0..SPINS {
                if self.holder.load(Relaxed) == 0 && self.try_replace(0, me) {
                    return guard(Acquired::Clean);
                }
                std::hint::spin_loop();
            }
            let holder = self.holder.load(Relaxed);
            let timed_out = holder != 0 && self.sleep(holder);
            if timed_out && self.holder.load(Relaxed) == holder {
                let dead = Owner::from_bits(holder).is_none_or(|holder| !roll::is_alive(holder));
                if dead && self.try_replace(holder, me) {
                    return guard(Acquired::Recovered);
                }
            }
        }
    }

    fn try_replace(&self, from: u32, me: Owner) -> bool {
        self.holder
            .compare_exchange(from, me.to_bits(), Acquire, Relaxed)
            .is_ok()
    }

    /// Sleep until the lock is given back; true when the slice passed instead.
    fn sleep(&self, holder: u32) -> bool {
        // SYNC: announced before the kernel compares the word; an unlocker stores 0 before it looks for waiters.
        self.waiters.fetch_add(1, SeqCst);
        let woken = futex::wait(&self.holder, holder, SLICE);
        // DEATH: while asleep leaves the count too high: every unlock then makes a needless system call, until a slice ends.
        self.waiters.fetch_sub(1, SeqCst);
        woken == Woken::TimedOut
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.lock.holder.store(0, SeqCst);
        if self.lock.waiters.load(SeqCst) != 0 {
            // A lost wake costs the sleeper its slice, nothing more.
            futex::wake(&self.lock.holder, 1);
        }
    }
}
