//! What waiting is built from: atomics and the futex, in one place so that a model checker can swap them.

pub(super) use crate::sys::futex::{wait as sleep, wake, Woken};
pub(super) use std::hint::spin_loop;
pub(super) use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
