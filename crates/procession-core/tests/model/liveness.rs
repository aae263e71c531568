//! A model of the process table. Its processes are the model's threads.

use crate::futex::{self, AtomicU32, AtomicU64};
use crate::ids::{Handle, Kind, Owner};
use crate::Result;

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

pub fn is_probably_dead(owner: Owner) -> bool {
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

impl Announced {
    pub fn awake(&self) {}

    pub fn sleeping(&self) {}
}

impl Drop for Announced {
    fn drop(&mut self) {}
}

/// Whether a wait has no deadline, whether it begins anew, and since when it lasts.
#[derive(Clone, Copy, Debug)]
pub struct WaitKind {
    pub endless: bool,
    pub anew: bool,
    pub since: u64,
    pub thread: u32,
    pub may_fail: bool,
}

pub fn deadlock(_since: u64) -> Option<String> {
    None
}

pub fn announce_join(_pid: u32, _manner: WaitKind) -> Announced {
    Announced
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

pub fn announce(_word: &AtomicU32, _kind: Option<Kind>, _object: Option<Handle>, _manner: WaitKind) -> Announced {
    Announced
}

pub fn announce_low(_word: &AtomicU64, _kind: Option<Kind>, _object: Option<Handle>, _manner: WaitKind) -> Announced {
    Announced
}

/// The family, as this process sees it.
pub struct Family;

impl Family {
    pub fn me(&self) -> Owner {
        me().expect("every thread is a process")
    }
}

pub fn family() -> Result<Family> {
    Ok(Family)
}

pub fn sweep_now_and_then() {}
