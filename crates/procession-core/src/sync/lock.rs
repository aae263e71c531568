//! `Lock`: held by one thread at a time; anybody may release it, as the standard library's.

use super::raw::RawLock;
use super::wait::Purpose;
use crate::arena::{Handle, Kind, Object, Ref};
use crate::roll::{self, Owner};
use crate::{Deadline, Result, WaitError};

/// A lock's state in the arena.
#[repr(C)]
#[derive(Debug, Default)]
struct State {
    raw: RawLock,
}

// SAFETY: atomics only; zero is a free lock; any word is judged by the roll.
unsafe impl Object for State {
    const KIND: Kind = Kind::Lock;
    const NAME: &'static str = "Lock";
}

/// A lock that processes share. When the holding process dies, exactly one waiter gets [`WaitError::OwnerDied`], and the lock is free.
#[derive(Clone, Debug)]
pub struct Lock {
    state: Ref<State>,
}

impl Lock {
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

    /// Take the lock, waiting until the deadline. Not recursive: a thread that holds it waits for itself.
    #[inline]
    pub fn acquire(&self, deadline: Deadline) -> Result<(), WaitError> {
        let purpose = Purpose::of(Kind::Lock, Some(self.handle()));
        self.state.raw.acquire(roll::me()?, purpose, deadline)
    }

    /// Take the lock if it is free.
    #[inline]
    pub fn try_acquire(&self) -> Result<bool> {
        Ok(self.state.raw.try_acquire(roll::me()?))
    }

    /// Give the lock back, whoever took it. False: nobody held it.
    #[inline]
    pub fn release(&self) -> bool {
        self.state.raw.release()
    }

    /// The process that holds it.
    pub fn owner(&self) -> Option<Owner> {
        self.state.raw.owner()
    }

    /// Whether the calling thread took it.
    pub fn is_mine(&self) -> bool {
        roll::me().is_ok_and(|me| self.state.raw.is_mine(me))
    }
}
