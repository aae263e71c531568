//! Waiting, and the primitives users know: `Lock`, `RLock`, `Semaphore`, `Condition`, `Event`, `Barrier`.
//!
//! The README of this folder holds the state machines and the wake-up argument.

mod barrier;
mod condition;
mod event;
mod lock;
pub(crate) mod primitive;
mod raw;
mod rlock;
mod semaphore;
mod spin;
pub mod wait;
mod waiters;

pub use barrier::{Arrival, Barrier, BarrierError, Last, Participant};
pub use condition::{Condition, Waiter};
pub use event::Event;
pub use lock::Lock;
pub use rlock::RLock;
pub use semaphore::{Semaphore, SEM_VALUE_MAX};

/// The states that refer to other objects, for `reclaim` to end.
pub(crate) mod ending {
    pub(crate) type Barrier = super::barrier::State;
    pub(crate) type Chunk = super::waiters::Chunk;
    pub(crate) type Condition = super::condition::State;
}

/// Process-local state of this room after a fork; async-signal-safe.
pub(crate) fn after_fork_child() {}

#[cfg(test)]
mod tests;
