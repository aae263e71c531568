//! Sleeping on a word of shared memory until another process wakes the sleeper.

use rustix::io::Errno;
use rustix::thread::futex::{self, Timespec};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Another thread or process woke us.
    Wake,
    /// The word did not hold the expected value, so there was no sleep.
    Changed,
    /// The time is up.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Sleep while `word` holds `expected`, no longer than `timeout`.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Duration) -> Woken {
    let time = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // Not PRIVATE: the word lies in memory that several processes map at different addresses.
    match futex::wait(word, futex::Flags::empty(), expected, Some(&time)) {
        Ok(()) => Woken::Wake,
        Err(Errno::TIMEDOUT) => Woken::TimedOut,
        Err(Errno::INTR) => Woken::Interrupted,
        Err(_) => Woken::Changed,
    }
}

/// Wake up to `n` sleepers. Returns how many there were.
pub(crate) fn wake(word: &AtomicU32, n: u32) -> u32 {
    wake_at(word.as_ptr() as usize, n)
}

/// The lower half of a word, to sleep on.
pub(crate) fn lower_half(word: &AtomicU64) -> &AtomicU32 {
    let half = usize::from(cfg!(target_endian = "big"));
    // SAFETY: it lies within `word`, lives as long, and is aligned; only the kernel reads through it.
    unsafe { AtomicU32::from_ptr(word.as_ptr().cast::<u32>().add(half)) }
}

/// Wake up to `n` sleepers at an address. It need not be mapped: then there are none. So this is no call of rustix,
/// which takes a reference.
pub(crate) fn wake_at(address: usize, n: u32) -> u32 {
    let n = n.min(i32::MAX as u32);
    // SAFETY: FUTEX_WAKE only uses the address as a key; an address that is not mapped is an error, not an access.
    let woken = unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, n) };
    u32::try_from(woken).unwrap_or(0)
}
