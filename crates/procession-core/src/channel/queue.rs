//! The queue of many producers and many consumers: linked segments of slots used once. The README beside says why it is right.

use super::{Incoming, Message, Outgoing};
use crate::arena::{Kind, Object, Ref};
use crate::{Deadline, Result, WaitError};

/// A queue in the arena.
#[repr(C)]
pub struct Queue {}

// SAFETY: all fields are atomics, zero is valid.
unsafe impl Object for Queue {
    const KIND: Kind = Kind::Queue;
    const NAME: &'static str = "queue";
    fn destroy(&self) {}
}

impl Queue {
    /// A new queue for at most `maxsize` messages (0 = as many as memory holds).
    pub fn create(maxsize: u64) -> Result<Ref<Self>> {
        let _ = maxsize;
        todo!()
    }

    /// Put a packed message. On error (`TimedOut` = full) it stays in `message`, to be tried again; on success `message` is `None`.
    pub fn put(&self, message: &mut Option<Message>, deadline: Deadline) -> Result<(), WaitError> {
        let _ = (message, deadline);
        todo!()
    }

    /// Pack and put.
    pub fn send(&self, out: Outgoing<'_>, deadline: Deadline) -> Result<(), WaitError> {
        self.put(&mut Some(Message::pack(out)?), deadline)
    }

    /// Take the oldest message (`TimedOut` = empty).
    pub fn get(&self, deadline: Deadline) -> Result<Incoming, WaitError> {
        let _ = deadline;
        todo!()
    }

    /// Messages in the queue.
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// Whether a `get` would have to wait.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Whether a `put` would have to wait.
    pub fn is_full(&self) -> bool {
        todo!()
    }

    /// Say that a message taken has been dealt with; `false` when more were dealt with than put.
    pub fn task_done(&self) -> bool {
        todo!()
    }

    /// Wait until every message put has been dealt with.
    pub fn join(&self, deadline: Deadline) -> Result<(), WaitError> {
        let _ = deadline;
        todo!()
    }
}
