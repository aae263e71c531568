//! `Semaphore`: a counter that waits at zero. With a bound it is the standard library's `BoundedSemaphore`.

use super::permit_log::{self, PermitLog};
use super::primitive::{wake_low, AtomicU32, AtomicU64, Ordering};
use super::spin::Spin;
use super::wait::{Check, Purpose, Sleeper};
use super::waiters::Chunk;
use crate::arena::{Object, Ref};
use crate::ids::{Handle, Kind};
use crate::{Deadline, Result, WaitError};

/// There may be sleepers on the word.
const WAITERS: u64 = 1 << 31;
const VALUE: u64 = WAITERS - 1;
/// The greatest value of a semaphore.
pub const SEM_VALUE_MAX: u32 = i32::MAX as u32;

/// A semaphore's state in the arena. Upper half of the word: the permit log's note. Lower half: the waiters bit and the
/// value (31 bits); waiters sleep on this half.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct State {
    word: AtomicU64,
    /// The value it never exceeds. Written once, before any other process sees the handle.
    bound: AtomicU32,
    spin: Spin,
    /// Which processes hold permits, if the permits of dead processes are to be given back.
    permit_log: PermitLog,
}

// SAFETY: atomics only; zero is an empty semaphore; every word is a value; the permit log's handle is checked when it
// is used.
unsafe impl Object for State {
    const KIND: Kind = Kind::Semaphore;
    const NAME: &'static str = "Semaphore";

    fn destroy(&self) {
        // Fails without a family, and without memory for this process's entry: then the chunk stays.
        let _ = self.permit_log.end();
    }
}

impl State {
    /// Take a permit, without a permit log.
    #[inline]
    fn try_take(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & VALUE != 0 {
            match self
                .word
                .compare_exchange_weak(word, word - 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Wait until `take` takes a permit; `check_deaths` is called after each slice.
    #[cold]
    fn take_slowly(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        take: impl Fn() -> Result<bool>,
        check_deaths: impl Fn(),
    ) -> Result<(), WaitError> {
        if deadline.is_over() {
            return Err(WaitError::TimedOut);
        }
        let attempt = || match take() {
            Ok(false) => None,
            end => Some(end.map(drop)),
        };
        if let Some(end) = self.spin.run(attempt) {
            return Ok(end?);
        }
        // A waiter that leaves has nothing to pass on. A wake that it consumed was for a permit that another has taken,
        // and the process that gives that permit back finds the bit still set.
        Sleeper::new(&self.word, purpose, deadline).run(|whole| {
            if whole {
                check_deaths();
            }
            if take()? {
                return Ok(Check::Over(()));
            }
            // SYNC: value zero and the bit are one word: a release either sees the bit or keeps us from falling asleep.
            let word = self.word.load(Ordering::Relaxed);
            if word & VALUE != 0 || word & WAITERS == 0 && !self.swap(word, word | WAITERS) {
                return Ok(Check::Again);
            }
            Ok(Check::Sleep(WAITERS as u32))
        })
    }

    /// Give a permit back, without a permit log.
    #[inline]
    fn give(&self) -> bool {
        let bound = u64::from(self.bound().min(SEM_VALUE_MAX));
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & VALUE >= bound {
                return false;
            }
            match self
                .word
                .compare_exchange_weak(word, word + 1, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        self.wake_after_release(word + 1);
        true
    }

    /// The word, for the permit log.
    pub(super) fn load(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    /// Change the word; false if it is no longer `from`.
    pub(super) fn swap(&self, from: u64, to: u64) -> bool {
        self.word
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// The value in a word.
    pub(super) fn value_of(word: u64) -> u32 {
        (word & VALUE) as u32
    }

    fn value(&self) -> u32 {
        Self::value_of(self.word.load(Ordering::Relaxed))
    }

    pub(super) fn bound(&self) -> u32 {
        self.bound.load(Ordering::Relaxed)
    }

    /// Wake a sleeper if `word`, the value that the release left, says that there may be one.
    #[inline]
    pub(super) fn wake_after_release(&self, word: u64) {
        if word & WAITERS != 0 {
            self.wake_one(word);
        }
    }

    /// Wake all sleepers to check the value.
    pub(super) fn wake_all(&self) {
        wake_low(&self.word, u32::MAX);
    }

    #[cold]
    fn wake_one(&self, word: u64) {
        if wake_low(&self.word, 1) != 0 {
            return;
        }
        // No waiter was asleep: save the next release the system call.
        let cleared = self
            .word
            .compare_exchange(word, word & !WAITERS, Ordering::Relaxed, Ordering::Relaxed);
        if cleared.is_ok() {
            // SYNC: the value may have been zero in between, and others may have gone to sleep: they are woken to
            // announce themselves again.
            self.wake_all();
        }
    }
}

/// A semaphore that processes share.
#[derive(Clone, Debug)]
pub struct Semaphore {
    state: Ref<State>,
    /// The accounts, if the permits of dead processes are given back.
    holders: Option<Ref<Chunk>>,
}

impl Semaphore {
    /// Create a semaphore with this value. Releases cannot bring it above `bound`. Both are at most [`SEM_VALUE_MAX`].
    pub fn create(value: u32, bound: u32) -> Result<Self> {
        let state: Ref<State> = Ref::create()?;
        state.bound.store(bound.min(SEM_VALUE_MAX), Ordering::Relaxed);
        state.word.store(value.min(SEM_VALUE_MAX).into(), Ordering::Release);
        Ok(Self { state, holders: None })
    }

    /// As [`create`](Self::create), but with accounts of which process took permits: what a dead process had taken and
    /// not given back is given back. It is slower, and each permit must be given back by the process that took it.
    pub fn recovering(value: u32, bound: u32) -> Result<Self> {
        let mut semaphore = Self::create(value, bound)?;
        let holders = Ref::<Chunk>::create()?;
        semaphore.state.permit_log.begin(holders.handle())?;
        semaphore.holders = Some(holders);
        Ok(semaphore)
    }

    /// The object behind a handle.
    pub fn attach(handle: Handle) -> Result<Self> {
        let state: Ref<State> = Ref::attach(handle)?;
        let holders = state.permit_log.holders().map(Ref::attach).transpose()?;
        Ok(Self { state, holders })
    }

    /// The handle to send.
    pub fn handle(&self) -> Handle {
        self.state.handle()
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
                    permit_log::reclaim(state, holders);
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
