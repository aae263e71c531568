//! A parcel: one message for one receiver, known by a number.

use super::{Envelope, Incoming, Message, Outgoing};
use crate::arena::{Block, Kind, Object, Receiver, Token};
use crate::Result;
use std::sync::{Mutex, PoisonError};

/// A message that waits in the arena until the one who knows its token takes it. Discarded on drop if nobody took it
/// (not in a child of fork, which does not own it).
///
/// It is a block that holds an envelope. The packer's until somebody is told the token; then it waits for whoever takes it, so it is had once. It is given
/// back when the process it waits for dies: that is the packer, until it says who the receiver is.
#[derive(Debug)]
pub struct Parcel {
    token: Token,
    /// Until it is sent.
    block: Mutex<Option<Block>>,
    /// The process that packed it.
    packer: u32,
}

const LEN: usize = size_of::<Envelope>();

// SAFETY: atomics only; the envelope validates what it finds.
unsafe impl Object for Envelope {
    const KIND: Kind = Kind::Parcel;
    const NAME: &'static str = "parcel";

    /// Of a parcel that a dead process was packing, sending or taking.
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

    /// What the receiver must know.
    pub fn token(&self) -> u64 {
        let block = self.block.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(block) = block {
            block.send_to(Receiver::me());
        }
        self.token.0
    }

    /// The receiver exists now, and is process `pid`: from now on the parcel outlives its packer, until that process has taken it or died.
    /// Comes after the token was asked for.
    pub fn address(&self, pid: i32) {
        Block::redirect(self.token, Receiver::of(pid.unsigned_abs()));
    }

    /// Take the message out: once only, in any process of the family.
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
    // SAFETY: every block a parcel is made of has `LEN` bytes, aligned to 64; an envelope is atomic words, for which any bytes will do.
    unsafe { &*block.as_ptr().cast() }
}
