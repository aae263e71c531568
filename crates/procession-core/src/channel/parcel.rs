//! A parcel: one message for one receiver, which knows it by a number, the token.

use super::{Envelope, Incoming, Message, Outgoing};
use crate::arena::{Block, Kind, Object, Receiver, Token};
use crate::Result;
use std::sync::{Mutex, PoisonError};

/// A message that waits in the arena until the process that knows its token takes it. Dropping the parcel discards a
/// message that was not taken (but not in a child of fork, which does not own it).
///
/// It is a block that holds an envelope. The packer owns it until it tells the token for the first time; then it waits
/// for the process that takes it, which can be done once. It is given back when the process that it waits for dies:
/// that is the packer, until the packer names the receiver.
#[derive(Debug)]
pub struct Parcel {
    token: Token,
    /// `None` once it was sent.
    block: Mutex<Option<Block>>,
    /// The process that packed it.
    packer: u32,
}

const LEN: usize = size_of::<Envelope>();

// SAFETY: atomics only; the envelope validates what it finds.
unsafe impl Object for Envelope {
    const KIND: Kind = Kind::Parcel;
    const NAME: &'static str = "parcel";

    /// Called for a parcel that a dead process was packing, sending or taking.
    fn destroy(&self) {
        self.discard();
    }
}

impl Parcel {
    /// Pack a message.
    pub fn pack(out: Outgoing<'_>) -> Result<Self> {
        let message = Message::pack(out)?;
        let mut block = Block::alloc(LEN)?;
        envelope(&block).clear();
        // DEATH: from here on a survivor looks into the envelope.
        block.set_kind(Kind::Parcel);
        envelope(&block).post(message);
        Ok(Self {
            token: block.token(),
            block: Mutex::new(Some(block)),
            packer: std::process::id(),
        })
    }

    /// The token, which the receiver must know.
    pub fn token(&self) -> u64 {
        let block = self.block.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(block) = block {
            block.send_to(Receiver::me());
        }
        self.token.0
    }

    /// Name the receiver: process `pid`, which exists now. From now on the parcel outlives its packer, until the
    /// receiver has taken it or died. Call it after [`token`](Self::token).
    pub fn address(&self, pid: i32) {
        Block::redirect(self.token, Receiver::of(pid.unsigned_abs()));
    }

    /// Take the message out. Works once, in any process of the family.
    pub fn take(token: u64) -> Result<Incoming> {
        let block = Block::take(Token(token), LEN)?;
        let envelope = envelope(&block);
        let incoming = envelope.open();
        if incoming.is_err() {
            envelope.discard();
        }
        envelope.clear();
        incoming
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if self.packer != std::process::id() {
            return;
        }
        let unsent = self.block.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(block) = unsent.or_else(|| Block::take(self.token, LEN).ok()) {
            envelope(&block).discard();
        }
    }
}

fn envelope(block: &Block) -> &Envelope {
    // SAFETY: every block of a parcel has `LEN` bytes, aligned to 64; an envelope is atomic words, for which any bytes
    // will do.
    unsafe { &*block.as_ptr().cast() }
}
