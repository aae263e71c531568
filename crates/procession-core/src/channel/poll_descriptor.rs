//! A queue's readability as a poll descriptor, for a wait for several objects at once with poll(2).
//!
//! The queue has no descriptor. For a process that asks for one, a thread of that process waits for a message and sets
//! an eventfd. When the process finds the queue empty it calls `resolve`, which clears the descriptor and lets the
//! thread wait anew. So the descriptor is readable while there is a message. If another process took the last one, it
//! stays readable until the next look, like a pipe that several processes read from. The process records in the queue
//! whether the descriptor is readable (`pollers`), so that a producer can wait until it shows a message.

use super::layout::Queue;
use super::pollers::Poller;
use crate::arena::Ref;
use crate::liveness::is_alive;
use crate::sys::threads;
use crate::{family, Deadline, Error, Result, WaitError};
use rustix::event::{eventfd, EventfdFlags};
use rustix::io::{read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A descriptor that is readable while a queue has messages. It belongs to the process that made it: a child of fork
/// makes its own.
#[derive(Debug)]
pub struct Readiness {
    shared: Arc<QueueWatch>,
    pid: u32,
}

#[derive(Debug)]
struct QueueWatch {
    queue: Ref<Queue>,
    poller: Poller,
    fd: OwnedFd,
    state: Mutex<WatchState>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchState {
    /// The thread waits for a message.
    Watching,
    /// The descriptor is readable.
    Set,
    /// The descriptor is not wanted any more.
    Over,
}

impl QueueWatch {
    fn state(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is certainly no message.
    fn is_empty(&self) -> bool {
        self.queue.is_empty().unwrap_or(false)
    }

    fn set(&self, state: &mut WatchState) {
        *state = WatchState::Set;
        // Fails only if the descriptor is set already.
        let _ = write(&self.fd, &1u64.to_ne_bytes());
        self.queue.waiting.pollers.show(self.poller);
    }
}

impl Readiness {
    /// Make the descriptor, in agreement with the queue, and start its thread.
    pub fn new(queue: &Ref<Queue>) -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = eventfd(0, flags).map_err(|e| Error::os("eventfd", e))?;
        let shared = Arc::new(QueueWatch {
            queue: queue.clone(),
            poller: queue.waiting.pollers.join(family()?.me(), is_alive),
            fd,
            state: Mutex::new(WatchState::Watching),
            changed: Condvar::new(),
        });
        let theirs = shared.clone();
        let readiness = Self {
            shared,
            pid: std::process::id(),
        };
        readiness.resolve();
        threads::helper("procession-ready", move || theirs.watch())?;
        Ok(readiness)
    }

    /// The descriptor. Do not read from it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }

    /// Whether this process made it. In a child of fork it is useless but harmless.
    pub fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Make the descriptor agree with the queue. Call it after taking a message or finding none, and before a poll.
    pub fn resolve(&self) {
        self.resolve_or(|| false);
    }

    /// As [`resolve`](Self::resolve), but while the process holds messages that it took before, the descriptor is
    /// readable, too. Call it whenever `holds` changes.
    pub fn resolve_or(&self, holds: impl Fn() -> bool) {
        if !self.is_own() {
            return;
        }
        let shared = &self.shared;
        // SYNC: `holds` is asked under this lock: the last call sees the last change.
        let mut state = shared.state();
        let is_empty = || !holds() && shared.is_empty();
        match *state {
            // SYNC: the thread sees what is put after this look, because it looks again before it sleeps.
            WatchState::Set if is_empty() && shared.queue.waiting.pollers.may_clear(shared.poller, is_empty) => {
                let _ = read(&shared.fd, &mut [0; 8]);
                *state = WatchState::Watching;
                shared.changed.notify_one();
            }
            WatchState::Watching if !is_empty() => shared.set(&mut state),
            // A process that waits for the thread to show a message need not wait: the message was taken.
            WatchState::Watching => shared.queue.waiting.pollers.caught_up.notify_all(),
            WatchState::Set | WatchState::Over => {}
        }
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if !self.is_own() {
            return;
        }
        let shared = &self.shared;
        *shared.state() = WatchState::Over;
        shared.queue.waiting.pollers.leave(shared.poller);
        shared.changed.notify_one();
        shared.queue.wake_consumers();
    }
}

impl QueueWatch {
    fn watch(&self) {
        loop {
            let mut state = self.state();
            while *state == WatchState::Set {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if *state == WatchState::Over {
                return;
            }
            drop(state);
            // A queue that cannot be read counts as ready: `get` reports the error.
            let over = || *self.state() == WatchState::Over;
            let waited = self.queue.wait_until_ready_or(Deadline::Never, over);
            if matches!(waited, Err(WaitError::TimedOut | WaitError::Interrupted)) {
                continue;
            }
            let mut state = self.state();
            if *state == WatchState::Watching {
                self.set(&mut state);
            }
        }
    }
}
