//! `Event`: a flag that processes wait for.

use super::primitive::{AtomicU32, Ordering};
use super::wait::{EventCount, Purpose};
use crate::arena::{Label, Object, Ref};
use crate::ids::Kind;
use crate::{Deadline, Result, WaitError};

pub(super) const SET: u32 = 1;
const TIMES: u32 = 2;

/// An event's state in the arena. Word: the number of times it was set, and the flag in bit 0.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct EventState {
    pub(super) word: AtomicU32,
    event: EventCount,
}

// SAFETY: atomics only; zero is an event not set; every word is valid.
unsafe impl Object for EventState {
    const KIND: Kind = Kind::Event;
    const NAME: &'static str = "Event";
}

/// An event that processes share.
#[derive(Clone, Debug)]
pub struct Event {
    state: Ref<EventState>,
}

super::shared!(Event);

impl Event {
    /// A new event, not set.
    pub fn create() -> Result<Self> {
        Self::labelled(Label::default())
    }

    /// A new event, not set, with a label.
    pub fn labelled(label: Label<'_>) -> Result<Self> {
        Ok(Self {
            state: Ref::labelled(label)?,
        })
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.state.word.load(Ordering::Acquire) & SET != 0
    }

    /// Set it. Present waiters go on even if it is cleared at once.
    pub fn set(&self) {
        let _ = self
            .state
            .word
            .fetch_update(Ordering::Release, Ordering::Relaxed, |word| {
                (word & SET == 0).then(|| word.wrapping_add(TIMES) | SET)
            });
        // Wake also if it was set already: the process that set it may have died before its wake.
        self.state.event.notify_all();
    }

    /// Clear it.
    pub fn clear(&self) {
        self.state.word.fetch_and(!SET, Ordering::AcqRel);
    }

    /// Wait until it is set, or was set since `begun`, the value that [`begin`](Self::begin) returned. A wait that was
    /// [`Interrupted`](WaitError::Interrupted) is continued with the same `begun`.
    pub fn wait(&self, begun: u32, deadline: Deadline) -> Result<(), WaitError> {
        self.wait_or(begun, deadline, || false)
    }

    /// Wait as [`wait`](Self::wait) does, or until `over` is true. [`wake_waiters`](Self::wake_waiters) makes the waiter
    /// check `over`.
    pub fn wait_or(&self, begun: u32, deadline: Deadline, over: impl Fn() -> bool) -> Result<(), WaitError> {
        let purpose = Purpose::of(Kind::Event, Some(self.handle()));
        let ready = || (over() || self.is_set_since(begun)).then_some(());
        self.state.event.wait_for(purpose, deadline, ready)
    }

    /// Whether it is set, or was set since `begun`: then a [`wait`](Self::wait) does not wait.
    pub fn is_set_since(&self, begun: u32) -> bool {
        let word = self.state.word.load(Ordering::Acquire);
        word & SET != 0 || word & !SET != begun & !SET
    }

    /// Wake all waiters, to check what they wait for.
    pub fn wake_waiters(&self) {
        self.state.event.notify_all();
    }

    /// Return the point from which on a wait counts the calls of `set`.
    pub fn begin(&self) -> u32 {
        self.state.word.load(Ordering::Acquire)
    }
}
