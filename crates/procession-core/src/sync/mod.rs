//! Waiting, and the primitives users know: Lock, RLock, Semaphore, Condition, Event, Barrier.
//!
//! The README of this folder holds the state machines and the wake-up argument.

mod primitive;
mod spin;
pub mod wait;

/// Process-local state of this room after a fork; async-signal-safe.
pub(crate) fn after_fork_child() {}
