//! `RLock`: its holder may take it again, and only its holder may release it.

use super::primitive::{AtomicU32, Ordering};
use super::raw::RawLock;
use super::wait::Purpose;
use crate::arena::{Handle, Kind, Object, Ref};
use crate::roll::{self, Owner};
use crate::{Deadline, Result, WaitError};

/// A recursive lock's state in the arena.
#[repr(C)]
#[derive(Debug, Default)]
struct State {
    raw: RawLock,
    /// How often the holder took it. Only the holder writes; it starts anew at each first acquisition, so a dead holder's count does not matter.
    count: AtomicU32,
}

// SAFETY: atomics only; zero is a free lock; any word is judged by the roll, and any count is just a number.
unsafe impl Object for State {
    const KIND: Kind = Kind::RLock;
    const NAME: &'static str = "RLock";
}

/// A recursive lock that processes share; it belongs to a thread of a process.
/// When the holding process dies, exactly one waiter gets [`WaitError::OwnerDied`], and the lock is free.
#[derive(Clone, Debug)]
pub struct RLock {
    state: Ref<State>,
}

impl RLock {
    /// A new, free lock.
    pub fn create() -> Result<Self> {
        Ok(Self { state: Ref::create()? })
    }

    /// The lock behind a handle.
    pub fn attach(handle: Handle) -> Result<Self> {
        Ok(Self {
            state: Ref::attach(handle)?,
        })
    }

    /// The handle to send.
    pub fn handle(&self) -> Handle {
        self.state.handle()
    }

    /// Take the lock, waiting until the deadline, or once more.
    #[inline]
    pub fn acquire(&self, deadline: Deadline) -> Result<(), WaitError> {
        let me = roll::me()?;
        if self.state.raw.is_mine(me) {
            self.state.count.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let purpose = Purpose::of(Kind::RLock, Some(self.handle()));
        self.state.raw.acquire(me, purpose, deadline)?;
        self.state.count.store(1, Ordering::Relaxed);
        Ok(())
    }

    /// Take the lock if it is free, or once more.
    #[inline]
    pub fn try_acquire(&self) -> Result<bool> {
        let me = roll::me()?;
        if self.state.raw.is_mine(me) {
            self.state.count.fetch_add(1, Ordering::Relaxed);
            return Ok(true);
        }
        let taken = self.state.raw.try_acquire(me);
        if taken {
            self.state.count.store(1, Ordering::Relaxed);
        }
        Ok(taken)
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
        self.state.raw.release()
    }

    /// Release it altogether; how often the calling thread had taken it (zero: not at all). For [`acquire_restore`](Self::acquire_restore).
    pub fn release_save(&self) -> u32 {
        if !self.is_mine() {
            return 0;
        }
        let count = self.state.count.swap(0, Ordering::Relaxed);
        self.state.raw.release();
        count
    }

    /// Take it as often as `count` says.
    pub fn acquire_restore(&self, count: u32, deadline: Deadline) -> Result<(), WaitError> {
        self.acquire(deadline)?;
        self.state.count.store(count.max(1), Ordering::Relaxed);
        Ok(())
    }

    /// The process that holds it.
    pub fn owner(&self) -> Option<Owner> {
        self.state.raw.owner()
    }

    /// Whether the calling thread holds it.
    #[inline]
    pub fn is_mine(&self) -> bool {
        roll::me().is_ok_and(|me| self.state.raw.is_mine(me))
    }

    /// How often its holder took it.
    pub fn count(&self) -> u32 {
        self.state.count.load(Ordering::Relaxed)
    }
}
