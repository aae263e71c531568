//! A value that many processes read at once, or one changes.
//!
//! The value has a number of locks, one for each reader that may read at the same time. A reader takes any one of them;
//! a writer takes all, in their order, so two writers never wait for each other. Each lock names its holder and is
//! taken from a dead one, so neither a dead reader nor a dead writer keeps the others away, and nothing but these locks
//! decides which processes may look at the value. A word before the value names the process that writes. A process that
//! holds one of the locks and finds a name there knows that this process died or panicked while it wrote: had it been
//! done, it would have removed the name, and while it writes it holds all locks.

use super::lock::LockGuard;
use super::poison::{LockError, LockResult};
use crate::shared::{check, Tag, Tagged};
use crate::{Death, Error, Plain, Result};
use procession_core::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{fence, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Readers at once, if the program does not say how many.
const READERS: u32 = 16;
/// Where the value lies behind the writer's word.
const VALUE: usize = 16;
const PANICKED: u64 = 1 << 32;

/// A plain value in shared memory that many processes read at the same time, or one changes, shaped on
/// [`std::sync::RwLock`].
///
/// `T` is plain data ([`Plain`]). Up to 16 readers read at once ([`with_readers`](Self::with_readers) makes it more or
/// fewer), threads and processes alike; the next one waits for one of these.
///
/// A reader takes one lock, as a [`Mutex`](crate::Mutex) does; a writer takes one for each reader there may be. A writer
/// that waits keeps new readers away little by little, so it is not starved. A thread that has a guard must not ask for
/// another one: it may wait for itself.
///
/// If a reader dies, nothing happens. If a writer dies or panics, [`LockError::Poisoned`](crate::LockError) tells all
/// readers, until a writer takes the lock, which is told too, and can repair the value.
///
/// ```
/// use procession::RwLock;
///
/// fn read(limits: RwLock<[f64; 2]>) -> f64 {
///     let limits = limits.read().unwrap(); // beside other readers
///     limits[0] + limits[1]
/// }
/// let limits = RwLock::new([1.0, 2.0])?;
/// let children = [(); 2].map(|()| procession::spawn(read, limits.clone()));
/// for child in children {
///     assert_eq!(child?.join()?, 3.0);
/// }
/// limits.write()?[0] = 5.0;
/// assert_eq!(limits.get()?, [5.0, 2.0]);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct RwLock<T> {
    inner: Tagged,
    value: PhantomData<T>,
}

// SAFETY: the value is reached only through the locks' guards.
unsafe impl<T: Send> Send for RwLock<T> {}
// SAFETY: as above; several guards at once give shared access only.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

// A panic while the value is half changed poisons the lock.
impl<T> UnwindSafe for RwLock<T> {}
impl<T> RefUnwindSafe for RwLock<T> {}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> Self {
        Self::over(self.inner.clone())
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let readers = self.inner.locks().len();
        f.debug_struct("RwLock")
            .field("readers", &readers)
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// Where this thread looks for a free lock first: threads, and processes, begin at different places.
    static HOME: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id() as usize)
    };
}

/// A lock, whatever held it last, and the death of that holder.
type Held<'a> = (LockGuard<'a>, Option<Box<Death>>);

/// The guard, also of a lock whose holder died: the writer's word says whether it wrote.
fn held(taken: LockResult<LockGuard<'_>>) -> Result<Held<'_>> {
    match taken {
        Ok(guard) => Ok((guard, None)),
        Err(LockError::Poisoned(poisoned)) => {
            let death = poisoned.death().clone();
            Ok((poisoned.into_inner(), Some(Box::new(death))))
        }
        Err(LockError::Failed(error)) => Err(error),
    }
}

impl<T> RwLock<T> {
    fn over(inner: Tagged) -> Self {
        let value = PhantomData;
        Self { inner, value }
    }

    /// The process that writes; 0: none.
    fn writer(&self) -> &AtomicU64 {
        // SAFETY: the data begins with this word, aligned to 16 and accessed in this way only. It lives as long as
        // `self`.
        unsafe { &*self.inner.data().cast() }
    }

    fn value(&self) -> *mut T {
        self.inner.data().wrapping_add(VALUE).cast()
    }

    /// The guard that `make` makes, or the news of a dead writer with it. The caller holds one of the locks.
    fn told<G>(&self, death: Option<Box<Death>>, make: impl FnOnce() -> G) -> LockResult<G> {
        match self.writer().load(Ordering::Acquire) {
            0 => Ok(make()),
            word => {
                let death = Death::of_writer(word as u32, word & PANICKED != 0, "RwLock", death);
                Err(LockError::poisoned(make(), Box::new(death)))
            }
        }
    }

    /// Take one of the locks.
    fn take_one(&self, deadline: Deadline) -> Result<Held<'_>> {
        let locks = self.inner.locks();
        let home = HOME.with(|home| home % locks.len());
        for at in (home..locks.len()).chain(0..home) {
            match held(locks[at].lock_until(Deadline::Now)) {
                Err(Error::TimedOut) => {}
                end => return end,
            }
        }
        held(locks[home].lock_until(deadline))
    }

    /// Take all locks, in their order.
    fn take_all(&self, deadline: Deadline) -> Result<(Vec<LockGuard<'_>>, Option<Box<Death>>)> {
        let writer = self.writer().load(Ordering::Relaxed) as u32;
        let (mut guards, mut death) = (Vec::new(), None);
        for lock in self.inner.locks() {
            let (guard, found) = held(lock.lock_until(deadline))?;
            guards.push(guard);
            death = death.or(found.filter(|found| found.pid == writer));
        }
        Ok((guards, death))
    }
}

impl<T: Plain> RwLock<T> {
    /// Create a value in shared memory that up to 16 readers read at once.
    #[track_caller]
    pub fn new(value: T) -> Result<Self> {
        Self::with_readers(value, READERS)
    }

    /// Create a value in shared memory that up to `readers` readers read at once; at most 1024. Each costs 64 bytes, and
    /// each write the time of one more lock.
    ///
    /// ```
    /// let one = procession::RwLock::with_readers(7_u32, 1)?;
    /// let guard = one.read()?;
    /// assert!(one.try_read()?.is_none(), "there is one reader");
    /// drop(guard);
    /// assert!(one.try_read()?.is_some());
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn with_readers(value: T, readers: u32) -> Result<Self> {
        check::<T>()?;
        if readers == 0 {
            return Err(Error::Invalid("without readers there is no need of an RwLock"));
        }
        // SAFETY: the data has room for the value behind the word, aligned to 16. No other process knows it yet.
        let fill = |data: *mut u8| unsafe { data.add(VALUE).cast::<T>().write(value) };
        Tagged::create(Tag::RwLock, readers, VALUE + size_of::<T>(), fill).map(Self::over)
    }

    /// Read, beside other readers. Waits while a writer has the lock.
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Deadline::Never)
    }

    /// Read, waiting no longer than `timeout`.
    pub fn read_timeout(&self, timeout: Duration) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Deadline::after(timeout))
    }

    /// Read if that needs no wait. `None` if a writer has the lock, or as many readers as there may be.
    pub fn try_read(&self) -> Result<Option<RwLockReadGuard<'_, T>>, LockError<RwLockReadGuard<'_, T>>> {
        or_none(self.read_until(Deadline::Now))
    }

    /// Take the lock for writing. Waits for the readers and for other writers.
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Deadline::Never)
    }

    /// Take the lock for writing, waiting no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let lock = procession::RwLock::new(0)?;
    /// let reader = lock.read_timeout(Duration::from_secs(60))?;
    /// assert!(lock.write_timeout(Duration::from_millis(1)).is_err());
    /// # drop(reader);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn write_timeout(&self, timeout: Duration) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Deadline::after(timeout))
    }

    /// Take the lock for writing if that needs no wait. `None` if another one reads or writes.
    ///
    /// ```
    /// let lock = procession::RwLock::new(1)?;
    /// let reader = lock.read()?;
    /// assert!(lock.try_write()?.is_none() && lock.try_read()?.is_some());
    /// drop(reader);
    /// *lock.try_write()?.expect("no one reads") = 2;
    /// assert_eq!(lock.get()?, 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_write(&self) -> Result<Option<RwLockWriteGuard<'_, T>>, LockError<RwLockWriteGuard<'_, T>>> {
        or_none(self.write_until(Deadline::Now))
    }

    /// A copy of the value.
    pub fn get(&self) -> Result<T> {
        Ok(*self.read()?)
    }

    /// Replace the value.
    ///
    /// ```
    /// let limit = procession::RwLock::new(1)?;
    /// limit.set(5)?;
    /// assert_eq!(limit.get()?, 5);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn set(&self, value: T) -> Result<()> {
        *self.write()? = value;
        Ok(())
    }

    fn read_until(&self, deadline: Deadline) -> LockResult<RwLockReadGuard<'_, T>> {
        let (held, death) = self.take_one(deadline).map_err(LockError::Failed)?;
        self.told(death, || RwLockReadGuard {
            value: self.value(),
            _held: held,
            borrow: PhantomData,
        })
    }

    fn write_until(&self, deadline: Deadline) -> LockResult<RwLockWriteGuard<'_, T>> {
        let (held, death) = self.take_all(deadline).map_err(LockError::Failed)?;
        self.told(death, || {
            self.writer().store(std::process::id().into(), Ordering::Relaxed);
            // The name is there before anything of the value is changed.
            fence(Ordering::SeqCst);
            RwLockWriteGuard {
                lock: self,
                panicking: std::thread::panicking(),
                _held: held,
            }
        })
    }
}

fn or_none<G>(taken: LockResult<G>) -> Result<Option<G>, LockError<G>> {
    match taken {
        Err(LockError::Failed(Error::TimedOut)) => Ok(None),
        end => end.map(Some),
    }
}

/// Shared access to an [`RwLock`]'s value. Dropping it releases the lock.
///
/// ```
/// let lock = procession::RwLock::new(7)?;
/// let (one, other) = (lock.read()?, lock.read()?);
/// assert_eq!(*one, *other);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct RwLockReadGuard<'a, T> {
    value: *const T,
    _held: LockGuard<'a>,
    borrow: PhantomData<&'a T>,
}

// SAFETY: threads that share the guard only read the value.
unsafe impl<T: Sync> Sync for RwLockReadGuard<'_, T> {}

impl<T: Plain> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the value lies in committed, 16-byte aligned bytes that live as long as the borrow of the lock. Any
        // content is valid. One of the locks is held, and a writer holds all.
        unsafe { &*self.value }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Exclusive access to an [`RwLock`]'s value. Dropping it releases the lock, and poisons it if a panic has begun in the
/// meantime.
///
/// ```
/// let lock = procession::RwLock::new([1, 2])?;
/// let mut guard = lock.write()?;
/// guard.swap(0, 1); // no other process sees the half of it
/// drop(guard);
/// assert_eq!(lock.get()?, [2, 1]);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct RwLockWriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    /// Whether the thread was already panicking when it took the lock.
    panicking: bool,
    _held: Vec<LockGuard<'a>>,
}

impl<T: Plain> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: as for readers; all locks are held.
        unsafe { &*self.lock.value() }
    }
}

impl<T: Plain> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value() }
    }
}

impl<T> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        let me = u64::from(std::process::id());
        // A copy of the guard in a child of fork ends nothing.
        if self.lock.writer().load(Ordering::Relaxed) != me {
            return;
        }
        let panicked = !self.panicking && std::thread::panicking();
        let left = if panicked { me | PANICKED } else { 0 };
        self.lock.writer().store(left, Ordering::Release);
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Serialize for RwLock<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(to)
    }
}

impl<'de, T: Plain> Deserialize<'de> for RwLock<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        check::<T>().map_err(|error| D::Error::custom(crate::codec::refuse(error)))?;
        let fits = |size| size == VALUE + size_of::<T>();
        Tagged::deserialize(from, Tag::RwLock, 1..=u32::MAX, fits).map(Self::over)
    }
}
