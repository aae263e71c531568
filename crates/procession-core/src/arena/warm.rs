//! Which units are committed, which of those stand idle, and when the system has no more to give.
//!
//! Freed runs stay committed: touching a page for the first time costs several times what using it again does.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use super::layout::{Table, UNIT};
use super::run::{Run, BINS};
use super::Arena;
use crate::roll::Owner;
use crate::sys::limits;
use crate::{Error, Result};

/// Memory limits are looked up each time this much more was committed.
const LOOK_AFTER: u64 = 1 << 20;
/// What is left to the rest of the world when memory is short.
const RESERVE: u64 = 8 << 20;
/// What may stay warm on any machine that has four times as much.
const KEEP_WARM: u64 = 256 << 20;
/// How much beyond the top is given back under the lock in one go.
const SLICE: u64 = (16 << 20) / UNIT;

/// Bytes this process committed since limits were last looked up.
static UNLOOKED: AtomicU64 = AtomicU64::new(0);
/// Units that may stand idle; 0 = not computed yet.
static MAY_IDLE: AtomicU64 = AtomicU64::new(0);

impl Arena {
    fn committed(&self) -> &'static [AtomicU64] {
        // SAFETY: the table's type; words of units below the peak are committed.
        unsafe { self.table(Table::Committed) }
    }

    /// Call `visit` with each word of the bitmap that concerns the units, and the mask of those.
    fn each_word(&self, first: u32, units: u32, mut visit: impl FnMut(u32, &AtomicU64, u64)) {
        let table = self.committed();
        let end = first + units;
        let mut unit = first;
        while unit < end {
            let upto = (unit / 64 * 64 + 64).min(end);
            let mask = (u64::MAX >> (64 - (upto - unit))) << (unit % 64);
            visit(unit / 64 * 64, &table[unit as usize / 64], mask);
            unit = upto;
        }
    }

    /// How many of these units are committed.
    pub(super) fn count_committed(&self, first: u32, units: u32) -> u32 {
        let mut count = 0;
        self.each_word(first, units, |_, word, mask| {
            count += (word.load(Acquire) & mask).count_ones();
        });
        count
    }

    fn clear_committed(&self, first: u32, units: u32) {
        self.each_word(first, units, |_, word, mask| {
            word.fetch_and(!mask, AcqRel);
        });
    }

    /// Commit what is not committed of a run that this process owns.
    pub(super) fn commit_run(&self, run: &Run, what: &'static str) -> Result<()> {
        let warm = self.count_committed(run.first, run.units);
        let idle = &self.header().idle_units;
        let _ = idle.fetch_update(Relaxed, Relaxed, |units| Some(units.saturating_sub(u64::from(warm))));
        if warm == run.units {
            return Ok(());
        }
        charge(u64::from(run.units - warm) * UNIT, what)?;
        let data = self.layout().data;
        for (first, units) in self.gaps(run.first, run.units) {
            self.commit(data + u64::from(first) * UNIT, u64::from(units) * UNIT, what)?;
            // DEATH: before this the units are committed and not noted: the next owner commits them again, at no cost.
            self.each_word(first, units, |_, word, mask| {
                word.fetch_or(mask, Release);
            });
        }
        Ok(())
    }

    /// The stretches of a run that are not committed.
    fn gaps(&self, first: u32, units: u32) -> Vec<(u32, u32)> {
        let mut gaps: Vec<(u32, u32)> = Vec::new();
        self.each_word(first, units, |base, word, mask| {
            let mut missing = !word.load(Acquire) & mask;
            while missing != 0 {
                let start = missing.trailing_zeros();
                let length = (!(missing >> start)).trailing_zeros().min(64 - start);
                missing &= !((u64::MAX >> (64 - length)) << start);
                match gaps.last_mut() {
                    Some((at, count)) if *at + *count == base + start => *count += length,
                    _ => gaps.push((base + start, length)),
                }
            }
        });
        gaps
    }

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

    /// After a run was freed: give something back if much stands idle.
    pub(super) fn trim_if_needed(&self) {
        let idle = self.header().idle_units.load(Relaxed);
        if idle <= KEEP_WARM / 4 / UNIT {
            return;
        }
        let limit = may_idle();
        if idle > limit {
            // A failure means that the descriptor cannot be had: the memory stays warm, and the next allocation says so.
            let _ = self.trim(limit / 2 * UNIT);
        }
    }

    /// Give committed memory that nobody uses back to the system, down to `keep` bytes.
    pub fn trim(&self, keep: u64) -> Result<()> {
        let me = crate::family()?.me();
        while self.trim_some(keep / UNIT, me)? {}
        Ok(())
    }

    /// One step of trimming; false when there is nothing left to do.
    fn trim_some(&self, keep: u64, me: Owner) -> Result<bool> {
        let guard = self.lock_memory(me);
        let (top, peak) = (self.unit_top(), self.unit_peak());
        let used: u32 = self
            .used_runs()
            .map(|(run, _)| self.count_committed(run.first, run.units))
            .sum();
        let idle = u64::from(self.count_committed(0, peak as u32).saturating_sub(used));
        self.header().idle_units.store(idle, Relaxed);
        if idle <= keep {
            return Ok(false);
        }
        if peak > top {
            let first = peak.saturating_sub(SLICE).max(top);
            self.punch_units(first as u32, (peak - first) as u32)?;
            // DEATH: before this the peak is higher than it need be, which costs the next holder a look at clear bits.
            self.header().unit_peak.store(first, Relaxed);
            return Ok(true);
        }
        let warm = |run: &Run| self.count_committed(run.first, run.units) > 0;
        let Some(run) = (0..BINS).rev().find_map(|bin| self.free_runs_of(bin).find(warm)) else {
            return Ok(false);
        };
        // As its owner we can do without the lock; if we die, a survivor frees it.
        let owned = self.claim_free(&run, me);
        drop(guard);
        self.punch_units(run.first, run.units)?;
        self.put_back(&run, owned, me);
        Ok(true)
    }

    /// Give the memory of units back that are ours, or that are nobody's while we hold the lock.
    fn punch_units(&self, first: u32, units: u32) -> Result<()> {
        // DEATH: cleared first: what is noted as committed is committed.
        self.clear_committed(first, units);
        self.punch(self.layout().data + u64::from(first) * UNIT, u64::from(units) * UNIT)
    }

    /// A new slab reaches down to `base`, perhaps into memory that runs once used: from now on it is theirs no more, and zero.
    /// The memory lock is held.
    pub(super) fn forget_units(&self, base: u64, bytes: u64) -> Result<()> {
        let peak = self.unit_peak();
        let floor = (base - self.layout().data) / UNIT;
        if floor < peak {
            self.clear_committed(floor as u32, (peak - floor) as u32);
            self.header().unit_peak.store(floor, Relaxed);
            self.punch(base, bytes)?;
        }
        Ok(())
    }

    /// Bytes of run memory: in use, and idle but still committed. For tests and for showing.
    pub fn run_bytes(&self) -> Result<(u64, u64)> {
        let _guard = self.lock_memory(crate::family()?.me());
        let used: u32 = self.used_runs().map(|(run, _)| run.units).sum();
        let committed = self.count_committed(0, self.unit_peak() as u32);
        Ok((u64::from(used) * UNIT, u64::from(committed.saturating_sub(used)) * UNIT))
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
    let units = ((total / 8).max(KEEP_WARM.min(total / 4)) / UNIT).max(1);
    MAY_IDLE.store(units, Relaxed);
    units
}
