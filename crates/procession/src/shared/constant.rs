//! Plain data that many processes read and none changes.

use super::tagged::{check, Tag, Tagged};
use crate::{Error, Plain, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// Plain data in shared memory that is never changed, with as many owners as there are clones: an `Arc` between
/// processes. `Shared<[T]>` is a slice, `Shared<T>` one value.
///
/// A clone, or a copy sent to another process, is the same memory: only a handle travels, whatever the size. The memory
/// is given back with the last of them, or with the last process that had one. There is no lock, and none is needed.
///
/// ```
/// use procession::Shared;
///
/// fn sum(numbers: Shared<[f64]>) -> f64 {
///     numbers.iter().sum()
/// }
/// let numbers = Shared::from_fn(1_000_000, |n| n as f64)?;
/// let child = procession::spawn(sum, numbers.clone())?; // the 8 MB are not copied
/// assert_eq!(child.join()?, numbers.iter().sum());
/// # Ok::<(), procession::Error>(())
/// ```
///
/// It cannot be changed:
///
/// ```compile_fail,E0594
/// let mut numbers = procession::Shared::from_slice(&[1, 2, 3])?;
/// numbers[0] = 5;
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Shared<T: ?Sized> {
    inner: Tagged,
    data: PhantomData<T>,
}

/// A block of bytes that travels without a copy: in messages, arguments, results and tasks only its handle is sent.
///
/// ```
/// use procession::Bytes;
///
/// let image = Bytes::from_slice(&[0xff; 100_000])?;
/// let (to, from) = procession::channel()?;
/// to.send(&image)?;
/// let received: Bytes = from.recv()?;
/// assert_eq!((received.len(), received.as_ptr()), (100_000, image.as_ptr())); // the same memory
/// # Ok::<(), procession::Error>(())
/// ```
pub type Bytes = Shared<[u8]>;

// SAFETY: the data is only read once it is shared, as that of an `Arc`.
unsafe impl<T: ?Sized + Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send + Sync> Sync for Shared<T> {}

impl<T: ?Sized> UnwindSafe for Shared<T> {}
impl<T: ?Sized> RefUnwindSafe for Shared<T> {}

impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self::over(self.inner.clone())
    }
}

impl<T: ?Sized> Shared<T> {
    fn over(inner: Tagged) -> Self {
        let data = PhantomData;
        Self { inner, data }
    }

    /// Whether both are the same memory.
    ///
    /// ```
    /// use procession::Shared;
    ///
    /// let (one, other) = (Shared::new(1)?, Shared::new(1)?);
    /// assert!(Shared::ptr_eq(&one, &one.clone()) && !Shared::ptr_eq(&one, &other));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.inner.data() == other.inner.data()
    }
}

impl<T: Plain> Shared<T> {
    /// Put a value into shared memory.
    ///
    /// ```
    /// let limits = procession::Shared::new([0.5, 2.5])?;
    /// assert_eq!(limits[1], 2.5);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new(value: T) -> Result<Self> {
        Shared::<[T]>::from_slice(&[value]).map(|one| Self::over(one.inner))
    }
}

impl<T: Plain> Shared<[T]> {
    /// Copy a slice into shared memory.
    pub fn from_slice(items: &[T]) -> Result<Self> {
        Self::from_fn(items.len(), |at| items[at])
    }

    /// Create a slice in shared memory, each item by a call of `item` with its index.
    ///
    /// ```
    /// let squares = procession::Shared::from_fn(4, |n| (n * n) as u32)?;
    /// assert_eq!(*squares, [0, 1, 4, 9]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn from_fn(len: usize, mut item: impl FnMut(usize) -> T) -> Result<Self> {
        check::<T>()?;
        let size = len
            .checked_mul(size_of::<T>())
            .ok_or(Error::Invalid("the slice is larger than memory can be"))?;
        let fill = |data: *mut u8| {
            for at in 0..len {
                let value = item(at);
                // SAFETY: the data has room for `len` items and is aligned for them (`check`). No reference to it
                // exists, here or in another process, before the tag is written.
                unsafe { data.cast::<T>().add(at).write(value) }
            }
        };
        Tagged::create(Tag::Constant, 0, size, fill).map(Self::over)
    }
}

impl<T: Plain> Deref for Shared<[T]> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the data is whole items (`fits`), aligned to 16, committed, and lives as long as `self`. Any bytes are
        // a valid T. Bytes with this tag are never changed once the tag is written.
        unsafe { std::slice::from_raw_parts(self.inner.data().cast(), self.inner.size() / size_of::<T>()) }
    }
}

impl<T: Plain> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: as above, and there is one item.
        unsafe { &*self.inner.data().cast() }
    }
}

impl<T: Plain> AsRef<[T]> for Shared<[T]> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for Shared<[T]> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(to)
    }
}

fn open<'de, T: Plain, D: Deserializer<'de>>(from: D, fits: fn(usize) -> bool) -> Result<Tagged, D::Error> {
    use serde::de::Error as _;
    check::<T>().map_err(|error| D::Error::custom(crate::codec::refuse(error)))?;
    Tagged::deserialize(from, Tag::Constant, 0..=0, fits)
}

impl<'de, T: Plain> Deserialize<'de> for Shared<[T]> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        open::<T, D>(from, |size| size % size_of::<T>() == 0).map(Self::over)
    }
}

impl<'de, T: Plain> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        open::<T, D>(from, |size| size == size_of::<T>()).map(Self::over)
    }
}
