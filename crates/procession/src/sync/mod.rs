//! Synchronization primitives between processes, shaped on `std::sync`.
//!
//! A clone, or a copy sent as an argument or through a queue, is the same primitive.

mod barrier;
mod condvar;
mod event;
mod lock;
mod mutex;
mod once;
mod poison;
mod rwlock;
mod semaphore;

/// Atomic integers that processes share, by the names of [`std::sync::atomic`].
///
/// ```
/// use procession::sync::atomic::AtomicI64;
/// use std::sync::atomic::Ordering::SeqCst;
///
/// let lowest = AtomicI64::new(7)?;
/// lowest.fetch_min(3, SeqCst);
/// assert_eq!(lowest.load(SeqCst), 3);
/// # Ok::<(), procession::Error>(())
/// ```
pub use crate::shared::atomics as atomic;
pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::Condvar;
pub use event::Event;
pub(crate) use lock::any_guard;
pub use lock::{Lock, LockGuard};
pub use mutex::{Mutex, MutexGuard, Value};
pub use once::Once;
pub use poison::{LockError, LockResult, Poisoned};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
