//! What this process knows of itself: its owner, its start time, and whether it was born by fork. Leaves to `registry`
//! and `fork` how it gets them.

use crate::ids::Owner;
use crate::sys::proc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// This process's `Owner`, or zero. The child hook of fork renews it.
static ME: AtomicU32 = AtomicU32::new(0);
/// Whether this process was born by fork in the family.
static FORKED: AtomicBool = AtomicBool::new(false);
/// Start time of this process, or zero.
static START: AtomicU64 = AtomicU64::new(0);

/// This process, as an owner, if it is registered already.
#[inline]
pub(super) fn me_already() -> Option<Owner> {
    Owner::from_bits(ME.load(Ordering::Relaxed))
}

pub(super) fn become_owner(me: Option<Owner>) {
    ME.store(me.map_or(0, Owner::to_bits), Ordering::Relaxed);
}

/// Make `me` this process's owner, unless another thread registered the process meanwhile. Returns the process's owner.
pub(super) fn become_owner_first(me: Owner) -> Option<Owner> {
    match ME.compare_exchange(0, me.to_bits(), Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(me),
        Err(first) => Owner::from_bits(first),
    }
}

pub(super) fn was_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Start time of this process, as `/proc` counts.
pub(crate) fn own_start() -> u64 {
    let mut start = START.load(Ordering::Relaxed);
    if start == 0 {
        start = proc::start_time(std::process::id()).unwrap_or(0);
        START.store(start, Ordering::Relaxed);
    }
    start
}

/// Record, in a child of fork, that it is one, and its start time. Returns its parent's start time, or zero.
pub(super) fn born_by_fork(start: u64) -> u64 {
    FORKED.store(true, Ordering::Relaxed);
    START.swap(start, Ordering::Relaxed)
}
