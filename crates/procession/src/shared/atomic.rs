//! Atomics in shared memory.

use super::tagged::{Tag, Tagged};
use crate::Result;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// An atomic of `std` that may lie in shared memory: those of all integers. Not `AtomicBool`, because not every byte is
/// a `bool`, and not `AtomicPtr`.
///
/// ```
/// use procession::sync::atomic::{Atomic, AtomicCell};
///
/// fn one<A: AtomicCell>(value: A::Value) -> procession::Result<Atomic<A>> {
///     Atomic::new(value)
/// }
/// let flag = one::<std::sync::atomic::AtomicU8>(1)?;
/// assert_eq!(flag.load(std::sync::atomic::Ordering::Acquire), 1);
/// # Ok::<(), procession::Error>(())
/// ```
pub trait AtomicCell: sealed::Tagging {
    /// The integer.
    type Value;

    /// An atomic with this value.
    #[doc(hidden)]
    fn made(value: Self::Value) -> Self;
}

mod sealed {
    pub trait Tagging {
        const TAG: super::Tag;
    }
}

/// An atomic integer that processes share: all methods of [`std::sync::atomic`]'s type, to which it dereferences.
/// [`sync::atomic`](crate::sync::atomic) has a name for each.
///
/// No death leaves it half changed, and no wait is needed: it is the cheapest way to share a counter or a flag.
///
/// ```
/// use procession::sync::atomic::AtomicU64;
/// use std::sync::atomic::Ordering::Relaxed;
///
/// fn count(done: AtomicU64) {
///     (0..1000).for_each(|_| drop(done.fetch_add(1, Relaxed)));
/// }
/// let done = AtomicU64::new(0)?;
/// let children = [procession::spawn(count, done.clone())?, procession::spawn(count, done.clone())?];
/// for child in children {
///     child.join()?;
/// }
/// assert_eq!(done.load(Relaxed), 2000);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Atomic<A> {
    inner: Tagged,
    cell: PhantomData<A>,
}

// SAFETY: the data is an atomic, which belongs to no thread.
unsafe impl<A> Send for Atomic<A> {}
// SAFETY: as above.
unsafe impl<A> Sync for Atomic<A> {}

impl<A> UnwindSafe for Atomic<A> {}
impl<A> RefUnwindSafe for Atomic<A> {}

impl<A> Clone for Atomic<A> {
    fn clone(&self) -> Self {
        Self::over(self.inner.clone())
    }
}

impl<A> Atomic<A> {
    fn over(inner: Tagged) -> Self {
        let cell = PhantomData;
        Self { inner, cell }
    }
}

impl<A: AtomicCell> Atomic<A> {
    /// Create an atomic with this value.
    ///
    /// ```
    /// use procession::sync::atomic::AtomicI32;
    /// use std::sync::atomic::Ordering::SeqCst;
    ///
    /// let balance = AtomicI32::new(-3)?;
    /// assert_eq!(balance.swap(5, SeqCst), -3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn new(value: A::Value) -> Result<Self> {
        // SAFETY: the data has the atomic's size, and 16 bytes' alignment; no other process knows it yet.
        let fill = |data: *mut u8| unsafe { data.cast::<A>().write(A::made(value)) };
        Tagged::create(A::TAG, 0, size_of::<A>(), fill).map(Self::over)
    }
}

impl<A: AtomicCell> Deref for Atomic<A> {
    type Target = A;
    fn deref(&self) -> &A {
        // SAFETY: the data has the atomic's size (`fits`), and is aligned to 16. It lives as long as `self`. Bytes with
        // this tag are accessed as atomics of this size only. Any bytes are a valid integer.
        unsafe { &*self.inner.data().cast() }
    }
}

impl<A: AtomicCell + fmt::Debug> fmt::Debug for Atomic<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<A> Serialize for Atomic<A> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(to)
    }
}

impl<'de, A: AtomicCell> Deserialize<'de> for Atomic<A> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Tagged::deserialize(from, A::TAG, 0..=0, |size| size == size_of::<A>()).map(Self::over)
    }
}

macro_rules! atomics {
    ($($name:ident $integer:ident $tag:ident),*) => {
        $(
            impl AtomicCell for std::sync::atomic::$name {
                type Value = $integer;

                fn made(value: $integer) -> Self {
                    Self::new(value)
                }
            }

            impl sealed::Tagging for std::sync::atomic::$name {
                const TAG: Tag = Tag::$tag;
            }
        )*

        #[doc(hidden)]
        pub mod atomics {
            pub use super::{Atomic, AtomicCell};
            $(
                #[doc = concat!("A [`std::sync::atomic::", stringify!($name), "`] that processes share.")]
                ///
                /// ```
                #[doc = concat!("let shared = procession::sync::atomic::", stringify!($name), "::new(1)?;")]
                /// assert_eq!(shared.fetch_add(1, std::sync::atomic::Ordering::Relaxed), 1);
                /// # Ok::<(), procession::Error>(())
                /// ```
                pub type $name = Atomic<std::sync::atomic::$name>;
            )*
        }
    };
}
atomics!(
    AtomicU8 u8 Atomic8, AtomicI8 i8 Atomic8, AtomicU16 u16 Atomic16, AtomicI16 i16 Atomic16, AtomicU32 u32 Atomic32,
    AtomicI32 i32 Atomic32, AtomicU64 u64 Atomic64, AtomicI64 i64 Atomic64, AtomicUsize usize Atomic64,
    AtomicIsize isize Atomic64
);
