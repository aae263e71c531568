//! `Semaphore`: a counter that waits at zero. With a bound it is the standard library's `BoundedSemaphore`.

use super::primitive::{sleep, wake, AtomicU32, Ordering, Woken};
use super::spin::Spin;
use super::wait::Purpose;
use crate::arena::{Handle, Kind, Object, Ref};
use crate::{roll, Deadline, Result, WaitError};

/// Somebody may be asleep on the word.
const WAITERS: u32 = 1 << 31;
/// The greatest value of a semaphore.
pub const SEM_VALUE_MAX: u32 = i32::MAX as u32;

/// A semaphore's state in the arena. Word: value (31 bits) and the waiters bit.
#[repr(C)]
#[derive(Debug, Default)]
struct State {
    word: AtomicU32,
    /// The value it never exceeds. Written once, before anybody else sees the handle.
    bound: AtomicU32,
    spin: Spin,
}

// SAFETY: atomics only; zero is an empty semaphore; every word is a value.
unsafe impl Object for State {
    const KIND: Kind = Kind::Semaphore;
    const NAME: &'static str = "Semaphore";
}

impl State {
    #[inline]
    fn try_take(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & !WAITERS != 0 {
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

    #[cold]
    fn take_slowly(&self, purpose: Purpose, deadline: Deadline) -> Result<(), WaitError> {
        if deadline.is_over() {
            return Err(WaitError::TimedOut);
        }
        if self.spin.run(|| self.try_take().then_some(())).is_some() {
            return Ok(());
        }
        let _announced = roll::announce(&self.word, purpose.kind, purpose.object);
        loop {
            if self.try_take() {
                return Ok(());
            }
            if deadline.is_over() {
                // A wake we have eaten was for a unit that another has taken: whoever gives that one back finds the bit still set.
                return Err(WaitError::TimedOut);
            }
            // SYNC: value zero and the bit are one word: a release either sees the bit or keeps us from falling asleep.
            let announced = self
                .word
                .compare_exchange(0, WAITERS, Ordering::Relaxed, Ordering::Relaxed);
            if !matches!(announced, Ok(_) | Err(WAITERS)) {
                continue;
            }
            match sleep(&self.word, WAITERS, deadline.slice(purpose.slice)) {
                Woken::Wake | Woken::Changed | Woken::TimedOut => {}
                Woken::Interrupted => {
                    return if self.try_take() {
                        Ok(())
                    } else {
                        Err(WaitError::Interrupted)
                    };
                }
            }
        }
    }

    #[inline]
    fn give(&self) -> bool {
        let bound = self.bound.load(Ordering::Relaxed);
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & !WAITERS >= bound {
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
        if word & WAITERS != 0 {
            self.wake_one(word + 1);
        }
        true
    }

    #[cold]
    fn wake_one(&self, word: u32) {
        if wake(&self.word, 1) != 0 {
            return;
        }
        // Nobody there: save the next release the call.
        let cleared = self
            .word
            .compare_exchange(word, word & !WAITERS, Ordering::Relaxed, Ordering::Relaxed);
        if cleared.is_ok() {
            // SYNC: the value may have been zero in between, and have sent others to sleep: they are woken to announce themselves again.
            wake(&self.word, u32::MAX);
        }
    }
}

/// A semaphore that processes share.
#[derive(Clone, Debug)]
pub struct Semaphore {
    state: Ref<State>,
}

impl Semaphore {
    /// A semaphore with this value, which releases may not bring above `bound`. Both are at most [`SEM_VALUE_MAX`].
    pub fn create(value: u32, bound: u32) -> Result<Self> {
        let state: Ref<State> = Ref::create()?;
        state.bound.store(bound.min(SEM_VALUE_MAX), Ordering::Relaxed);
        state.word.store(value.min(SEM_VALUE_MAX), Ordering::Release);
        Ok(Self { state })
    }

    /// The semaphore behind a handle.
    pub fn attach(handle: Handle) -> Result<Self> {
        Ok(Self {
            state: Ref::attach(handle)?,
        })
    }

    /// The handle to send.
    pub fn handle(&self) -> Handle {
        self.state.handle()
    }

    /// Take one, waiting until the deadline.
    #[inline]
    pub fn acquire(&self, deadline: Deadline) -> Result<(), WaitError> {
        if self.state.try_take() {
            return Ok(());
        }
        let purpose = Purpose::of(Kind::Semaphore, Some(self.handle()));
        self.state.take_slowly(purpose, deadline)
    }

    /// Take one if there is one.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        self.state.try_take()
    }

    /// Give one. False: the value is at its bound already.
    #[inline]
    pub fn release(&self) -> bool {
        self.state.give()
    }

    /// The value.
    pub fn value(&self) -> u32 {
        self.state.word.load(Ordering::Relaxed) & !WAITERS
    }

    /// The value it never exceeds.
    pub fn bound(&self) -> u32 {
        self.state.bound.load(Ordering::Relaxed)
    }
}
