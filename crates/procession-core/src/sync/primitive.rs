//! What waiting is built from: atomics and the futex, in one place so that a model checker can swap them.

pub(crate) use crate::sys::futex::{wait as sleep, wake, Woken};
pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
