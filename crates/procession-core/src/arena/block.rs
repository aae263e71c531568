//! Blocks: memory for one payload, owned by one process at a time.

use crate::Result;

/// Memory of the arena that this process owns alone. Given back when dropped (not by a child of fork that inherited it).
#[derive(Debug)]
pub struct Block {
    ptr: *mut u8,
    len: usize,
}

/// A block in transit: what a message stores. Whoever takes the message turns it into a [`Block`] again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub(crate) u64);

impl Block {
    /// `len` bytes, committed, of unspecified content, aligned to 64.
    pub fn alloc(len: usize) -> Result<Self> {
        let _ = len;
        todo!()
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        todo!()
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        todo!()
    }

    /// Start of the bytes; stays put for the life of the block.
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Number of bytes asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The token this block has in transit; ownership stays here until [`Block::send`].
    pub fn token(&self) -> Token {
        todo!()
    }

    /// Hand the block to the message that holds its token: this process no longer owns it, and will not free it.
    pub fn send(self) -> Token {
        todo!()
    }

    /// Take a block out of transit. Fails when the token is stale or was taken by someone else.
    pub fn take(token: Token, len: usize) -> Result<Self> {
        let _ = (token, len);
        todo!()
    }

    /// Free a block in transit whose message is thrown away. A stale token does nothing.
    pub fn discard(token: Token) {
        let _ = token;
    }
}
