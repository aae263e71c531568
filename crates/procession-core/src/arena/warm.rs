//! Idle memory: when it is given back, and what happens when the system has no more to give.
//!
//! Freed memory stays committed for a while, because touching a page for the first time costs several times what using
//! it again does. A process that waits in the engine gives it back once it has been idle for [`IDLE`]. Where no process
//! waits, one that frees more than a bound gives it back at once, except memory that is in constant reuse.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

use super::class::{bytes_of, CLASSES};
use super::current::here;
use super::idle::WARM;
use super::reference_log::assert_may_end_objects;
use super::slab::{Cell, Slab};
use super::Arena;
use crate::hooks::hooks;
use crate::sys::{limits, memory};
use crate::{Error, Result};

/// How long memory is idle before a waiting process gives it back, in milliseconds.
const IDLE: u64 = 300;
/// Least time between two looks for idle memory, in milliseconds.
const BETWEEN: u64 = 200;
/// Bytes that may be idle besides as many as are in use.
const KEEP: u64 = 8 << 20;

/// Memory limits are looked up each time this many more bytes were committed.
const LOOK_AFTER: u64 = 1 << 20;
/// Bytes that are left to other programs when memory is short.
const RESERVE: u64 = 8 << 20;
/// Bytes that may stay warm on any machine with four times as much memory.
const KEEP_WARM: u64 = 256 << 20;

/// Bytes this process committed since limits were last looked up.
static UNLOOKED: AtomicU64 = AtomicU64::new(0);
/// Bytes that may be idle; 0 = not computed yet.
static MAY_IDLE: AtomicU64 = AtomicU64::new(0);
/// How many bytes may be idle until this process counts again, and until when that holds (milliseconds).
static ALLOWED: AtomicU64 = AtomicU64::new(0);
static COUNT_AT: AtomicU64 = AtomicU64::new(0);
/// For each class, the slab that this process emptied last (+ 1); and the bytes of slabs it emptied since it last
/// counted.
static EMPTIED: [AtomicU32; CLASSES] = [const { AtomicU32::new(0) }; CLASSES];
static EMPTIED_BYTES: AtomicU64 = AtomicU64::new(0);

impl Arena {
    /// Run `allocate(false)`. When memory is exhausted, free deferred memory that is no longer needed, give back idle
    /// memory, and run `allocate(true)`.
    pub(super) fn with_memory<T>(&self, what: &'static str, mut allocate: impl FnMut(bool) -> Result<T>) -> Result<T> {
        assert_may_end_objects();
        match allocate(false) {
            Err(Error::Exhausted { .. }) => {
                (hooks().sweep_deferred)()?;
                self.trim(0)?;
                allocate(true)
            }
            done => done,
        }
        .map_err(|error| match error {
            Error::Exhausted { wanted, .. } => Error::Exhausted { what, wanted },
            error => error,
        })
    }

    /// Note that a large cell was allocated: what is committed of it is not idle any more.
    pub(super) fn note_used(&self, cell: &Cell) {
        let bytes = cell.committed();
        let less = |idle: u64| Some(idle.saturating_sub(bytes));
        let _ = self.header().idle.fetch_update(Relaxed, Relaxed, less);
        let now = memory::milliseconds();
        if cell.slab().descriptor.idle.end(now) {
            self.header().used_again[cell.slab().class].store(now, Relaxed);
        }
    }

    /// Whether idle memory of a slab is likely to be used again soon.
    fn is_in_reuse(&self, slab: &Slab, now: u64) -> bool {
        let class_does = || now.wrapping_sub(self.header().used_again[slab.class].load(Relaxed)) < WARM;
        slab.descriptor.idle.is_in_reuse(now) || class_does()
    }

    /// Note that a large cell was freed: what is committed of it is idle.
    pub(super) fn note_freed(&self, cell: &Cell) {
        cell.slab().descriptor.idle.begin();
        let bytes = cell.committed();
        let idle = self.header().idle.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if idle > ALLOWED.load(Relaxed).max(KEEP) || idle > KEEP && memory::milliseconds() > COUNT_AT.load(Relaxed) {
            self.bound_idle(idle);
        }
    }

    /// Note that all cells of a slab of small ones were freed.
    pub(super) fn note_empty(&self, slab: &Slab) {
        // A slab that this process empties again and again counts once.
        if EMPTIED[slab.class].load(Relaxed) == slab.number + 1 {
            return;
        }
        EMPTIED[slab.class].store(slab.number + 1, Relaxed);
        slab.descriptor.idle.begin();
        let bytes = EMPTIED_BYTES.fetch_add(bytes_of(slab.class), Relaxed);
        if bytes > ALLOWED.load(Relaxed).max(KEEP) / 2 {
            EMPTIED_BYTES.store(0, Relaxed);
            self.bound_idle(self.header().idle.load(Relaxed));
        }
    }

    /// Bound the idle memory. Unless a waiting process will trim it, give back what is not in constant reuse.
    #[cold]
    fn bound_idle(&self, idle: u64) {
        // A failure means that the descriptor is not available: the memory stays warm, and the next allocation reports
        // it.
        if (hooks().some_process_waits)() {
            if idle > KEEP_WARM / 4 && idle > may_idle() {
                let _ = self.trim(may_idle() / 2);
            }
            return;
        }
        let (bytes, now) = (self.bytes(), memory::milliseconds());
        let mut left = bytes.idle;
        if left > bytes.used + KEEP {
            let keep = bytes.used / 2 + KEEP / 2;
            left = self
                .trim_those(left, keep, |slab| !self.is_in_reuse(slab, now))
                .unwrap_or(left);
        }
        // If only frees follow, this many bytes will be idle when they are too many again.
        ALLOWED.store(left.max(bytes.used.midpoint(left) + KEEP / 2), Relaxed);
        COUNT_AT.store(now + IDLE, Relaxed);
    }

    /// Bound the idle memory after a death: it may have been left to the dead process, which waited.
    pub(crate) fn take_over_idle(&self) {
        let idle = self.header().idle.load(Relaxed);
        if idle > KEEP {
            self.bound_idle(idle);
        }
    }

    /// Give back what has been idle for long. A waiting process calls this from time to time.
    #[cold]
    pub(crate) fn trim_idle(&self) {
        let (now, looked) = (memory::milliseconds(), &self.header().looked);
        let last = looked.load(Relaxed);
        // DEATH: nothing has begun but the pause until the next look.
        if now.abs_diff(last) < BETWEEN || looked.compare_exchange(last, now, AcqRel, Relaxed).is_err() {
            return;
        }
        let bytes = self.bytes();
        if bytes.idle > bytes.used + KEEP {
            let keep = bytes.used / 2 + KEEP / 2;
            // A failure is ignored as in `bound_idle`.
            let _ = self.trim_those(bytes.idle, keep, |slab| slab.descriptor.idle.lasts(now) >= IDLE);
        }
    }

    /// Give committed memory that is not in use back to the system, down to `keep` bytes.
    pub fn trim(&self, keep: u64) -> Result<()> {
        self.trim_those(self.bytes().idle, keep, |_| true).map(drop)
    }

    /// Of `idle` bytes, give back those of slabs that are `meant`, down to `keep` bytes. Returns how many are left.
    fn trim_those(&self, mut idle: u64, keep: u64, meant: impl Fn(&Slab) -> bool) -> Result<u64> {
        let (_, me) = here()?;
        let mut failed = None;
        // The slabs that lie highest were needed last.
        for number in (0..self.slab_count()).rev() {
            if idle <= keep {
                break;
            }
            if let Some(slab) = self.slab(number).filter(&meant) {
                match self.trim_slab(&slab, me) {
                    Ok(bytes) => idle = idle.saturating_sub(bytes),
                    Err(error) => failed = Some(error),
                }
            }
        }
        self.header().idle.store(idle, Relaxed);
        failed.map_or(Ok(idle), Err)
    }
}

/// Refuse to commit what the machine or a memory limit would answer by killing a process.
pub(super) fn charge(bytes: u64, what: &'static str) -> Result<()> {
    let unlooked = UNLOOKED.fetch_add(bytes, Relaxed) + bytes;
    if unlooked < LOOK_AFTER {
        return Ok(());
    }
    UNLOOKED.store(0, Relaxed);
    match limits::available() {
        Some(available) if bytes.saturating_add(RESERVE) > available => {
            UNLOOKED.store(LOOK_AFTER, Relaxed); // look again next time, however little is asked for
            Err(Error::Exhausted { what, wanted: bytes })
        }
        _ => Ok(()),
    }
}

fn may_idle() -> u64 {
    let known = MAY_IDLE.load(Relaxed);
    if known != 0 {
        return known;
    }
    let total = limits::total().unwrap_or(8 * KEEP_WARM);
    let bytes = (total / 8).max(KEEP_WARM.min(total / 4)).max(1);
    MAY_IDLE.store(bytes, Relaxed);
    bytes
}
