//! Memory of `Value` and `Array`: zero-filled bytes that many processes read and write.
//!
//! The meaning of the bytes, and the rules for writing them, are left to users and their locks. Bytes may be created
//! with a lock of their own: the object then refers to it, so that one handle leads to both. Few bytes lie in the
//! object's own cell. More bytes lie in a block that stays in transit as long as the object lives: no process takes it
//! out, and the last reference discards it.

mod bytes;
mod dict;
mod list;
#[cfg(test)]
mod tests;

pub use bytes::ValueBytes;
pub(crate) use dict::Dict;
pub use dict::{Change, Done, Key, SharedDict, Snapshot, SnapshotItem, LONGEST_FORM, LONGEST_KEY};
pub(crate) use list::ListHead;
pub use list::{Items, KnownPages, SharedList, Version};

use crate::arena::reclaiming::{Cell, OwnerWord};
use crate::arena::{link, unlink};
use crate::arena::{Block, Object, Ref, Token};
use crate::ids::{Handle, Kind, Owner};
use crate::sync::Lock;
use crate::{Error, Result};
use std::cell::UnsafeCell;
use std::num::NonZeroU64;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

const NAME: &str = "shared memory";
/// Number of bytes that fit beside the words, in the smallest cell.
const INLINE: usize = 48;

/// Recover a node that a dead process owned, if it is one of a dictionary's or a list's that must be asked for. Returns
/// whether it is.
pub(crate) fn recover_node(cell: &Cell, word: OwnerWord, dead: Owner) -> bool {
    dict::recover_node(cell, word, dead) || list::recover_node(cell, word, dead)
}

/// The arena object. Its words are written once, before another process knows its handle.
#[repr(C, align(16))]
pub(crate) struct Shared {
    length: AtomicU64,
    /// The lock that guards the bytes, by a reference that this object holds; 0 = no lock of its own.
    lock: AtomicU64,
    /// The bytes; if they do not fit here, the token of their block.
    inline: UnsafeCell<Inline>,
}

#[repr(C, align(16))]
struct Inline([u8; INLINE]);

const _: () = assert!(size_of::<Shared>() == 64);

// SAFETY: the bytes are only given away as a pointer; the user of the pointer answers for the order of accesses.
unsafe impl Sync for Shared {}

// SAFETY: zero means no bytes, which are inline, and no lock; readers check the words; 64 bytes.
unsafe impl Object for Shared {
    const KIND: Kind = Kind::Shared;
    const NAME: &'static str = NAME;

    fn destroy(&self) {
        // Idempotent: when a successor discards again after a death here, the token is stale, and nothing happens.
        if let Some(token) = self.token() {
            Block::discard(token);
        }
        // Fails if the process table has no room, and no entry can be removed: the lock's cell is then lost.
        let _ = unlink(&self.lock);
    }
}

impl Shared {
    /// Whether the bytes lie in this cell.
    fn is_inline(&self) -> bool {
        self.length.load(Relaxed) <= INLINE as u64
    }

    fn token_word(&self) -> &AtomicU64 {
        // SAFETY: the cell's 48 bytes are aligned to 16. They are used as this word only where the length says that no
        // bytes lie there, and the length never changes once the handle is known.
        unsafe { &*self.inline.get().cast::<AtomicU64>() }
    }

    fn token(&self) -> Option<Token> {
        if self.is_inline() {
            return None;
        }
        NonZeroU64::new(self.token_word().load(Relaxed)).map(|bits| Token(bits.get()))
    }
}

/// A reference to shared bytes. The bytes exist, at the same address, as long as it does. Its clones, and references
/// made from its handle, see the same bytes.
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
    /// Create `length` zero bytes, committed, aligned to 16 (64 if there are more than 48).
    pub fn create(length: usize) -> Result<Self> {
        Self::init(Ref::create()?, length)
    }

    /// Create zero bytes that this lock guards, as [`create`](Self::create) does. [`lock`](Self::lock) finds the lock
    /// from every reference to the bytes.
    pub fn guarded(length: usize, lock: &Lock) -> Result<Self> {
        let object = Ref::<Shared>::create()?;
        if link(&object.lock, lock.handle())? {
            Self::init(object, length)
        } else {
            Err(Error::Stale("lock"))
        }
    }

    fn init(object: Ref<Shared>, length: usize) -> Result<Self> {
        if length > INLINE {
            let mut block = Block::alloc(length)?;
            block.as_mut_slice().fill(0);
            // DEATH: before the token is stored there is no block to discard. Then the token is stale, or the block is
            // in transit and discarded with the object.
            object.length.store(length as u64, Release);
            object.token_word().store(block.token().0, Release);
            block.send();
        } else {
            object.length.store(length as u64, Release);
        }
        Self::from_object(object)
    }

    /// The lock that the bytes were created with.
    pub fn lock(&self) -> Result<Option<Lock>> {
        let handle = Handle::from_bits(self.object.lock.load(Relaxed));
        handle.map(Lock::attach).transpose()
    }

    /// The bytes that a handle refers to. Fails if they are gone.
    pub fn attach(handle: Handle) -> Result<Self> {
        Self::from_object(Ref::attach(handle)?)
    }

    fn from_object(object: Ref<Shared>) -> Result<Self> {
        let corrupt = || Error::Corrupt("length of shared memory");
        let length = usize::try_from(object.length.load(Relaxed)).map_err(|_| corrupt())?;
        let ptr = match object.token() {
            Some(token) => Block::peek(token, length)?,
            None if object.is_inline() => object.inline.get().cast(),
            None => return Err(corrupt()),
        };
        Ok(Self { object, ptr, length })
    }

    /// The handle to send to other processes.
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
