//! When an end looks for what no event tells it: dead processes, and messages that no process can receive any more.
//!
//! Asking the kernel about every process of the family takes time in proportion to their number. If each idle end did
//! so, the family's time would grow with the square. So an end that sleeps asks about no process: the engine has one
//! sleeping process of the whole family do that, once a second. An end that only polls asks itself, the less often the
//! more processes there are.

use super::unreceived;
use procession_core::{liveness, sweep_deferred};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;
use std::time::Instant;

/// The least time between two looks of this process, in milliseconds.
const PAUSE: u64 = 200;
/// The least time between two looks at all processes, in milliseconds for each of them: at most 40 questions a second.
const PAUSE_EACH: u64 = 25;

/// When the next look is due, in the time of [`now`].
struct Due(AtomicU64);

impl Due {
    /// Whether a look is due. Exactly one caller is told; the next look is due after [`PAUSE`].
    fn is_now(&self) -> bool {
        let (now, due) = (now(), self.0.load(Ordering::Relaxed));
        now >= due
            && self
                .0
                .compare_exchange(due, now + PAUSE, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Let no look be due for so many milliseconds.
    fn delay(&self, pause: u64) {
        self.0.fetch_max(now() + pause, Ordering::Relaxed);
    }
}

/// Milliseconds since the first call.
fn now() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// Look at this process's own channels, if that is due: no system call. Returns whether it did.
pub(super) fn at_channels() -> bool {
    static DUE: Due = Due(AtomicU64::new(0));
    let due = DUE.is_now();
    if due {
        unreceived::drop_all();
    }
    due
}

/// Look at all processes of the family, if that is due: perhaps no process sleeps, and none notices a death. Returns
/// whether it did.
pub(super) fn at_processes() -> bool {
    static DUE: Due = Due(AtomicU64::new(0));
    if !DUE.is_now() {
        return false;
    }
    let asked = liveness::sweep() as u64;
    // Tokens that children of fork still had are given back when the last of these is gone.
    let _ = sweep_deferred();
    DUE.delay(asked * PAUSE_EACH);
    unreceived::drop_all();
    true
}
