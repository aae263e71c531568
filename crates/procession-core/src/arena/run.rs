//! Runs: one or more units of 64 KiB, for everything that is too large for a cell.
//!
//! The truth is the chain of lengths from unit 0 to the top, and the owner word of each run's first unit. The free lists (`bins`)
//! and the boundary tags (`first`) are derived from it, and made anew by whoever gets the memory lock from a dead holder.
//! All words but the owner words change under that lock only.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use super::layout::{Table, UNIT};
use super::lock::{Acquired, Guard};
use super::word::{State, Word};
use super::Arena;
use crate::roll::Owner;
use crate::{Error, Result};

/// Bins of free runs by size: exact up to 8 units, four to each power of two above.
pub(crate) const BINS: usize = 96;
/// How many runs of a bin are looked at before a larger bin is tried.
const TRIES: usize = 32;

/// What the arena knows about a unit.
#[repr(C)]
pub(crate) struct Unit {
    /// Owner word. Inside a run it is FREE: only its generation counts, for the day when a run begins here again.
    word: AtomicU64,
    /// Units of the run that begins here.
    length: AtomicU32,
    /// Low half of the birth counter when the run was allocated or taken.
    birth: AtomicU32,
    /// At a run's last unit: its first unit.
    first: AtomicU32,
    /// Next free run of the bin (unit + 1).
    next: AtomicU32,
    /// Previous free run of the bin (unit + 1), 0 at its head.
    prev: AtomicU32,
    /// How many references the run begins with.
    references: AtomicU32,
}

/// A run: in range, below the top.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub first: u32,
    pub units: u32,
    pub ptr: *mut u8,
    pub word: &'static AtomicU64,
    pub birth: &'static AtomicU32,
    pub references: &'static AtomicU32,
}

/// Units that hold `len` bytes.
pub(crate) fn units_of(len: usize) -> Option<u32> {
    u32::try_from(len.div_ceil(UNIT as usize)).ok()
}

fn bin_of(units: u32) -> usize {
    if units < 8 {
        return units as usize;
    }
    let log = units.ilog2();
    let quarter = (units >> (log - 2)) & 3;
    (((log - 1) * 4 + quarter) as usize).min(BINS - 1)
}

impl Arena {
    fn units(&self) -> &'static [Unit] {
        // SAFETY: the table's type; entries below the top are committed.
        unsafe { self.table(Table::Units) }
    }

    /// Where the units of runs end.
    pub(crate) fn unit_top(&self) -> u64 {
        self.bounded(&self.header().unit_top, Table::Units, size_of::<Unit>())
    }

    pub(super) fn unit_peak(&self) -> u64 {
        self.bounded(&self.header().unit_peak, Table::Units, size_of::<Unit>())
    }

    /// The run that begins at a unit, if that can be.
    pub(crate) fn run(&self, first: u32) -> Option<Run> {
        let top = self.unit_top();
        if u64::from(first) >= top {
            return None;
        }
        let unit = &self.units()[first as usize];
        let units = unit.length.load(Relaxed);
        if units == 0 || u64::from(first) + u64::from(units) > top {
            return None;
        }
        let ptr = self
            .at(self.layout().data + u64::from(first) * UNIT, u64::from(units) * UNIT)?
            .as_ptr();
        Some(Run {
            first,
            units,
            ptr,
            word: &unit.word,
            birth: &unit.birth,
            references: &unit.references,
        })
    }

    /// The memory lock; what a dead holder left half done is repaired.
    pub(super) fn lock_memory(&self, me: Owner) -> Guard<'static> {
        let guard = self.header().memory_lock.lock(me);
        if guard.how() == Acquired::Recovered {
            self.rebuild_bins();
        }
        guard
    }

    /// A committed run of `units`, owned by `me`; its content is unspecified.
    pub(crate) fn alloc_run(&self, units: u32, me: Owner, what: &'static str) -> Result<(Run, Word)> {
        self.with_memory(what, || {
            let (run, word) = self.reserve_run(units, me, what)?;
            // DEATH: from here on the run is owned, and a survivor frees it like any other.
            match self.commit_run(&run, what) {
                Ok(()) => Ok((run, word)),
                Err(error) => {
                    self.free_run(&run, word, me);
                    Err(error)
                }
            }
        })
    }

    fn reserve_run(&self, units: u32, me: Owner, what: &'static str) -> Result<(Run, Word)> {
        let exhausted = || Error::Exhausted {
            what,
            wanted: u64::from(units) * UNIT,
        };
        let _guard = self.lock_memory(me);
        let first = match self.find_free(units) {
            Some(found) => {
                self.unlink(found);
                self.split(found, units);
                found
            }
            None => self.raise_top(units, exhausted)?,
        };
        let run = self.run(first).ok_or_else(exhausted)?;
        let word = Word::decode(run.word.load(Acquire)).with(State::Owned(me));
        // DEATH: before this store the run is free and in no list; the lists are made anew.
        run.word.store(word.encode(), Release);
        Ok((run, word))
    }

    fn find_free(&self, units: u32) -> Option<u32> {
        let large_enough = |run: &Run| run.units >= units;
        (bin_of(units)..BINS)
            .find_map(|bin| self.free_runs_of(bin).take(TRIES).find(large_enough))
            .map(|run| run.first)
    }

    /// Units from beyond the top.
    fn raise_top(&self, units: u32, exhausted: impl Fn() -> Error) -> Result<u32> {
        let header = self.header();
        let top = self.unit_top();
        let new_top = top + u64::from(units);
        if self.layout().data + new_top * UNIT > self.slab_bottom() {
            return Err(exhausted());
        }
        self.ensure(Table::Units, new_top * size_of::<Unit>() as u64, "the unit table")?;
        self.ensure(Table::Committed, new_top.div_ceil(64) * 8, "the unit table")?;
        self.set_length(top as u32, units);
        self.free_word(top as u32);
        header.unit_peak.fetch_max(new_top, Relaxed);
        // DEATH: before this store nothing happened; after it there is one more free run, in no list.
        header.unit_top.store(new_top, Release);
        Ok(top as u32)
    }

    /// Cut a free run that is in no list after `units`; the rest becomes a free run of its own.
    fn split(&self, first: u32, units: u32) {
        let length = self.units()[first as usize].length.load(Relaxed);
        if length > units {
            let rest = first + units;
            self.set_length(rest, length - units);
            self.free_word(rest);
            // DEATH: this store makes the rest a run of its own, whose length and word are in place.
            self.set_length(first, units);
            self.link(rest);
        }
    }

    fn set_length(&self, first: u32, units: u32) {
        let table = self.units();
        table[(first + units - 1) as usize].first.store(first, Relaxed);
        table[first as usize].length.store(units, Release);
    }

    /// Make sure that the word of a unit that was inside a run says FREE, whatever it said.
    fn free_word(&self, unit: u32) {
        let word = &self.units()[unit as usize].word;
        let decoded = Word::decode(word.load(Relaxed));
        if decoded.state != State::Free {
            word.store(decoded.freed().encode(), Relaxed);
        }
    }

    fn link(&self, first: u32) {
        let table = self.units();
        let unit = &table[first as usize];
        let head = &self.header().bins[bin_of(unit.length.load(Relaxed))];
        let next = head.load(Relaxed);
        unit.prev.store(0, Relaxed);
        unit.next.store(next, Relaxed);
        if let Some(next) = next.checked_sub(1).and_then(|next| table.get(next as usize)) {
            next.prev.store(first + 1, Relaxed);
        }
        head.store(first + 1, Relaxed);
    }

    fn unlink(&self, first: u32) {
        let table = self.units();
        let unit = &table[first as usize];
        let (next, prev) = (unit.next.load(Relaxed), unit.prev.load(Relaxed));
        let top = self.unit_top();
        let neighbour = |number: u32| {
            number
                .checked_sub(1)
                .filter(|&n| u64::from(n) < top)
                .map(|n| &table[n as usize])
        };
        if let Some(next) = neighbour(next) {
            next.prev.store(prev, Relaxed);
        }
        match neighbour(prev) {
            Some(prev) => prev.next.store(next, Relaxed),
            None => self.header().bins[bin_of(unit.length.load(Relaxed))].store(next, Relaxed),
        }
    }

    /// Give a run back whose word is `from`. False when it is not: then nothing happened.
    pub(crate) fn free_run(&self, run: &Run, from: Word, me: Owner) -> bool {
        let freed = self.put_back(run, from, me);
        if freed {
            self.trim_if_needed();
        }
        freed
    }

    /// [`Arena::free_run`], and nothing else.
    pub(super) fn put_back(&self, run: &Run, from: Word, me: Owner) -> bool {
        let _guard = self.lock_memory(me);
        if run
            .word
            .compare_exchange(from.encode(), from.freed().encode(), AcqRel, Relaxed)
            .is_err()
        {
            return false;
        }
        // DEATH: from here to the end the run is free, but in no list.
        let warm = self.count_committed(run.first, run.units);
        self.header().idle_units.fetch_add(u64::from(warm), Relaxed);
        self.merge(run.first, run.units);
        true
    }

    /// Take a free run out of its list, as `me`'s own. The memory lock is held.
    pub(super) fn claim_free(&self, run: &Run, me: Owner) -> Word {
        self.unlink(run.first);
        let word = Word::decode(run.word.load(Acquire)).with(State::Owned(me));
        // DEATH: before this store the run is free and in no list; the lists are made anew.
        run.word.store(word.encode(), Release);
        word
    }

    /// The free runs of a bin, newest first. The memory lock is held.
    pub(super) fn free_runs_of(&self, bin: usize) -> impl Iterator<Item = Run> + '_ {
        let mut next = self.header().bins[bin].load(Relaxed);
        // A damaged list must not go round for ever.
        let mut left = self.unit_top();
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let run = self.free_run_at(next.checked_sub(1)?)?;
            next = self.units()[run.first as usize].next.load(Relaxed);
            Some(run)
        })
    }

    fn merge(&self, mut first: u32, mut units: u32) {
        let top = self.unit_top();
        let next = first + units;
        if let Some(follower) = self.free_run_at(next) {
            self.unlink(next);
            units += follower.units;
        }
        if let Some(before) = first.checked_sub(1) {
            let start = self.units()[before as usize].first.load(Relaxed);
            if let Some(run) = self
                .free_run_at(start)
                .filter(|run| u64::from(start) + u64::from(run.units) == u64::from(first))
            {
                self.unlink(start);
                first = start;
                units += run.units;
            }
        }
        // DEATH: this one store merges; tags and lists are derived.
        self.set_length(first, units);
        if u64::from(first) + u64::from(units) == top {
            self.header().unit_top.store(u64::from(first), Release);
        } else {
            self.link(first);
        }
    }

    fn free_run_at(&self, first: u32) -> Option<Run> {
        self.run(first)
            .filter(|run| Word::decode(run.word.load(Relaxed)).state == State::Free)
    }

    /// Lists, tags and counters from the chain of lengths, merging neighbours. The memory lock is held.
    fn rebuild_bins(&self) {
        let header = self.header();
        for bin in &header.bins {
            bin.store(0, Relaxed);
        }
        let top = self.unit_top() as u32;
        let mut used_warm = 0;
        let mut unit = 0;
        while unit < top {
            let Some(run) = self.run(unit) else {
                return; // a damaged length: what lies above stays as it is, in no list
            };
            let mut units = run.units;
            if Word::decode(run.word.load(Relaxed)).state == State::Free {
                while let Some(follower) = self.free_run_at(unit + units) {
                    units += follower.units;
                }
                self.set_length(unit, units);
                if unit + units == top {
                    header.unit_top.store(u64::from(unit), Release);
                    break;
                }
                self.link(unit);
            } else {
                self.set_length(unit, units);
                used_warm += u64::from(self.count_committed(unit, units));
            }
            unit += units;
        }
        let warm = u64::from(self.count_committed(0, self.unit_peak() as u32));
        header.idle_units.store(warm.saturating_sub(used_warm), Relaxed);
    }

    /// All runs that are not free, as they are at one moment.
    pub(crate) fn runs_in_use(&self, me: Owner) -> Vec<(Run, Word)> {
        let _guard = self.lock_memory(me);
        self.used_runs().collect()
    }

    /// All runs that are not free. The memory lock is held.
    pub(super) fn used_runs(&self) -> impl Iterator<Item = (Run, Word)> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let run = self.run(next)?;
            next += run.units;
            Some((run, Word::decode(run.word.load(Acquire))))
        })
        .filter(|(_, word)| word.state != State::Free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_ordered_by_size() {
        assert_eq!(bin_of(1), 1);
        let mut last = 0;
        for units in 1..1 << 20 {
            let bin = bin_of(units);
            assert!(
                bin == last || bin == last + 1 || units == 8,
                "{units}: {last} then {bin}"
            );
            assert!(bin >= last);
            last = bin;
        }
        assert!(bin_of(1 << 24) < BINS && bin_of(u32::MAX) < BINS);
    }
}
