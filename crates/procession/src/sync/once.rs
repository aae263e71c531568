//! What is done once among all processes.

use super::poison::LockError;
use crate::shared::{Tag, Tagged};
use crate::Result;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::atomic::{AtomicU64, Ordering};

const DONE: u64 = 1;

/// Something that one process does, and for which the others wait, shaped on [`std::sync::Once`].
///
/// If the process that does it dies or panics, it is not done, and the next one does it.
///
/// ```
/// use procession::{Mutex, Once};
///
/// fn work((once, started): (Once, Mutex<u32>)) {
///     once.call_once(|| *started.lock().unwrap() += 1).unwrap();
/// }
/// let shared = (Once::new()?, Mutex::new(0)?);
/// let children = [(); 3].map(|()| procession::spawn(work, shared.clone()));
/// for child in children {
///     child?.join()?;
/// }
/// assert_eq!(shared.1.get()?, 1);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Once {
    inner: Tagged,
}

impl Once {
    /// Create what is not done yet.
    #[track_caller]
    pub fn new() -> Result<Self> {
        let inner = Tagged::create(Tag::Once, 1, size_of::<AtomicU64>(), |_| {})?;
        Ok(Self { inner })
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the data is one word (`fits`), aligned to 16, and accessed in this way only; it lives as long as
        // `self`.
        unsafe { &*self.inner.data().cast() }
    }

    /// Call `f`, unless a call has returned before, in any process. Waits while another one runs. When this returns
    /// `Ok`, it is done.
    ///
    /// `f` must not call this for the same `Once`: it would wait for itself.
    pub fn call_once(&self, f: impl FnOnce()) -> Result<()> {
        if self.is_completed() {
            return Ok(());
        }
        let lock = &self.inner.locks()[0];
        // A caller that died or panicked has not done it.
        let _held = lock.lock().or_else(LockError::into_inner)?;
        if !self.is_completed() {
            f();
            self.word().store(DONE, Ordering::Release);
        }
        Ok(())
    }

    /// Whether it is done.
    ///
    /// ```
    /// let once = procession::Once::new()?;
    /// assert!(!once.is_completed());
    /// once.call_once(|| ())?;
    /// assert!(once.is_completed());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_completed(&self) -> bool {
        self.word().load(Ordering::Acquire) == DONE
    }
}

impl Serialize for Once {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let fits = |size| size == size_of::<AtomicU64>();
        let inner = Tagged::deserialize(from, Tag::Once, 1..=1, fits)?;
        Ok(Self { inner })
    }
}
