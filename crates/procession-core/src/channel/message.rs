//! A message: how it is packed, how it rests in shared memory, how it is taken out again.

use crate::arena::{Block, Handle};
use crate::Result;
use std::sync::atomic::AtomicU64;

/// What a face wants to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// The bytes proper.
    pub body: &'a [u8],
    /// Out-of-band buffers, each of which the receiver gets as a block of its own.
    pub buffers: &'a [&'a [u8]],
    /// Objects the body speaks of: the message holds a reference to each.
    pub handles: &'a [Handle],
}

/// A packed message that this process still owns; dropping it frees what it holds.
#[derive(Debug)]
pub struct Message {
    buffers: Vec<Block>,
}

impl Message {
    /// Copy everything into shared memory (small bodies stay here until the message is posted).
    pub fn pack(out: Outgoing<'_>) -> Result<Self> {
        let _ = out;
        todo!()
    }
}

/// Where a message rests: in a queue slot, a parcel, a job. 112 bytes, zero = nothing. Whoever calls a method must hold the claim on the
/// place the envelope lies in; the words are atomic only so that a stranger's write can do no harm.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Envelope {
    words: [AtomicU64; 14],
}

impl Envelope {
    /// Put `message` in and hand its blocks over. Cannot fail. What was in it before must have been taken or discarded.
    pub fn post(&self, message: Message) {
        let _ = (&self.words, message.buffers);
        todo!()
    }

    /// Take the message out: its blocks belong to this process now.
    pub fn open(&self) -> Result<Incoming> {
        todo!()
    }

    /// Free all that the message holds. Idempotent: repeating it, also after somebody died in the middle of it, does no harm.
    pub fn discard(&self) {
        todo!()
    }

    /// Whether the message is complete, although a process that had begun to [`open`](Self::open) it died.
    pub fn is_whole(&self) -> bool {
        todo!()
    }
}

/// A message that was taken out.
#[derive(Debug)]
pub struct Incoming {
    buffers: Vec<Block>,
    handles: Vec<Handle>,
}

impl Incoming {
    /// The bytes proper.
    pub fn body(&self) -> &[u8] {
        todo!()
    }

    /// The out-of-band buffers, in order; once only.
    pub fn take_buffers(&mut self) -> Vec<Block> {
        std::mem::take(&mut self.buffers)
    }

    /// The objects the body speaks of. The message's references to them last until the `Incoming` is dropped: take your own before.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}
