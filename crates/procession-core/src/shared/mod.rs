//! Memory of `Value` and `Array`: zero-filled bytes that many processes read and write.
//!
//! What the bytes mean, and who may write them when, is for the user and their locks to say. Bytes may be made with a lock of their own: then
//! the object refers to it, so that one handle leads to both. Few bytes lie in the object's own cell, more in a block that stays in
//! transit as long as the object lives: nobody takes it out, the last reference discards it.

#[cfg(test)]
mod tests;

use crate::arena::{link, unlink};
use crate::arena::{Block, Handle, Kind, Object, Ref, Token};
use crate::sync::Lock;
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

/// The arena object. Its words are written before its handle is known to anybody, and never again.
#[repr(C, align(16))]
pub(crate) struct Shared {
    length: AtomicU64,
    /// The lock that guards the bytes, by a reference of this object's; 0: none of its own.
    lock: AtomicU64,
    /// The bytes; of more than fit here the token of their block.
    inline: UnsafeCell<Inline>,
}

#[repr(C, align(16))]
struct Inline([u8; INLINE]);

const _: () = assert!(size_of::<Shared>() == 64);

// SAFETY: the bytes are only given away as a pointer; whoever uses it answers for the order.
unsafe impl Sync for Shared {}

// SAFETY: zero means no bytes, which are inline, and no lock; the words are checked by whoever reads them; 64 bytes.
unsafe impl Object for Shared {
    const KIND: Kind = Kind::Shared;
    const NAME: &'static str = NAME;

    fn destroy(&self) {
        // Discarding again, after whoever died here, does nothing: the token is stale.
        if let Some(token) = self.token() {
            Block::discard(token);
        }
        // Without room in the roll nothing can be struck out: the lock's cell is lost.
        let _ = unlink(&self.lock);
    }
}

impl Shared {
    /// Whether the bytes lie here.
    fn is_inline(&self) -> bool {
        self.length.load(Relaxed) <= INLINE as u64
    }

    fn token_word(&self) -> &AtomicU64 {
        // SAFETY: the cell's 48 bytes are aligned to 16, and used as this word alone where the length, which never changes once the handle
        // is known, says that no bytes lie there.
        unsafe { &*self.inline.get().cast::<AtomicU64>() }
    }

    fn token(&self) -> Option<Token> {
        if self.is_inline() {
            return None;
        }
        NonZeroU64::new(self.token_word().load(Relaxed)).map(|bits| Token(bits.get()))
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
        Self::made(Ref::create()?, length)
    }

    /// The same, guarded by this lock: [`lock`](Self::lock) finds it from every reference to the bytes.
    pub fn guarded(length: usize, lock: &Lock) -> Result<Self> {
        let object = Ref::<Shared>::create()?;
        if link(&object.lock, lock.handle())? {
            Self::made(object, length)
        } else {
            Err(Error::Stale("lock"))
        }
    }

    fn made(object: Ref<Shared>, length: usize) -> Result<Self> {
        if length > INLINE {
            let mut block = Block::alloc(length)?;
            block.as_mut_slice().fill(0);
            // DEATH: before the token there is no block to discard; then the token is stale, or the block in transit and discarded with the object.
            object.length.store(length as u64, Release);
            object.token_word().store(block.token().0, Release);
            block.send();
        } else {
            object.length.store(length as u64, Release);
        }
        Self::over(object)
    }

    /// The lock that the bytes were made with.
    pub fn lock(&self) -> Result<Option<Lock>> {
        let handle = Handle::from_bits(self.object.lock.load(Relaxed));
        handle.map(Lock::attach).transpose()
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
            None if object.is_inline() => object.inline.get().cast(),
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
