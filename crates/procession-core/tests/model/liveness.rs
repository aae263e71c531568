//! A model of the process table. Its processes are the model's threads.

use crate::arena::{Handle, Kind};
use crate::futex::{self, AtomicU32, AtomicU64};
use crate::Result;

pub use procession_core::liveness::Owner;

/// The thread number of an owner, from 1 on.
fn number(owner: Owner) -> u32 {
    owner.to_bits() & 0xff
}

/// This thread, as a process.
#[allow(clippy::unnecessary_wraps)]
pub fn me() -> Result<Owner> {
    Ok(Owner::from_bits(1 << 15 | futex::thread_number()).expect("a generation"))
}

pub fn is_alive(owner: Owner) -> bool {
    !futex::is_dead(number(owner))
}

pub fn is_known_dead(owner: Owner) -> bool {
    !is_alive(owner)
}

pub fn looks_dead_lately(owner: Owner) -> bool {
    !is_alive(owner)
}

pub fn may_ask() -> bool {
    true
}

/// Let the calling thread die as a process does; the reaper wakes all sleepers.
pub fn die() {
    futex::die(futex::thread_number());
}

/// In the engine, dropping this withdraws the announcement.
pub struct Announced;

impl Drop for Announced {
    fn drop(&mut self) {}
}

/// Whether a wait has no deadline, and whether it begins anew.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub endless: bool,
    pub anew: bool,
}

pub fn is_abandoned(_since: u64) -> bool {
    false
}

pub fn has_root() -> bool {
    false
}

pub fn now() -> u64 {
    0
}

pub fn announce(_word: &AtomicU32, _kind: Option<Kind>, _object: Option<Handle>, _manner: Manner) -> Announced {
    Announced
}

pub fn announce_low(_word: &AtomicU64, _kind: Option<Kind>, _object: Option<Handle>, _manner: Manner) -> Announced {
    Announced
}

/// This process's place in the family.
pub struct Family;

impl Family {
    pub fn me(&self) -> Owner {
        me().expect("every thread has a place")
    }
}

pub fn family() -> Result<Family> {
    Ok(Family)
}

pub fn sweep_now_and_then() {}
