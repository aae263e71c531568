//! An array of plain data in shared memory, with its own lock.

use crate::codec::refuse;
use crate::error::Ours;
use crate::sync::{Lock, LockError, LockGuard, LockResult};
use crate::{wire, Error, Plain, Result};
use procession_core::shared::SharedBytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// A lock and the plain data it guards, in shared memory: `multiprocessing.Array` shaped on `std::sync::Mutex`.
///
/// `T` is plain data ([`Plain`](crate::Plain)): another process of the family could write any bytes, so any bytes must be
/// a valid `T`.
///
/// ```
/// let squares = procession::Array::<u64>::new(&[1, 2, 3])?;
/// for item in squares.lock()?.iter_mut() {
///     *item *= *item;
/// }
/// assert_eq!(squares.to_vec()?, [1, 4, 9]);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Array<T> {
    lock: Lock,
    bytes: SharedBytes,
    items: PhantomData<T>,
}

// SAFETY: the data is reached only through the lock's guard.
unsafe impl<T: Send> Send for Array<T> {}
// SAFETY: as above; the guard gives exclusive access.
unsafe impl<T: Send> Sync for Array<T> {}

// A panic while the items are half changed poisons the lock.
impl<T> UnwindSafe for Array<T> {}
impl<T> RefUnwindSafe for Array<T> {}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self {
            lock: self.lock.clone(),
            bytes: self.bytes.clone(),
            items: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.len();
        f.debug_struct("Array").field("bytes", &bytes).finish_non_exhaustive()
    }
}

#[cfg(feature = "async")]
impl<T> Array<T> {
    pub(crate) fn own_lock(&self) -> &Lock {
        &self.lock
    }
}

impl<T: Plain> Array<T> {
    /// Create an array with a copy of `items`.
    #[track_caller]
    pub fn new(items: &[T]) -> Result<Self> {
        let array = Self::zeroed(items.len())?;
        array.lock()?.copy_from_slice(items);
        Ok(array)
    }

    /// Create an array of `len` zeroes.
    ///
    /// ```
    /// let counts = procession::Array::<u32>::zeroed(3)?;
    /// assert_eq!((counts.len(), counts.is_empty(), counts.to_vec()?), (3, false, vec![0, 0, 0]));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn zeroed(len: usize) -> Result<Self> {
        let lock = Lock::new();
        Self::guarded_by(len, lock)
    }

    /// As [`new`](Self::new), with a name for the lock, as [`Lock::named`](crate::Lock::named).
    ///
    /// ```
    /// let counts = procession::Array::named("counts", &[0_u32; 4])?;
    /// assert_eq!(counts.len(), 4);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn named(name: &str, items: &[T]) -> Result<Self> {
        let lock = Lock::named(name);
        let array = Self::guarded_by(items.len(), lock)?;
        array.lock()?.copy_from_slice(items);
        Ok(array)
    }

    fn guarded_by(len: usize, lock: Result<Lock>) -> Result<Self> {
        Self::check()?;
        let size = len
            .checked_mul(size_of::<T>())
            .ok_or(Error::Invalid("the array is larger than memory can be"))?;
        let lock = lock?;
        Ok(Self {
            bytes: SharedBytes::guarded(size, lock.engine()).ours()?,
            lock,
            items: PhantomData,
        })
    }

    fn check() -> Result<()> {
        if align_of::<T>() > 16 {
            return Err(Error::Invalid(
                "shared memory is aligned to 16 bytes, this type wants more",
            ));
        }
        if size_of::<T>() == 0 {
            return Err(Error::Invalid("a type without a size has nothing to share"));
        }
        Ok(())
    }

    /// Take the lock, waiting for it. If a holder died or panicked, [`LockError::Poisoned`](crate::LockError) tells the
    /// next holder, once.
    pub fn lock(&self) -> LockResult<ArrayGuard<'_, T>> {
        self.guarded(self.lock.lock())
    }

    /// Take the lock, waiting no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let counts = procession::Array::<u32>::zeroed(3)?;
    /// let held = counts.lock()?;
    /// assert!(counts.lock_timeout(Duration::from_millis(1)).is_err());
    /// # drop(held);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<ArrayGuard<'_, T>> {
        self.guarded(self.lock.lock_timeout(timeout))
    }

    /// Take the lock if that needs no wait. `None` if it is held. The lock of a dead holder is taken, and the error says
    /// so.
    ///
    /// ```
    /// let scores = procession::Array::new(&[3, 1, 2])?;
    /// if let Some(mut guard) = scores.try_lock()? {
    ///     guard[0] = 4;
    /// }
    /// assert_eq!(scores.to_vec()?, [4, 1, 2]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_lock(&self) -> Result<Option<ArrayGuard<'_, T>>, LockError<ArrayGuard<'_, T>>> {
        match self.lock.try_lock() {
            Ok(held) => Ok(held.map(|held| self.guard(held))),
            Err(error) => Err(error.map(|held| self.guard(held))),
        }
    }

    fn guarded<'a>(&'a self, held: LockResult<LockGuard<'a>>) -> LockResult<ArrayGuard<'a, T>> {
        let guard = |held| self.guard(held);
        held.map(guard).map_err(|error| error.map(guard))
    }

    fn guard<'a>(&'a self, held: LockGuard<'a>) -> ArrayGuard<'a, T> {
        ArrayGuard {
            held,
            ptr: self.bytes.as_ptr().cast(),
            len: self.len(),
            items: PhantomData,
        }
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.bytes.len() / size_of::<T>()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of the items, taken under the lock.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        Ok(self.lock()?.to_vec())
    }
}

/// Exclusive access to an [`Array`]'s data. Dropping it releases the lock.
///
/// ```
/// let scores = procession::Array::new(&[3, 1, 2])?;
/// let mut guard = scores.lock()?;
/// guard.sort_unstable(); // it is a slice
/// assert_eq!(*guard, [1, 2, 3]);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct ArrayGuard<'a, T> {
    held: LockGuard<'a>,
    ptr: *mut T,
    len: usize,
    items: PhantomData<&'a mut [T]>,
}

// SAFETY: threads that share the guard only read the data.
unsafe impl<T: Sync> Sync for ArrayGuard<'_, T> {}

impl<T: Plain + fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<'a, T> ArrayGuard<'a, T> {
    pub(crate) fn held(&mut self) -> &mut LockGuard<'a> {
        &mut self.held
    }
}

impl<T: Plain> Deref for ArrayGuard<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `ptr` is the start of len * size_of::<T>() committed, 16-byte aligned bytes that live as long as the
        // borrow of the array. T is plain data, so any content is valid. The lock is held, so no writer that respects
        // it is active.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl<T: Plain> DerefMut for ArrayGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the guard is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.ptr, self.len) }
    }
}

wire::shared!(SharedBytes, "array");

// One handle, which leads to the lock too: with separate handles, two arrays could share bytes but not the lock that
// guards them.
impl<T> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        wire::serialize(&self.bytes, to)
    }
}

impl<'de, T: Plain> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        Self::check().map_err(|error| D::Error::custom(refuse(error)))?;
        let bytes: SharedBytes = wire::deserialize(from)?;
        let lock = bytes
            .lock()
            .map_err(|error| D::Error::custom(refuse(crate::Error::engine(error))))?;
        let lock = lock.ok_or_else(|| D::Error::custom(refuse(crate::Error::Invalid("these bytes have no lock"))))?;
        Ok(Self {
            lock: Lock::of_engine(lock),
            bytes,
            items: PhantomData,
        })
    }
}
