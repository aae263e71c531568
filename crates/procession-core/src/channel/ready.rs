//! A queue's readability as a descriptor, for whoever waits with poll(2) for many things at once.
//!
//! The queue has no descriptor. For a process that asks for one, a thread of that process waits for a message and sets an eventfd; who
//! finds the queue empty says so (`settle`), which clears the descriptor and lets the thread wait anew. So it is readable while there
//! is a message; and, when another process took the last one, until the next look, as a pipe that several processes read from would be.

use super::queue::Queue;
use crate::arena::Ref;
use crate::sys::signal::with_signals_blocked;
use crate::{Deadline, Error, Result, WaitError};
use rustix::event::{eventfd, EventfdFlags};
use rustix::io::{read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A descriptor that is readable while a queue has messages. It is of the process that made it: a child of fork makes its own.
#[derive(Debug)]
pub struct Readiness {
    queue: Ref<Queue>,
    shared: Arc<Shared>,
    pid: u32,
}

#[derive(Debug)]
struct Shared {
    fd: OwnedFd,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The thread waits for a message.
    Watching,
    /// The descriptor is readable.
    Set,
    /// Nobody wants it any more.
    Over,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readiness {
    /// Make the descriptor and start its thread.
    pub fn new(queue: &Ref<Queue>) -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let shared = Arc::new(Shared {
            fd: eventfd(0, flags).map_err(|e| Error::os("eventfd", e))?,
            state: Mutex::new(State::Watching),
            changed: Condvar::new(),
        });
        let (watched, theirs) = (queue.clone(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("procession-ready".into())
            .stack_size(64 * 1024);
        with_signals_blocked(|| thread.spawn(move || watch(&watched, &theirs))).map_err(|e| Error::os("clone", e))?;
        Ok(Self {
            queue: queue.clone(),
            shared,
            pid: std::process::id(),
        })
    }

    /// The descriptor; not to be read from.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }

    /// Whether this process made it. In a child of fork it is useless, and harmless.
    pub fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Make the descriptor agree with the queue: after taking a message, or finding none.
    pub fn settle(&self) {
        if !self.is_own() {
            return;
        }
        let mut state = self.shared.state();
        // SYNC: what is put after this look is seen by the thread, which looks again before it sleeps.
        if *state == State::Set && self.queue.is_empty().unwrap_or(false) {
            let _ = read(&self.shared.fd, &mut [0; 8]);
            *state = State::Watching;
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if !self.is_own() {
            return;
        }
        *self.shared.state() = State::Over;
        self.shared.changed.notify_one();
        self.queue.rouse();
    }
}

fn watch(queue: &Queue, shared: &Shared) {
    loop {
        let mut state = shared.state();
        while *state == State::Set {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if *state == State::Over {
            return;
        }
        drop(state);
        // A queue that cannot be read is ready: `get` says why.
        let waited = queue.wait_until_ready_or(Deadline::Never, || *shared.state() == State::Over);
        if matches!(waited, Err(WaitError::TimedOut | WaitError::Interrupted)) {
            continue;
        }
        let mut state = shared.state();
        if *state == State::Watching {
            *state = State::Set;
            // It can only fail when it is set already.
            let _ = write(&shared.fd, &1u64.to_ne_bytes());
        }
    }
}
