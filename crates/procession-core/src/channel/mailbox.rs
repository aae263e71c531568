//! A mailbox: one message for one receiver, which knows it by a number, the token. Leaves to the faces how the token
//! reaches the receiver, and to `arena::receiver` whether the receiver lives.

use super::{Incoming, Message, MessageHeader, Outgoing};
use crate::arena::{Block, Object, Receiver, Token};
use crate::ids::Kind;
use crate::Result;
use std::sync::{Mutex, PoisonError};

/// A message that waits in the arena until the process that knows its token takes it. Dropping the mailbox discards a
/// message that was not taken (but not in a child of fork, which does not own it).
///
/// It is a block that holds a message header. The packer owns it until it tells the token for the first time; then it
/// waits for the process that takes it, which can be done once. It is given back when the process that it waits for
/// dies: that is the packer, until the packer names the receiver.
#[derive(Debug)]
pub struct Mailbox {
    token: Token,
    /// `None` once it was sent.
    block: Mutex<Option<Block>>,
    /// The process that packed it.
    packer: u32,
}

const LEN: usize = size_of::<MessageHeader>();

// SAFETY: atomics only; the header's methods validate what they find.
unsafe impl Object for MessageHeader {
    const KIND: Kind = Kind::Mailbox;
    const NAME: &'static str = "mailbox";

    /// Called for a mailbox that a dead process was packing, sending or taking.
    fn destroy(&self) {
        self.discard();
    }
}

impl Mailbox {
    /// Pack a message.
    pub fn pack(out: Outgoing<'_>) -> Result<Self> {
        let message = Message::pack(out)?;
        let mut block = Block::alloc(LEN)?;
        header(&block).clear();
        // DEATH: from here on a survivor looks into the header.
        block.set_kind(Kind::Mailbox);
        header(&block).post(message);
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

    /// Name the receiver: process `pid`, which exists now. From now on the mailbox outlives its packer, until the
    /// receiver has taken it or died. Call it after [`token`](Self::token).
    pub fn address(&self, pid: i32) {
        // Fails once the receiver has taken it.
        let _ = Block::redirect(self.token, Receiver::of(pid.unsigned_abs()));
    }

    /// Make this process the receiver, before it takes the message: from now on the mailbox outlives its packer.
    pub fn expect(token: u64) -> Result<()> {
        Block::redirect(Token(token), Receiver::me())
    }

    /// Take the message out. Works once, in any process of the family.
    pub fn take(token: u64) -> Result<Incoming> {
        let block = Block::take(Token(token), LEN)?;
        let header = header(&block);
        let incoming = header.open();
        if incoming.is_err() {
            header.discard();
        }
        header.clear();
        incoming
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if self.packer != std::process::id() {
            return;
        }
        let unsent = self.block.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(block) = unsent.or_else(|| Block::take(self.token, LEN).ok()) {
            header(&block).discard();
        }
    }
}

fn header(block: &Block) -> &MessageHeader {
    // SAFETY: every block of a mailbox has `LEN` bytes, aligned to 64; a header is atomic words, for which any bytes
    // will do.
    unsafe { &*block.as_ptr().cast() }
}
