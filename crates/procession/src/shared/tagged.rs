//! Bytes in shared memory that say what they are for, and which locks belong to them.
//!
//! The head is a word with the tag and the number of locks, and then the handles of these. It is written before the
//! tag, and never changed. The tag is written once all else is. So a handle of one kind is never taken for one of
//! another kind, whatever serde makes of it. An [`Array`](crate::Array) has no head: its bytes have a lock of their own,
//! which these never have, and what has one is refused here.

use crate::codec::{self, refuse};
use crate::error::Ours;
use crate::sync::Lock;
use crate::{wire, Error, Plain, Result};
use procession_core::ids::Handle;
use procession_core::shared::SharedBytes;
use serde::{Deserializer, Serializer};
use std::ops::RangeInclusive;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// What the bytes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Tag {
    Constant = 1,
    Once = 2,
    RwLock = 3,
    Atomic8 = 4,
    Atomic16 = 5,
    Atomic32 = 6,
    Atomic64 = 7,
}

const WORD: usize = size_of::<u64>();
/// What the data is aligned to.
const ALIGN: usize = 16;
/// The most locks of one object.
const MOST: u32 = 1024;

/// Whether values of this type can lie in the data.
pub(crate) fn check<T: Plain>() -> Result<()> {
    if align_of::<T>() > ALIGN {
        return Err(Error::Invalid(
            "shared memory is aligned to 16 bytes, this type wants more",
        ));
    }
    if size_of::<T>() == 0 {
        return Err(Error::Invalid("a type without a size has nothing to share"));
    }
    Ok(())
}

/// The bytes, and references to their locks.
#[derive(Clone, Debug)]
pub(crate) struct Tagged {
    bytes: SharedBytes,
    locks: Vec<Lock>,
}

// What lies there decides for itself what a panic means.
impl UnwindSafe for Tagged {}
impl RefUnwindSafe for Tagged {}

/// Where the data begins behind a head with so many locks.
fn offset(locks: usize) -> usize {
    (WORD * (1 + locks)).next_multiple_of(ALIGN)
}

impl Tagged {
    /// Create `size` bytes of data, which `fill` is to write; they are zero before.
    #[track_caller]
    pub(crate) fn create(tag: Tag, guards: u32, size: usize, fill: impl FnOnce(*mut u8)) -> Result<Self> {
        if guards > MOST {
            return Err(Error::Invalid("at most 1024 locks guard one value"));
        }
        let mut locks = Vec::new();
        for _ in 0..guards {
            locks.push(Lock::new()?); // not in a closure: its label is the line of this function's caller
        }
        let whole = offset(locks.len())
            .checked_add(size)
            .ok_or(Error::Invalid("this is larger than memory can be"))?;
        let bytes = SharedBytes::create(whole).ours()?;
        let new = Self { bytes, locks };
        for (at, lock) in new.locks.iter().enumerate() {
            new.word(1 + at).store(lock.engine().handle().to_bits(), Relaxed);
        }
        fill(new.data());
        new.word(0).store((tag as u64) << 32 | new.locks.len() as u64, Release);
        Ok(new)
    }

    /// A word of the head.
    #[expect(clippy::cast_ptr_alignment, reason = "the bytes are aligned to 16")]
    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(WORD * (at + 1) <= self.bytes.len());
        // SAFETY: the callers' `at` lies in the bytes, which are aligned to 16 and live as long as `self`; the head is
        // accessed in this way only.
        unsafe { &*self.bytes.as_ptr().cast::<AtomicU64>().add(at) }
    }

    /// The start of the data.
    pub(crate) fn data(&self) -> *mut u8 {
        self.bytes.as_ptr().wrapping_add(offset(self.locks.len()))
    }

    /// The number of bytes of data.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() - offset(self.locks.len())
    }

    pub(crate) fn locks(&self) -> &[Lock] {
        &self.locks
    }

    pub(crate) fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // A message keeps the locks alive, too: a process that has the bytes finds them.
        for lock in &self.locks {
            codec::handle(lock.engine().handle());
        }
        wire::serialize(&self.bytes, to)
    }

    /// The bytes with this tag, as many locks, and this size of data.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
        tag: Tag,
        locks: RangeInclusive<u32>,
        fits: impl FnOnce(usize) -> bool,
    ) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let bytes: SharedBytes = wire::deserialize(from)?;
        let other = || Error::Invalid("this is shared memory of another type");
        Self::open(bytes, tag, locks)
            .and_then(|found| found.filter(|found| fits(found.size())).ok_or_else(other))
            .map_err(|error| D::Error::custom(refuse(error)))
    }

    fn open(bytes: SharedBytes, tag: Tag, allowed: RangeInclusive<u32>) -> Result<Option<Self>> {
        // Bytes with a lock are an array's, which may have anything where the head would be.
        if bytes.lock().ours()?.is_some() || bytes.len() < ALIGN {
            return Ok(None);
        }
        let locks = Vec::new();
        let mut found = Self { bytes, locks };
        let head = found.word(0).load(Acquire);
        let count = head as u32;
        if head >> 32 != tag as u64
            || count > MOST
            || !allowed.contains(&count)
            || found.bytes.len() < offset(count as usize)
        {
            return Ok(None);
        }
        for at in 1..=count as usize {
            let handle = Handle::from_bits(found.word(at).load(Relaxed));
            let lock = handle.ok_or(procession_core::Error::Stale("lock"));
            let lock = lock.and_then(procession_core::sync::Lock::attach).ours()?;
            found.locks.push(Lock::of_engine(lock));
        }
        Ok(Some(found))
    }
}
