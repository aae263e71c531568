//! `Lock`: held by one thread at a time; any thread may release it, as with the standard library's.

use super::claim::Claim;
use super::death::Holder;
use super::options::{LockOptions, Options};
use super::primitive::{AtomicU32, Ordering};
use super::raw::RawLock;
use super::wait::{Attempt, Purpose};
use crate::arena::{Object, Ref};
use crate::ids::{Kind, Owner};
use crate::liveness;
use crate::trace::{self, What};
use crate::{Deadline, Death, Result, WaitError};

/// A lock's state in the arena.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct LockState {
    pub(super) raw: RawLock,
    pub(super) options: LockOptions,
    /// The process that panicked while it held the lock, until this is reported; 0: none. Written by holders only. It
    /// fits the smallest cell together with the rest.
    poison: AtomicU32,
}

// SAFETY: atomics only; zero is a free lock; the liveness of the owner in any word comes from the process table.
unsafe impl Object for LockState {
    const KIND: Kind = Kind::Lock;
    const NAME: &'static str = "Lock";
}

/// A lock that processes share. When the holding process dies, exactly one waiter learns of it.
///
/// The end of the *thread* that took it is not the holder's death: another thread may release it.
#[derive(Clone, Debug)]
pub struct Lock {
    state: Ref<LockState>,
}

super::shared!(Lock);

impl Lock {
    /// Create a free lock.
    pub fn create() -> Result<Self> {
        Self::with(Options::default())
    }

    /// Create a free lock with these options.
    pub fn with(options: Options<'_>) -> Result<Self> {
        let state: Ref<LockState> = Ref::labelled(options.beside())?;
        state.options.set(options);
        Ok(Self { state })
    }

    /// Take the lock, waiting until the deadline. Not recursive: a thread that holds it waits for itself. Returns
    /// [`OwnerDied`](WaitError::OwnerDied) if the holder died: the lock is then not ours, and free again.
    #[inline]
    pub fn acquire(&self, deadline: Deadline) -> Result<(), WaitError> {
        let death = self.inherit(deadline)?;
        self.unless(death)
    }

    /// As [`acquire`](Self::acquire), by a thread that will release the lock itself. So a deadlock is known to be one.
    #[inline]
    pub fn enter(&self, deadline: Deadline) -> Result<(), WaitError> {
        let death = self.inherit_scoped(deadline)?;
        self.unless(death)
    }

    #[inline]
    fn unless(&self, death: Option<Box<Death>>) -> Result<(), WaitError> {
        match death {
            None => Ok(()),
            Some(death) => {
                self.release();
                Err(WaitError::OwnerDied(death))
            }
        }
    }

    /// Take the lock, also from a dead holder: returns `Some` with its death, unless the lock was made to be silent
    /// about deaths.
    #[inline]
    pub fn inherit(&self, deadline: Deadline) -> Result<Option<Box<Death>>, WaitError> {
        self.inherit_as(Claim::mine()?, deadline)
    }

    /// As [`inherit`](Self::inherit), by a thread that will release the lock itself.
    #[inline]
    pub fn inherit_scoped(&self, deadline: Deadline) -> Result<Option<Box<Death>>, WaitError> {
        self.inherit_as(Claim::mine()?.scoped(), deadline)
    }

    #[inline]
    fn inherit_as(&self, me: Claim, deadline: Deadline) -> Result<Option<Box<Death>>, WaitError> {
        let purpose = Purpose::of(Kind::Lock, Some(self.handle()));
        let state = &*self.state;
        let dead = state.raw.acquire(me, Holder::Process, purpose, deadline)?;
        trace::note(What::Acquire, self.handle(), 0);
        Ok(dead.and_then(|dead| self.death(dead)))
    }

    /// The report of a holder's death, unless the lock is silent about deaths.
    #[cold]
    fn death(&self, dead: Claim) -> Option<Box<Death>> {
        let mut death = self.state.options.death(dead, LockState::NAME)?;
        death.object_name = self.state.name();
        Some(death)
    }

    /// Take the lock if that needs no wait. False: another thread holds it. Returns [`OwnerDied`](WaitError::OwnerDied)
    /// if the holder died: the lock is then not ours, and free again.
    #[inline]
    pub fn try_acquire(&self) -> Result<bool, WaitError> {
        Ok(self.try_free()? || self.acquire(Deadline::Now).or_not()?)
    }

    /// Take the lock if it is free. Does not check whether a holder lives: this is the first attempt of a caller that
    /// calls [`acquire`](Self::acquire) next.
    #[inline]
    pub fn try_free(&self) -> Result<bool> {
        Ok(self.try_free_as(Claim::mine()?))
    }

    /// As [`try_free`](Self::try_free), by a thread that will release the lock itself.
    #[inline]
    pub fn try_enter(&self) -> Result<bool> {
        Ok(self.try_free_as(Claim::mine()?.scoped()))
    }

    #[inline]
    fn try_free_as(&self, me: Claim) -> bool {
        let taken = self.state.raw.try_acquire(me);
        if taken {
            trace::note(What::Acquire, self.handle(), 0);
        }
        taken
    }

    /// Wait until the lock is free or its holder dead, or until `over` is true, which is checked every 25 ms. Takes
    /// nothing.
    pub fn wait_until_free_or(&self, deadline: Deadline, over: impl Fn() -> bool) -> Result<(), WaitError> {
        let purpose = Purpose::of(Kind::Lock, Some(self.handle()));
        self.state.raw.wait_until_free(Holder::Process, purpose, deadline, over)
    }

    /// Give the lock back, whichever thread took it. False: no thread held it.
    #[inline]
    pub fn release(&self) -> bool {
        trace::note(What::Release, self.handle(), 0);
        self.state.raw.release()
    }

    /// Record that this process panicked; the next holder that calls [`take_poison`](Self::take_poison) learns of it.
    /// The caller holds the lock.
    #[cold]
    pub fn poison(&self) {
        if let Ok(me) = liveness::me() {
            self.state.poison.store(me.to_bits(), Ordering::Relaxed);
        }
    }

    /// The panic of an earlier holder, if it was not reported yet. The caller holds the lock.
    #[inline]
    pub fn take_poison(&self) -> Option<Box<Death>> {
        // SYNC: it was written by an earlier holder, so releasing and acquiring the lock orders both.
        match self.state.poison.load(Ordering::Relaxed) {
            0 => None,
            bits => self.poisoned(bits),
        }
    }

    #[cold]
    fn poisoned(&self, bits: u32) -> Option<Box<Death>> {
        self.state.poison.store(0, Ordering::Relaxed);
        let owner = Owner::from_bits(bits)?;
        let mut death = self.state.options.panic(owner, LockState::NAME);
        death.object_name = self.state.name();
        Some(Box::new(death))
    }

    /// The process that holds it.
    pub fn owner(&self) -> Option<Owner> {
        self.state.raw.owner()
    }

    /// Whether it was taken by a thread that will release it itself.
    pub fn is_scoped(&self) -> bool {
        self.state.raw.is_scoped()
    }

    /// Whether the calling thread took it.
    pub fn is_mine(&self) -> bool {
        Claim::mine().is_ok_and(|me| self.state.raw.is_mine(me))
    }
}
