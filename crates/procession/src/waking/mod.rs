//! What wakes a task, or a thread that waits for several things at once: see `futures` and `select`.
//!
//! A process that ends has a descriptor (a pidfd), so one thread of this process, started with the first such wait,
//! polls those of all children that are awaited (`ends`). A queue, an event or a lock in shared memory has none: a
//! sleep on a word of memory is one thread's. So a receiver that is awaited has a thread (`watch`), which sleeps as
//! `recv` does and learns at once of a value or of the last sender's end. There is one for each receiver, however many
//! tasks wait for it, and not one for each wait; a clone is a receiver with a thread of its own. The same holds for
//! senders of bounded channels, events and locks. The engine's descriptor for a queue would take such a thread, too, and
//! not tell the end of the senders. A pool that has calls that are awaited has one thread (`completions`), which the
//! engine tells of each call that is complete.
//!
//! The thread takes nothing for a task: it wakes the task, which then tries again. So no value and no lock is lost with
//! a task that is dropped, and no lock is held for a task that does not run.
//!
//! None of these threads exists in a child of fork; there the first wait starts them anew.

#[cfg(feature = "async")]
mod completions;
pub(crate) mod ends;
mod watch;

#[cfg(feature = "async")]
pub(crate) use completions::Completions;
pub(crate) use watch::{Awaited, Watch};

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::task::Waker;

/// The tasks to wake, each under the number of its wait. A waker is the runtime's: to wake or drop one may poll or
/// drop other futures. So no lock is held then, and these methods return what the caller is to drop behind its lock.
#[derive(Default)]
struct Wakers(Vec<(u64, Waker)>);

impl Wakers {
    /// Wake this waker from now on for the wait with this number. Returns the one that it replaces.
    #[must_use = "dropped behind the lock"]
    fn set(&mut self, number: u64, waker: Waker) -> Option<Waker> {
        if let Some((_, known)) = self.0.iter_mut().find(|(other, _)| *other == number) {
            return Some(std::mem::replace(known, waker));
        }
        self.0.push((number, waker));
        None
    }

    #[must_use = "dropped behind the lock"]
    fn remove(&mut self, number: u64) -> Option<Waker> {
        let at = self.0.iter().position(|(other, _)| *other == number)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Do what runs code of the runtime's or of a task's, as to wake or drop a waker may. A panic in it, which the panic
/// hook has reported, ends neither the thread nor the waits of the others.
fn shield(action: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(action)) {
        std::mem::forget(payload); // to drop it may panic, too
    }
}

/// So many new numbers for waits: the first of them.
pub(crate) fn numbers(count: u64) -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(count, Ordering::Relaxed)
}

/// Start a thread that wakes tasks.
fn start(name: &str, body: impl FnOnce() + Send + 'static) -> crate::Result<()> {
    use crate::Error;
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    started
        .map(drop)
        .map_err(|error| Error::engine(procession_core::Error::os("clone", error)))
}
