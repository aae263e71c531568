//! Spin a little, then sleep in slices.

use crate::{Deadline, WaitError};
use std::sync::atomic::AtomicU32;

/// An eventcount: waiters announce themselves, re-check their condition and sleep; notifiers pay a system call only if somebody announced himself.
/// Zero-filled is valid. Word: epoch in the upper bits, bit 0 = somebody may be asleep.
#[repr(C)]
#[derive(Debug, Default)]
pub struct EventCount {
    word: AtomicU32,
    /// Whether spinning paid lately (adaptive).
    spin: AtomicU32,
}

impl EventCount {
    /// Wait until `ready` yields a value: first spins (adaptively), then sleeps in slices; `ready` is called again after every wake
    /// and every slice, so it may also look after the dead. `Interrupted` when a signal handler ran while asleep.
    pub fn wait<T>(
        &self,
        deadline: Deadline,
        ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitError> {
        let _ = (&self.word, &self.spin, deadline, ready);
        todo!()
    }

    /// Wake up to `n` sleepers; call it after what they wait for has been made true (sequentially consistent fence inside).
    pub fn notify(&self, n: u32) {
        let _ = n;
    }
}
