//! `RLock`: its holder may take it again, and only its holder may release it.

use super::claim::Claim;
use super::death::Holder;
use super::options::{LockOptions, Options};
use super::primitive::{AtomicU32, Ordering};
use super::raw::RawLock;
use super::wait::{Attempt, Purpose};
use crate::arena::{Object, Ref};
use crate::ids::{Kind, Owner};
use crate::trace::{self, What};
use crate::{Deadline, Death, Result, WaitError};

/// A recursive lock's state in the arena.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct RLockState {
    pub(super) raw: RawLock,
    /// How often the holder took it. Only the holder writes; each first acquisition sets it anew, so a dead holder's
    /// count does not matter.
    pub(super) count: AtomicU32,
    pub(super) options: LockOptions,
}

// SAFETY: atomics only; zero is a free lock; the liveness of the owner in any word comes from the process table, and
// any count is valid.
unsafe impl Object for RLockState {
    const KIND: Kind = Kind::RLock;
    const NAME: &'static str = "RLock";
}

/// A recursive lock that processes share; it belongs to a thread of a process. When the holding process dies, or the
/// thread ends, exactly one waiter learns of it.
#[derive(Clone, Debug)]
pub struct RLock {
    state: Ref<RLockState>,
}

super::shared!(RLock);

impl RLock {
    /// Create a free lock.
    pub fn create() -> Result<Self> {
        Self::with(Options::default())
    }

    /// Create a free lock with these options.
    pub fn with(options: Options<'_>) -> Result<Self> {
        let state: Ref<RLockState> = Ref::labelled(options.beside())?;
        state.options.set(options);
        Ok(Self { state })
    }

    /// Take the lock, waiting until the deadline, or take it once more. Returns [`OwnerDied`](WaitError::OwnerDied) if
    /// the holder died: the lock is then not ours, and free again.
    #[inline]
    pub fn acquire(&self, deadline: Deadline) -> Result<(), WaitError> {
        match self.inherit(deadline)? {
            None => Ok(()),
            Some(death) => {
                self.release();
                Err(WaitError::OwnerDied(death))
            }
        }
    }

    /// Take the lock, or take it once more, also from a dead holder: returns `Some` with its death, unless the lock was
    /// made to be silent about deaths.
    #[inline]
    pub fn inherit(&self, deadline: Deadline) -> Result<Option<Box<Death>>, WaitError> {
        let (me, state) = (Claim::mine()?, &*self.state);
        if self.take_again(me) {
            return Ok(None);
        }
        let purpose = Purpose::of(Kind::RLock, Some(self.handle()));
        let dead = state.raw.acquire(me, Holder::Thread, purpose, deadline)?;
        state.count.store(1, Ordering::Relaxed);
        trace::note(What::Acquire, self.handle(), 0);
        Ok(dead.and_then(|dead| self.death(dead)))
    }

    /// The report of a holder's death, unless the lock is silent about deaths.
    #[cold]
    fn death(&self, dead: Claim) -> Option<Box<Death>> {
        let mut death = self.state.options.death(dead, RLockState::NAME)?;
        death.object_name = self.state.name();
        Some(death)
    }

    /// Take the lock if that needs no wait, or take it once more. False: another thread holds it. Returns
    /// [`OwnerDied`](WaitError::OwnerDied) if the holder died: the lock is then not ours, and free again.
    #[inline]
    pub fn try_acquire(&self) -> Result<bool, WaitError> {
        Ok(self.try_free()? || self.acquire(Deadline::Now).or_not()?)
    }

    /// Take the lock if it is free, or take it once more. Does not check whether a holder lives: this is the first
    /// attempt of a caller that calls [`acquire`](Self::acquire) next.
    #[inline]
    pub fn try_free(&self) -> Result<bool> {
        let me = Claim::mine()?;
        if self.take_again(me) {
            return Ok(true);
        }
        let taken = self.state.raw.try_acquire(me);
        if taken {
            self.state.count.store(1, Ordering::Relaxed);
            trace::note(What::Acquire, self.handle(), 0);
        }
        Ok(taken)
    }

    /// Run `access` while the lock is held, if that needs no wait; `None`: it did not run. Cheaper than taking and
    /// releasing the lock, for an `access` that does not use the lock itself and does not panic. As with
    /// [`try_free`](Self::try_free), a waiting caller calls [`acquire`](Self::acquire) next.
    #[inline]
    pub fn try_hold<T>(&self, access: impl FnOnce() -> T) -> Option<T> {
        let (me, state) = (Claim::mine().ok()?, &*self.state);
        if state.raw.is_mine(me) {
            return Some(access());
        }
        if !state.raw.try_acquire(me) {
            return None;
        }
        state.count.store(1, Ordering::Relaxed);
        trace::note(What::Acquire, self.handle(), 0);
        let result = access();
        state.count.store(0, Ordering::Relaxed);
        trace::note(What::Release, self.handle(), 0);
        state.raw.release();
        Some(result)
    }

    #[inline]
    fn take_again(&self, me: Claim) -> bool {
        let mine = self.state.raw.is_mine(me);
        if mine {
            let count = self.state.count.load(Ordering::Relaxed);
            self.state.count.store(count.wrapping_add(1), Ordering::Relaxed);
        }
        mine
    }

    /// Release it once. False: the calling thread does not hold it.
    #[inline]
    pub fn release(&self) -> bool {
        if !self.is_mine() {
            return false;
        }
        let count = self.state.count.load(Ordering::Relaxed);
        if count > 1 {
            self.state.count.store(count - 1, Ordering::Relaxed);
            return true;
        }
        self.state.count.store(0, Ordering::Relaxed);
        trace::note(What::Release, self.handle(), 0);
        self.state.raw.release()
    }

    /// Release it completely. Returns how often the calling thread had taken it (zero: not at all), for
    /// [`inherit_restore`](Self::inherit_restore).
    pub fn release_save(&self) -> u32 {
        if !self.is_mine() {
            return 0;
        }
        let count = self.state.count.swap(0, Ordering::Relaxed);
        trace::note(What::Release, self.handle(), 0);
        self.state.raw.release();
        count
    }

    /// As [`inherit`](Self::inherit), and set the count of acquisitions to `count`.
    pub fn inherit_restore(&self, count: u32, deadline: Deadline) -> Result<Option<Box<Death>>, WaitError> {
        let death = self.inherit(deadline)?;
        self.state.count.store(count.max(1), Ordering::Relaxed);
        Ok(death)
    }

    /// The process that holds it.
    pub fn owner(&self) -> Option<Owner> {
        self.state.raw.owner()
    }

    /// Whether the calling thread holds it.
    #[inline]
    pub fn is_mine(&self) -> bool {
        Claim::mine().is_ok_and(|me| self.state.raw.is_mine(me))
    }

    /// How often its holder took it.
    pub fn count(&self) -> u32 {
        self.state.count.load(Ordering::Relaxed)
    }
}
