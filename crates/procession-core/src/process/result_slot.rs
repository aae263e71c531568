//! The result slot: one message from a child to its parent.

use crate::arena::Object;
use crate::channel::{Incoming, Message, MessageHeader};
use crate::ids::Kind;
use crate::Result;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Release},
};

/// A slot for one message, from a child that ends to the process that waits for its end. Zero-filled: no message.
#[repr(C)]
#[derive(Debug, Default)]
pub struct ResultSlot {
    state: AtomicU32,
    message: MessageHeader,
}

const EMPTY: u32 = 0;
const POSTING: u32 = 1;
const POSTED: u32 = 2;
const TAKING: u32 = 3;

// SAFETY: atomics only; the header validates what it finds, and an unknown state is treated as no message.
unsafe impl Object for ResultSlot {
    const KIND: Kind = Kind::ResultSlot;
    const NAME: &'static str = "result slot of a process";

    fn destroy(&self) {
        // DEATH: a death in the middle of posting or taking leaves the header half filled or half emptied; discarding
        // copes with both.
        if self.state.load(Acquire) != EMPTY {
            self.message.discard();
        }
    }
}

impl ResultSlot {
    /// In the child: leave `message`. Works once: a second message is dropped.
    pub fn post(&self, message: Message) {
        if self.step(EMPTY, POSTING) {
            self.message.post(message);
            self.state.store(POSTED, Release);
        }
    }

    /// In the parent, once the child has ended: take what it left. `None` if it left nothing, or died in the middle of
    /// it.
    pub fn take(&self) -> Result<Option<Incoming>> {
        if !self.step(POSTED, TAKING) {
            return Ok(None);
        }
        let incoming = self.message.open()?;
        self.state.store(EMPTY, Release);
        Ok(Some(incoming))
    }

    fn step(&self, from: u32, to: u32) -> bool {
        // SYNC: acquire sees the message that the release of POSTED published.
        self.state.compare_exchange(from, to, AcqRel, Acquire).is_ok()
    }
}
