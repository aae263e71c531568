//! Since when a slab is idle, and whether it is used again and again. Leaves to `warm` what follows from it.

use crate::sys::memory;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Memory that is used again within `QUICK` milliseconds is in constant reuse: it is kept warm for `WARM` milliseconds,
/// and so is other memory of its class, which is expected to follow.
const QUICK: u64 = 700;
pub(super) const WARM: u64 = 1000;

/// When a slab became idle (milliseconds, 48 bits), and how often in a row it was used again soon after (16 bits).
#[derive(Debug, Default)]
#[repr(transparent)]
pub(super) struct Idle(AtomicU64);

impl Idle {
    const TIME: u64 = (1 << 48) - 1;

    fn get(&self) -> (u64, u64) {
        let bits = self.0.load(Relaxed);
        (bits & Self::TIME, bits >> 48)
    }

    fn set(&self, time: u64, reuses: u64) {
        self.0.store(time & Self::TIME | reuses.min(0xffff) << 48, Relaxed);
    }

    pub(super) fn begin(&self) {
        self.set(memory::milliseconds(), self.get().1);
    }

    /// Note that the slab is used again. Returns whether it was soon.
    pub(super) fn end(&self, now: u64) -> bool {
        let (since, reuses) = self.get();
        let soon = now.wrapping_sub(since) < QUICK;
        self.set(since, if soon { reuses + 1 } else { 0 });
        soon
    }

    /// For how many milliseconds it has been idle.
    pub(super) fn lasts(&self, now: u64) -> u64 {
        now.wrapping_sub(self.get().0)
    }

    pub(super) fn is_in_reuse(&self, now: u64) -> bool {
        self.get().1 > 0 && self.lasts(now) < WARM
    }
}
