//! The identity of a thread, as lock words store it.

use super::primitive::{AtomicU32, Ordering};
use crate::ids::Owner;
use crate::liveness;
use crate::Result;
use std::cell::Cell;

/// Bits of the kernel's thread id.
const TID: u32 = 22;
const OWNER: u64 = (1 << 31) - 1;
/// The lock was taken for a scope, at whose end the same thread releases it.
const SCOPED: u64 = 1 << 63;

/// A thread of a process of the family: `scoped 1 | serial 9 | thread 22 | - | owner 31`. Never zero.
///
/// The serial distinguishes threads of one process that had the same thread id one after the other. `scoped` says how a
/// lock was taken. The claim that is decoded from a word does not have it, so claims of one thread are equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Claim(u64);

thread_local! {
    /// The calling thread's claim, or zero.
    static MINE: Cell<u64> = const { Cell::new(0) };
}

impl Claim {
    /// The calling thread's claim.
    #[inline]
    pub(super) fn mine() -> Result<Self> {
        match MINE.get() {
            0 => Self::make(),
            bits => Ok(Self(bits)),
        }
    }

    #[cold]
    fn make() -> Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let me = liveness::me()?;
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let thread = SERIAL.fetch_add(1, Ordering::Relaxed) << TID | tid & ((1 << TID) - 1);
        let thread = thread & (u32::MAX >> 1);
        let bits = u64::from(thread) << 32 | u64::from(me.to_bits());
        MINE.set(bits);
        Ok(Self(bits))
    }

    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    /// Decode a word that has a bit of its own between the two parts. `None`: no holder.
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let thread = bits & !SCOPED & !OWNER & !(1 << 31);
        Owner::from_bits(bits as u32).map(|owner| Self(thread | u64::from(owner.to_bits())))
    }

    /// The same, for a lock that this thread will release itself.
    #[inline]
    pub(super) fn scoped(self) -> Self {
        Self(self.0 | SCOPED)
    }

    /// Whether the lock with this word was taken for a scope.
    pub(super) fn is_scoped(bits: u64) -> bool {
        bits & SCOPED != 0
    }

    /// The thread among those of its process, present and past: serial and kernel's id.
    pub(super) fn thread_word(self) -> u32 {
        (self.0 >> 32) as u32 & (u32::MAX >> 1)
    }

    pub(super) fn owner(self) -> Owner {
        Owner(self.0 as u32)
    }

    /// The kernel's thread id.
    pub(super) fn thread(self) -> u32 {
        Self::number(self.thread_word())
    }

    /// The kernel's thread id of a [`thread_word`](Self::thread_word).
    pub(super) fn number(thread: u32) -> u32 {
        thread & ((1 << TID) - 1)
    }
}

/// Forget the cached claim: a child of fork is another process, and its only thread has another id. Async-signal-safe.
pub(super) fn after_fork_child() {
    MINE.set(0);
}
