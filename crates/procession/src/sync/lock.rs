//! A lock that guards no data: its users agree on what it protects.

use super::poison::{LockError, LockResult};
use crate::error::Ours;
use crate::label::label;
use crate::uninterrupted::uninterrupted;
#[cfg(feature = "async")]
use crate::waking::{Awaited, Watch};
use crate::wire::serde_by_handle;
use crate::{Death, Error, Result};
use procession_core::ids::Owner;
use procession_core::liveness;
use procession_core::sync;
use procession_core::sync::wait::surely;
use procession_core::Deadline;
#[cfg(feature = "async")]
use procession_core::WaitError;
use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicIsize, Ordering::SeqCst};
#[cfg(feature = "async")]
use std::task::Waker;
use std::time::Duration;

/// A lock between processes: `multiprocessing.Lock`. For data in shared memory see [`Mutex`](crate::Mutex).
///
/// If the holder dies, or drops the guard during a panic, [`LockError::Poisoned`] tells the next holder, once.
///
/// ```
/// let lock = procession::Lock::new()?;
/// let held = lock.lock()?;
/// assert!(lock.try_lock()?.is_none());
/// drop(held);
/// assert!(lock.try_lock()?.is_some());
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lock {
    inner: sync::Lock,
    #[cfg(feature = "async")]
    watch: Watch<WatchedLock>,
}

serde_by_handle!(Lock, sync::Lock, "lock", Self::of_engine);

impl Lock {
    /// Create a lock that is not held.
    #[track_caller]
    pub fn new() -> Result<Self> {
        Self::made(None)
    }

    /// Create a lock that is not held, with a name of at most 64 bytes, which errors and the `procession` command show.
    /// The rest of a longer name is left out.
    ///
    /// ```
    /// assert_eq!(procession::Lock::named("database")?.name().as_deref(), Some("database"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn named(name: &str) -> Result<Self> {
        Self::made(Some(name))
    }

    #[track_caller]
    fn made(name: Option<&str>) -> Result<Self> {
        let options = sync::Options {
            label: label(name),
            ..sync::Options::default()
        };
        sync::Lock::with(options).ours().map(Self::of_engine)
    }

    /// The name that it was made with.
    pub fn name(&self) -> Option<String> {
        self.inner.name()
    }

    pub(crate) fn engine(&self) -> &sync::Lock {
        &self.inner
    }

    pub(crate) fn of_engine(inner: sync::Lock) -> Self {
        Self {
            inner,
            #[cfg(feature = "async")]
            watch: Watch::default(),
        }
    }

    /// Wake the task once the lock is free, or its holder dead.
    #[cfg(feature = "async")]
    pub(crate) fn wake_on_release(&self, number: u64, waker: &Waker) -> Result<()> {
        self.watch.wake(|| WatchedLock(self.inner.clone()), number, waker)
    }

    #[cfg(feature = "async")]
    pub(crate) fn own_lock(&self) -> &Self {
        self
    }

    #[cfg(feature = "async")]
    pub(crate) fn watch(&self) -> &Watch<WatchedLock> {
        &self.watch
    }

    /// Take the lock, waiting for it. It is not recursive: a thread that takes it twice waits for itself.
    pub fn lock(&self) -> LockResult<LockGuard<'_>> {
        self.lock_until(Deadline::Never)
    }

    /// Take the lock, waiting no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let lock = procession::Lock::new()?;
    /// let held = lock.lock()?;
    /// assert!(lock.lock_timeout(Duration::from_millis(1)).is_err());
    /// drop(held);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<LockGuard<'_>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Take the lock if that needs no wait. `None` if it is held. The lock of a dead holder is taken, and the error
    /// says so.
    pub fn try_lock(&self) -> Result<Option<LockGuard<'_>>, LockError<LockGuard<'_>>> {
        match self.lock_until(Deadline::Now) {
            Err(LockError::Failed(Error::TimedOut)) => Ok(None),
            end => end.map(Some),
        }
    }

    /// Take the lock. Returns the last holder that died or panicked holding it, if that was not reported before.
    fn inherit(&self, deadline: Deadline) -> Result<Option<Box<Death>>> {
        let death = uninterrupted(|| self.inner.inherit_scoped(deadline))?;
        let poison = self.inner.take_poison();
        Ok(death.or(poison).map(|death| Box::new(Death::of_engine(&death))))
    }

    pub(super) fn lock_until(&self, deadline: Deadline) -> LockResult<LockGuard<'_>> {
        let death = self.inherit(deadline).map_err(LockError::Failed)?;
        let guard = LockGuard {
            lock: self,
            panicking: std::thread::panicking(),
            owner: holder(),
        };
        count(1);
        match death {
            None => Ok(guard),
            Some(death) => Err(LockError::poisoned(guard, death)),
        }
    }
}

/// A lock for which tasks wait.
#[cfg(feature = "async")]
pub(crate) struct WatchedLock(sync::Lock);

#[cfg(feature = "async")]
impl Awaited for WatchedLock {
    fn thread(&self) -> &'static str {
        "procession-lock"
    }

    fn wait(&self, deadline: Deadline, over: &dyn Fn() -> bool) -> Result<(), WaitError> {
        self.0.wait_until_free_or(deadline, over)
    }

    /// Nothing: the wait checks `over` every 25 ms.
    fn prod(&self) {}
}

/// Holds the lock while it lives. Dropping it releases the lock, and poisons it if a panic has begun in the meantime.
///
/// ```
/// let lock = procession::Lock::new()?;
/// let guard = lock.lock()?;
/// println!("only one process of those that take the lock says this at a time");
/// drop(guard);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    /// Whether the thread was already panicking when it took the lock.
    panicking: bool,
    /// The process that took the lock. A copy of the guard in a child of fork does not release it.
    owner: Option<Owner>,
}

thread_local! {
    /// The number of guards that this thread has made, minus those that it has dropped.
    static GUARDS: Guards = const { Guards(Cell::new(0)) };
}

/// The same count for the threads that have ended.
static OF_THE_ENDED: AtomicIsize = AtomicIsize::new(0);

struct Guards(Cell<isize>);

impl Drop for Guards {
    fn drop(&mut self) {
        OF_THE_ENDED.fetch_add(self.0.get(), SeqCst);
    }
}

fn count(change: isize) {
    let counted = GUARDS.try_with(|guards| guards.0.set(guards.0.get() + change));
    if counted.is_err() {
        // The thread is ending.
        OF_THE_ENDED.fetch_add(change, SeqCst);
    }
}

/// Whether any guard of this process lives or was leaked. Valid if the calling thread is the only one.
pub(crate) fn any_guard() -> bool {
    GUARDS.with(|guards| guards.0.get()) + OF_THE_ENDED.load(SeqCst) != 0
}

/// This process as a holder.
fn holder() -> Option<Owner> {
    liveness::me().ok()
}

impl LockGuard<'_> {
    /// Release the lock, run `wait`, and take the lock again. The error says that a process died holding it in the
    /// meantime. The lock is held in any case, even when `wait` panics: the guard gives access to what the lock guards.
    pub(super) fn without<T>(&mut self, wait: impl FnOnce() -> T) -> Result<T> {
        self.lock.inner.release();
        let result = catch_unwind(AssertUnwindSafe(wait));
        let death = surely(|| self.lock.inherit(Deadline::Never)).unwrap_or_else(|error| {
            // The process had its entry in the process table when it took the lock, so memory has been overwritten.
            eprintln!("procession: a lock cannot be taken again, and its guard lives: {error}");
            std::process::abort()
        });
        let result = result.unwrap_or_else(|panic| resume_unwind(panic));
        death.map_or(Ok(result), |death| Err(Error::OwnerDied(death)))
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        count(-1);
        if self.owner == holder() {
            if !self.panicking && std::thread::panicking() {
                self.lock.inner.poison();
            }
            self.lock.inner.release();
        }
    }
}
