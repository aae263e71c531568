//! Delays exit until pollers have seen this process's last item. Leaves to `pollers` which of them have.
//!
//! A process that polls both a queue and the end of another process may take an end without a message for a crash. So a
//! process notes the queues whose pollers were behind when it put something, and waits for those pollers at its exit.
//! It does not wait when it is killed, or when the program calls `_exit` itself.

use super::layout::{Queue, PURPOSE};
use crate::arena::{self, Ref};
use crate::ids::Handle;
use crate::{liveness, Deadline, WaitError};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::time::Duration;

/// How long an exit waits for pollers that do not catch up, for example in a stopped process.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Handles of queues; zero is a free slot. A child of fork has its parent's too, which does no harm.
static NOTES: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// Note that this process put something into the queue of this handle that a poller does not know of yet.
pub(super) fn note(handle: u64) {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.swap(true, Relaxed) {
        // SAFETY: a plain function, which stays loaded. A child of fork inherits the registration.
        unsafe { libc::atexit(at_exit) };
    }
    let noted = NOTES.iter().any(|note| {
        let before = note.load(Acquire);
        let free = before == 0 || before == handle || is_over(before);
        free && note.compare_exchange(before, handle, AcqRel, Relaxed).is_ok()
    });
    if !noted {
        // The pollers of as many other queues are behind. One note is overwritten: its pollers may still see their
        // message in time.
        NOTES[0].store(handle, Relaxed);
    }
}

/// Whether a note is no longer needed.
fn is_over(handle: u64) -> bool {
    match Handle::from_bits(handle).map(arena::look_up::<Queue>) {
        Some(Ok(Some(queue))) => !liveness::me().is_ok_and(|me| queue.is_a_poller_behind(me)),
        Some(Ok(None)) | None => true,
        // This process has no address space to look.
        Some(Err(_)) => false,
    }
}

/// Wait until all pollers know what this process put into their queues, for at most a second. Call it before `_exit`;
/// other exits do it by themselves.
pub fn wait_until_noticed() {
    wait(Deadline::after(TIMEOUT));
}

pub(super) fn wait(deadline: Deadline) {
    for note in &NOTES {
        // Most processes have no note, and this is all they do.
        if note.load(Relaxed) == 0 {
            continue;
        }
        let handle = Handle::from_bits(note.swap(0, AcqRel));
        if let Some(queue) = handle.and_then(|handle| Ref::<Queue>::attach(handle).ok()) {
            // A queue that cannot be waited for, or not any longer, is skipped.
            let _ = wait_for_pollers(&queue, deadline);
        }
    }
}

/// Wait until the descriptors of all other processes show that there is a message, or until there is none.
fn wait_for_pollers(queue: &Queue, deadline: Deadline) -> Result<(), WaitError> {
    let me = liveness::me()?;
    let pollers = &queue.waiting.pollers;
    let noticed =
        || !pollers.behind(me).any(liveness::is_alive) || !queue.walk().is_ok_and(|found| found.full.is_some());
    loop {
        let waited = pollers
            .caught_up
            .sleep_for(PURPOSE.checking_deaths(), deadline, || noticed().then_some(()));
        // This process is exiting: it keeps waiting, whatever its signal handlers noted.
        if !matches!(waited, Err(WaitError::Interrupted)) {
            return waited;
        }
    }
}

extern "C" fn at_exit() {
    wait_until_noticed();
}

/// The handles that are noted.
#[cfg(test)]
pub(super) fn noted() -> Vec<u64> {
    let handles = NOTES.iter().map(|note| note.load(Relaxed));
    handles.filter(|handle| *handle != 0).collect()
}
