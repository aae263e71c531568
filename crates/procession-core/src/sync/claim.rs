//! The identity of a thread, as lock words store it.

use super::primitive::{AtomicU32, Ordering};
use crate::ids::Owner;
use crate::liveness;
use crate::Result;
use std::cell::Cell;

/// Bits of the kernel's thread id.
const TID: u32 = 22;
const OWNER: u64 = (1 << 31) - 1;

/// A thread of a process of the family: `serial 10 | thread 22 | - | owner 31`. Never zero.
///
/// The serial distinguishes threads of one process that had the same thread id one after the other.
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
        let bits = u64::from(thread) << 32 | u64::from(me.to_bits());
        MINE.set(bits);
        Ok(Self(bits))
    }

    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    /// Decode a word that has a bit of its own between the two parts. `None`: no holder.
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        Owner::from_bits(bits as u32).map(|owner| Self(bits & !OWNER & !(1 << 31) | u64::from(owner.to_bits())))
    }

    pub(super) fn owner(self) -> Owner {
        Owner(self.0 as u32)
    }

    /// The kernel's thread id.
    pub(super) fn thread(self) -> u32 {
        (self.0 >> 32) as u32 & ((1 << TID) - 1)
    }
}

/// Forget the cached claim: a child of fork is another process, and its only thread has another id. Async-signal-safe.
pub(super) fn after_fork_child() {
    MINE.set(0);
}
