//! Waiting, and the primitives users know: Lock, RLock, Semaphore, Condition, Event, Barrier.

pub mod wait;
