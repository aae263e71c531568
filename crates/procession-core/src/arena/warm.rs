//! What is committed, which of it stands idle, and when the system has no more to give.
//!
//! Freed memory stays committed: touching a page for the first time costs several times what using it again does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::slab::Cell;
use super::Arena;
use crate::sys::limits;
use crate::{Error, Result};

/// Memory limits are looked up each time this much more was committed.
const LOOK_AFTER: u64 = 1 << 20;
/// What is left to the rest of the world when memory is short.
const RESERVE: u64 = 8 << 20;
/// What may stay warm on any machine that has four times as much.
const KEEP_WARM: u64 = 256 << 20;

/// Bytes this process committed since limits were last looked up.
static UNLOOKED: AtomicU64 = AtomicU64::new(0);
/// Bytes that may stand idle; 0 = not computed yet.
static MAY_IDLE: AtomicU64 = AtomicU64::new(0);

impl Arena {
    /// Run `allocate`; when memory is exhausted, give back what stands idle or waits in limbo, and try once more.
    pub(super) fn with_memory<T>(&self, what: &'static str, mut allocate: impl FnMut() -> Result<T>) -> Result<T> {
        match allocate() {
            Err(Error::Exhausted { .. }) => {
                crate::reclaim::sweep_limbo()?;
                self.trim(0)?;
                allocate()
            }
            done => done,
        }
        .map_err(|error| match error {
            Error::Exhausted { wanted, .. } => Error::Exhausted { what, wanted },
            error => error,
        })
    }

    /// A large cell was allocated: what is committed of it is not idle any more.
    pub(super) fn note_used(&self, cell: &Cell) {
        let bytes = cell.committed();
        let less = |idle: u64| Some(idle.saturating_sub(bytes));
        let _ = self.header().idle.fetch_update(Relaxed, Relaxed, less);
    }

    /// A large cell was freed: give something back if much stands idle.
    pub(super) fn note_freed(&self, cell: &Cell) {
        let bytes = cell.committed();
        let idle = self.header().idle.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if idle > KEEP_WARM / 4 && idle > may_idle() {
            // A failure means that the descriptor cannot be had: the memory stays warm, and the next allocation says so.
            let _ = self.trim(may_idle() / 2);
        }
    }

    /// Give committed memory that nobody uses back to the system, down to `keep` bytes.
    pub fn trim(&self, keep: u64) -> Result<()> {
        let me = crate::family()?.me();
        let mut idle = self.bytes().idle;
        let mut end = Ok(());
        // What lies highest was needed last, and will be again.
        for number in (0..self.slab_count()).rev() {
            if idle <= keep {
                break;
            }
            if let Some(slab) = self.slab(number) {
                match self.trim_slab(&slab, me) {
                    Ok(bytes) => idle = idle.saturating_sub(bytes),
                    Err(error) => end = Err(error),
                }
            }
        }
        self.header().idle.store(idle, Relaxed);
        end
    }
}

/// Refuse to commit what the machine or a memory limit would answer by killing somebody.
pub(super) fn charge(bytes: u64, what: &'static str) -> Result<()> {
    let unlooked = UNLOOKED.fetch_add(bytes, Relaxed) + bytes;
    if unlooked < LOOK_AFTER {
        return Ok(());
    }
    UNLOOKED.store(0, Relaxed);
    match limits::available() {
        Some(available) if bytes.saturating_add(RESERVE) > available => {
            UNLOOKED.store(LOOK_AFTER, Relaxed); // look again the next time, however little is asked for
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
