//! The engine's raw system calls: all that take more than one line of rustix.

pub(crate) mod atfork;
pub(crate) mod fork_mutex;
pub(crate) mod futex;
pub(crate) mod limits;
pub(crate) mod memory;
pub mod notice;
pub(crate) mod observed;
pub(crate) mod pidfd;
pub mod proc;
pub mod scm;
pub mod signal;
pub mod spawn;

/// Atomics, in one place so that a model checker can swap them.
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
}
pub(crate) mod threads;
