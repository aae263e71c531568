//! A parcel: one message for one receiver, known by a number.

use super::{Envelope, Incoming, Message, Outgoing};
use crate::arena::{Block, Token};
use crate::Result;

/// A message that waits in the arena until the one who knows its token takes it. Discarded on drop if nobody took it
/// (not in a child of fork, which does not own it).
///
/// It is a block in transit that holds an envelope: whoever takes the block out of transit has the message, so it is had once.
#[derive(Debug)]
pub struct Parcel {
    token: Token,
    /// The process that packed it.
    packer: u32,
}

const LEN: usize = size_of::<Envelope>();

impl Parcel {
    /// Pack a message.
    pub fn pack(out: Outgoing<'_>) -> Result<Self> {
        let message = Message::pack(out)?;
        let block = Block::alloc(LEN)?;
        let envelope = envelope(&block);
        envelope.clear();
        envelope.post(message);
        // DEATH: before this line a message of one block or more is lost to the family (the envelope dies with us): a leak, no harm.
        let token = block.send();
        Ok(Self {
            token,
            packer: std::process::id(),
        })
    }

    /// What the receiver must know.
    pub fn token(&self) -> u64 {
        self.token.0
    }

    /// Take the message out: once only, in any process of the family.
    pub fn take(token: u64) -> Result<Incoming> {
        let block = Block::take(Token(token), LEN)?;
        envelope(&block).open()
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if self.packer != std::process::id() {
            return;
        }
        if let Ok(block) = Block::take(self.token, LEN) {
            envelope(&block).discard();
        }
    }
}

fn envelope(block: &Block) -> &Envelope {
    // SAFETY: every block a parcel is made of has `LEN` bytes, aligned to 64; an envelope is atomic words, for which any bytes will do.
    unsafe { &*block.as_ptr().cast() }
}
