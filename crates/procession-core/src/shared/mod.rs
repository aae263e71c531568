//! Memory of `Value` and `Array`: zero-filled bytes that many processes read and write.
//!
//! What the bytes mean, and who may write them when, is for the user and their locks to say. Few bytes lie in the object's own cell,
//! more in a block that stays in transit as long as the object lives: nobody takes it out, the last reference discards it.

#[cfg(test)]
mod tests;

use crate::arena::{Block, Handle, Kind, Object, Ref, Token};
use crate::{Error, Result};
use std::cell::UnsafeCell;
use std::num::NonZeroU64;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

const NAME: &str = "shared memory";
/// Bytes that fit beside the words, in the smallest cell.
const INLINE: usize = 48;

/// The arena object. Both words are written before its handle is known to anybody, and never again.
#[repr(C, align(16))]
pub(crate) struct Shared {
    length: AtomicU64,
    /// The block of the bytes; 0 when they are `inline`.
    token: AtomicU64,
    inline: UnsafeCell<[u8; INLINE]>,
}

// SAFETY: the bytes are only given away as a pointer; whoever uses it answers for the order.
unsafe impl Sync for Shared {}

// SAFETY: zero means no bytes, which are inline; the words are checked by whoever reads them; 64 bytes.
unsafe impl Object for Shared {
    const KIND: Kind = Kind::Shared;
    const NAME: &'static str = NAME;

    fn destroy(&self) {
        // Discarding again, after whoever died here, does nothing: the token is stale.
        if let Some(token) = self.token() {
            Block::discard(token);
        }
    }
}

impl Shared {
    fn token(&self) -> Option<Token> {
        NonZeroU64::new(self.token.load(Relaxed)).map(|bits| Token(bits.get()))
    }
}

/// A reference to shared bytes. They stay where they are, and exist, as long as it does; its clones and those made from its handle see the
/// same bytes.
#[derive(Clone, Debug)]
pub struct SharedBytes {
    object: Ref<Shared>,
    ptr: *mut u8,
    length: usize,
}

// SAFETY: the pointer leads to memory that belongs to no thread.
unsafe impl Send for SharedBytes {}
// SAFETY: as above; methods only read the fields.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    /// `length` zeros, committed, aligned to 16 (64 if there are more than 48).
    pub fn create(length: usize) -> Result<Self> {
        let object = Ref::<Shared>::create()?;
        if length > INLINE {
            let mut block = Block::alloc(length)?;
            block.as_mut_slice().fill(0);
            // DEATH: the object is destroyed and the token stale, or the block is in transit and discarded with the object.
            object.token.store(block.token().0, Release);
            block.send();
        }
        object.length.store(length as u64, Release);
        Self::over(object)
    }

    /// The bytes a handle refers to. Fails when they are gone.
    pub fn attach(handle: Handle) -> Result<Self> {
        Self::over(Ref::attach(handle)?)
    }

    fn over(object: Ref<Shared>) -> Result<Self> {
        let corrupt = || Error::Corrupt("length of shared memory");
        let length = usize::try_from(object.length.load(Relaxed)).map_err(|_| corrupt())?;
        let ptr = match object.token() {
            Some(token) => Block::peek(token, length)?,
            None if length <= INLINE => object.inline.get().cast(),
            None => return Err(corrupt()),
        };
        Ok(Self { object, ptr, length })
    }

    /// The handle to send.
    pub fn handle(&self) -> Handle {
        self.object.handle()
    }

    /// Start of the bytes. Other threads and processes may read and write them at any time.
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}
