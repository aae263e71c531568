//! What wakes tasks that wait at an end of a channel.

use super::{is_left_by, End, Receiver, Sender};
use crate::waking::{Awaited, Watch};
use crate::Result;
use procession_core::arena::Ref;
use procession_core::channel::Queue;
use procession_core::ids::Handle;
use procession_core::{Deadline, WaitError};
use std::task::Waker;

/// An end for which tasks wait.
pub(crate) struct WatchedEnd {
    queue: Ref<Queue>,
    /// The other side's token.
    other: Handle,
    sends: bool,
}

impl Awaited for WatchedEnd {
    fn thread(&self) -> &'static str {
        if self.sends {
            "procession-send"
        } else {
            "procession-recv"
        }
    }

    fn wait(&self, deadline: Deadline, over: &dyn Fn() -> bool) -> Result<(), WaitError> {
        let over = || is_left_by(self.other) || over();
        if self.sends {
            self.queue.wait_until_room_or(deadline, over)
        } else {
            self.queue.wait_until_ready_or(deadline, over)
        }
    }

    fn prod(&self) {
        if self.sends {
            self.queue.wake_producers();
        } else {
            self.queue.wake_consumers();
        }
    }
}

impl End {
    fn wake(&self, number: u64, waker: &Waker) -> Result<()> {
        let watched = || WatchedEnd {
            queue: self.queue.clone(),
            other: self.other,
            sends: self.sending.is_some(),
        };
        self.watch.wake(watched, number, waker)
    }
}

impl<T> Receiver<T> {
    /// Wake the task once there is a value, or no sender any more.
    pub(crate) fn wake_on_arrival(&self, number: u64, waker: &Waker) -> Result<()> {
        self.0.wake(number, waker)
    }

    pub(crate) fn watch(&self) -> &Watch<WatchedEnd> {
        &self.0.watch
    }

    /// Wait until there is a value. Takes nothing.
    pub(crate) fn wait_until_ready(&self, deadline: Deadline) -> Result<(), WaitError> {
        self.0.queue.wait_until_ready_or(deadline, || false)
    }

    /// Whether a `recv` would return at once: with a value, or because no sender is left.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(self.0.queue.is_empty(), Ok(true)) || self.0.is_surely_left_alone()
    }
}

impl<T> Sender<T> {
    /// Wake the task once there is room, or no receiver any more.
    pub(crate) fn wake_on_room(&self, number: u64, waker: &Waker) -> Result<()> {
        self.0.wake(number, waker)
    }

    pub(crate) fn watch(&self) -> &Watch<WatchedEnd> {
        &self.0.watch
    }

    /// Whether a `send` would return at once: there is room, or no receiver is left.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(self.0.queue.is_full(), Ok(true)) || self.0.is_surely_left_alone()
    }
}
