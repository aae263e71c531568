//! `Semaphore`: a counter that waits at zero. With a bound it is the standard library's `BoundedSemaphore`.

use super::permit_log;
use super::permits::{Permits, SEM_VALUE_MAX};
use super::primitive::Ordering;
use super::wait::Purpose;
use super::waiters::Chunk;
use crate::arena::{Label, Ref};
use crate::ids::{Handle, Kind};
use crate::{Deadline, Result, WaitError};

/// A semaphore that processes share.
#[derive(Clone, Debug)]
pub struct Semaphore {
    state: Ref<Permits>,
    /// The accounts, if the permits of dead processes are given back.
    holders: Option<Ref<Chunk>>,
}

impl Semaphore {
    /// Create a semaphore with this value. Releases cannot bring it above `bound`. Both are at most [`SEM_VALUE_MAX`].
    pub fn create(value: u32, bound: u32) -> Result<Self> {
        Self::labelled(value, bound, Label::default())
    }

    /// As [`create`](Self::create), with a label.
    pub fn labelled(value: u32, bound: u32, label: Label<'_>) -> Result<Self> {
        let state: Ref<Permits> = Ref::labelled(label)?;
        state.bound.store(bound.min(SEM_VALUE_MAX), Ordering::Relaxed);
        state.word.store(value.min(SEM_VALUE_MAX).into(), Ordering::Release);
        Ok(Self { state, holders: None })
    }

    /// As [`create`](Self::create), but with accounts of which process took permits: what a dead process had taken and
    /// not given back is given back. It is slower, and each permit must be given back by the process that took it.
    pub fn recovering(value: u32, bound: u32) -> Result<Self> {
        Self::recovering_labelled(value, bound, Label::default())
    }

    /// As [`recovering`](Self::recovering), with a label.
    pub fn recovering_labelled(value: u32, bound: u32, label: Label<'_>) -> Result<Self> {
        let mut semaphore = Self::labelled(value, bound, label)?;
        let holders = Ref::<Chunk>::create()?;
        semaphore.state.permit_log.begin(holders.handle())?;
        semaphore.holders = Some(holders);
        Ok(semaphore)
    }

    /// The object behind a handle.
    pub fn attach(handle: Handle) -> Result<Self> {
        let state: Ref<Permits> = Ref::attach(handle)?;
        let holders = state.permit_log.holders().map(Ref::attach).transpose()?;
        Ok(Self { state, holders })
    }

    /// The handle to send.
    pub fn handle(&self) -> Handle {
        self.state.handle()
    }

    /// The name that it was made with.
    pub fn name(&self) -> Option<String> {
        self.state.name()
    }

    /// Take a permit, waiting until the deadline.
    #[inline]
    pub fn acquire(&self, deadline: Deadline) -> Result<(), WaitError> {
        if self.try_acquire()? {
            return Ok(());
        }
        let purpose = Purpose::of(Kind::Semaphore, Some(self.handle()));
        let state = &*self.state;
        match &self.holders {
            None => state.take_slowly(purpose, deadline, || Ok(state.try_take()), || ()),
            Some(holders) => {
                let take = || permit_log::take(state, holders);
                let check_deaths = || {
                    // An error comes again from `take`, which follows.
                    let _ = permit_log::reclaim(state, holders);
                };
                state.take_slowly(purpose.checking_deaths(), deadline, take, check_deaths)
            }
        }
    }

    /// Take a permit if one is free.
    #[inline]
    pub fn try_acquire(&self) -> Result<bool> {
        match &self.holders {
            None => Ok(self.state.try_take()),
            Some(holders) => permit_log::take(&self.state, holders),
        }
    }

    /// Give a permit back. False: the value is at its bound already.
    #[inline]
    pub fn release(&self) -> Result<bool> {
        match &self.holders {
            None => Ok(self.state.give()),
            Some(holders) => permit_log::give(&self.state, holders),
        }
    }

    /// The value.
    pub fn value(&self) -> u32 {
        self.state.value()
    }

    /// The value it never exceeds.
    pub fn bound(&self) -> u32 {
        self.state.bound()
    }
}
