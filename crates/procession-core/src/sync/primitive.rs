//! Atomics and the futex, in one place so that a model checker can replace them.

pub(crate) use crate::sys::atomic::{fence, AtomicU32, AtomicU64, Ordering};
use crate::sys::futex::lower_half;
pub(crate) use crate::sys::futex::{wait as sleep, wake, Woken};
pub(crate) use std::hint::spin_loop;

/// As [`sleep`], on the lower half of a word.
pub(crate) fn sleep_low(word: &AtomicU64, expected: u64, timeout: std::time::Duration) -> Woken {
    sleep(lower_half(word), expected as u32, timeout)
}

/// Wake up to `n` sleepers on the lower half of a word.
pub(crate) fn wake_low(word: &AtomicU64, n: u32) -> u32 {
    wake(lower_half(word), n)
}
