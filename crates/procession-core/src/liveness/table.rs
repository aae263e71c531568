//! The table itself: finding, claiming and releasing entries. Leaves to `death` whether their processes live, and to
//! `registry` what is done when no entry is free.

use super::entry::{Life, ProcessEntry, Stage};
use super::own::me_already;
use crate::arena::Arena;
use crate::ids::Owner;
/// The clock of this room: it is the same for all processes, and stands still while the machine is suspended.
pub(crate) use crate::sys::memory::milliseconds as now;
use crate::{Error, Result};
use once_cell::race::OnceBox;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries that share a word of hints.
pub(super) const GROUP: usize = 64;
/// Least number of entries by which the part of the table in use grows.
const STEP: usize = 128;

/// The family's processes, as this process sees the table that lies in the arena. Zero-filled is valid and empty.
pub(crate) struct ProcessTable {
    arena: &'static Arena,
    entries: &'static [ProcessEntry],
}

/// The words that the process table keeps in the arena's header, by index.
#[derive(Clone, Copy)]
pub(super) enum Word {
    /// How many entries are committed and in use. The search for a free one wraps around within them, so that a
    /// slot's generations last.
    Size,
    /// Where the next search starts: a hint.
    Next,
    /// How many threads of the family are spinning: a hint.
    Spinners,
    /// The cores that any process of the family was free to use, as bits of their numbers modulo 64: a hint.
    Cores,
    /// No process that was born by fork, or is about to be, has a greater birth number than this. The lowest bits count
    /// the changes.
    Youngest,
    /// The family's first process.
    Root,
    /// When it was last found that the family can only wait: milliseconds of [`now`].
    Verdict,
    /// When a waiting process last swept the family: milliseconds of [`now`].
    Swept,
}

/// Lowest bits of [`Word::Youngest`], which count its changes.
pub(super) const VERSION_BITS: u32 = 20;
pub(super) const VERSION: u64 = (1 << VERSION_BITS) - 1;

/// The table of this process's family, once [`open`]ed. Not a cell with an initializer that locks: a child of fork
/// could inherit it locked.
static TABLE: OnceBox<ProcessTable> = OnceBox::new();

/// Use the process table in `arena` from now on.
pub(crate) fn open(arena: &'static Arena) -> &'static ProcessTable {
    TABLE.get_or_init(|| {
        // SAFETY: `ProcessEntry` is atomics only, of the size the arena expects, and the table's type in every process of
        // this version.
        let entries = unsafe { arena.process_table::<ProcessEntry>() };
        Box::new(ProcessTable { arena, entries })
    })
}

/// The table, if the family exists.
#[inline]
pub(super) fn table() -> Option<&'static ProcessTable> {
    TABLE.get()
}

/// The calling process's table and entry.
#[inline]
pub(super) fn my_entry() -> Option<(&'static ProcessTable, &'static ProcessEntry)> {
    let table = table()?;
    Some((table, table.get(me_already()?)?))
}

/// The entry of `owner`. It may be another process's by now: check what was read with [`is_alive`](super::is_alive)
/// afterwards.
pub(crate) fn entry(owner: Owner) -> Option<&'static ProcessEntry> {
    table()?.get(owner)
}

impl ProcessTable {
    /// The address from which announced distances are counted.
    pub(super) fn base(&self) -> usize {
        self.entries.as_ptr() as usize
    }

    /// The distance that announces a wait for the end of this entry's process.
    pub(super) fn join_word(&self, entry: &ProcessEntry) -> u64 {
        (entry.begun_word().as_ptr() as usize).wrapping_sub(self.base()) as u64
    }

    /// What the family does about deadlocks; zero: not decided yet.
    pub(super) fn deadlocks(&self) -> &AtomicU64 {
        &self.arena.header().deadlocks
    }

    #[inline]
    fn word(&self, word: Word) -> &AtomicU64 {
        &self.arena.header().process_table[word as usize]
    }

    pub(super) fn spinners(&self) -> &AtomicU64 {
        self.word(Word::Spinners)
    }

    pub(super) fn cores(&self) -> &AtomicU64 {
        self.word(Word::Cores)
    }

    /// The family's first process.
    pub(super) fn root(&self) -> Option<Owner> {
        Owner::from_bits(self.word(Word::Root).load(Ordering::Relaxed) as u32)
    }

    /// Record the family's first process, unless one is recorded already.
    pub(super) fn set_root(&self, first: Owner) {
        let _ = self
            .word(Word::Root)
            .compare_exchange(0, first.to_bits().into(), Ordering::AcqRel, Ordering::Relaxed);
    }

    /// When it was last found that the family can only wait.
    pub(super) fn verdict(&self) -> &AtomicU64 {
        self.word(Word::Verdict)
    }

    /// When a waiting process last swept the family.
    pub(super) fn swept(&self) -> &AtomicU64 {
        self.word(Word::Swept)
    }

    /// The greatest birth number of the processes born by fork, above the [count of changes](VERSION_BITS).
    #[inline]
    pub(super) fn youngest(&self) -> &AtomicU64 {
        self.word(Word::Youngest)
    }

    /// The entries committed so far, in use or not.
    pub(super) fn entries(&self) -> &[ProcessEntry] {
        &self.entries[..self.size()]
    }

    /// The most entries that can be committed.
    pub(super) fn capacity(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn size(&self) -> usize {
        let size = self.word(Word::Size).load(Ordering::Acquire);
        (size as usize).min(self.entries.len())
    }

    /// Put more entries to use, unless another process did since `seen`. Half as many again: a growth follows a scan of
    /// all entries, and is to stay rare.
    pub(super) fn grow(&self, seen: usize) -> Result<()> {
        let more = (seen + STEP.max(seen / 2 / GROUP * GROUP)).min(self.entries.len());
        if more == seen {
            return Err(Error::ProcessTableFull(seen));
        }
        self.arena.commit_process_table(more)?;
        self.word(Word::Size).fetch_max(more as u64, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn get(&self, owner: Owner) -> Option<&ProcessEntry> {
        self.entries().get(owner.slot())
    }

    /// The entries in use, according to the hints.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (usize, &ProcessEntry)> {
        self.entries().chunks(GROUP).enumerate().flat_map(|(at, group)| {
            let mut bits = group[0].used.load(Ordering::Acquire);
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros() as usize;
                bits &= bits.wrapping_sub(1);
                group.get(bit).map(|entry| (at * GROUP + bit, entry))
            })
        })
    }

    /// Claim a free entry among those in use so far. Async-signal-safe.
    pub(super) fn claim_any(
        &self,
        stage: Stage,
        pid: u32,
        start: u64,
        parent: Option<Owner>,
        by_fork: bool,
    ) -> Option<Owner> {
        let birth = self
            .arena
            .header()
            .births
            .fetch_add(1, Ordering::SeqCst)
            .wrapping_add(1);
        let first = self.word(Word::Next).fetch_add(1, Ordering::Relaxed) as usize;
        // If the hints know of no free entry, all are tried: a death may have left the hints wrong.
        for slot in self.free_from(first).chain(0..self.size()) {
            let entry = &self.entries[slot];
            let life = entry.life();
            if life.stage() == Stage::Dead {
                // DEATH: its reaper may have died after it cleared the hint.
                self.hint(slot).fetch_or(1 << (slot % GROUP), Ordering::AcqRel);
            }
            if life.stage() != Stage::Free {
                continue;
            }
            // SYNC: the hint is set first. A release clears it while the entry is still dead, so it cannot be lost.
            self.hint(slot).fetch_or(1 << (slot % GROUP), Ordering::AcqRel);
            // An entry that has had all its generations is not used again, and keeps its hint: no two processes are the
            // same owner.
            let Some(generation) = life.generation().checked_add(1) else {
                continue;
            };
            if entry.change(life, Life::new(generation, stage, pid, start)) {
                // DEATH: until these are written only the life word speaks for the entry; a `birth` of zero counts as
                // any birth.
                entry
                    .pid
                    .store(if stage == Stage::Live { pid } else { 0 }, Ordering::Relaxed);
                entry.parent.store(parent.map_or(0, Owner::to_bits), Ordering::Relaxed);
                entry.forget_exit();
                entry.since.store(now(), Ordering::Relaxed);
                entry.set_name("");
                if by_fork {
                    self.note_youngest(birth);
                }
                entry.birth.store(birth << 1 | u64::from(by_fork), Ordering::Release);
                return Some(Owner::new(slot, generation));
            }
        }
        None
    }

    /// The entries that are probably free, once around from `first`.
    fn free_from(&self, first: usize) -> impl Iterator<Item = usize> + '_ {
        let size = self.size();
        let groups = size.div_ceil(GROUP).max(1);
        let first = first % size.max(1);
        // The group in which the search begins comes twice: its upper part first, its lower part at the end.
        (0..=groups).flat_map(move |step| {
            let group = (first / GROUP + step) % groups;
            let begins = group * GROUP;
            let mut free = !self.entries[begins].used.load(Ordering::Acquire);
            let upper = u64::MAX << (first % GROUP);
            match step {
                0 => free &= upper,
                _ if step == groups => free &= !upper,
                _ => {}
            }
            std::iter::from_fn(move || {
                let bit = free.trailing_zeros() as usize;
                free &= free.wrapping_sub(1);
                (bit < GROUP).then_some(begins + bit)
            })
            .filter(move |&slot| slot < size)
        })
    }

    /// Record that a process is about to be born by fork.
    fn note_youngest(&self, birth: u64) {
        // SYNC: comes while the entry's `birth` is still zero, which a scan counts as any birth. The compare-and-swap
        // of a scan that looked before fails, because the version has changed (`births::Forks::find`).
        let raise = |seen: u64| {
            let version = seen.wrapping_add(1) & VERSION;
            Some((seen >> VERSION_BITS).max(birth) << VERSION_BITS | version)
        };
        let _ = self.youngest().fetch_update(Ordering::SeqCst, Ordering::Relaxed, raise);
    }

    pub(super) fn hint(&self, slot: usize) -> &AtomicU64 {
        &self.entries[slot - slot % GROUP].used
    }

    /// The last step of a dead entry. Only its reaper, or the process that reserved it, comes here.
    pub(super) fn release(&self, owner: Owner, from: Life) {
        let entry = &self.entries[owner.slot()];
        let spinning = entry.spinning.swap(0, Ordering::Relaxed);
        self.spinners().fetch_sub(spinning.into(), Ordering::Relaxed);
        entry.forget_waits();
        // No free is deferred for a dead process without a birth. The next process that gets the entry has none until
        // it writes its own.
        entry.birth.store(0, Ordering::Relaxed);
        entry.since.store(0, Ordering::Relaxed);
        self.hint(owner.slot())
            .fetch_and(!(1 << (owner.slot() % GROUP)), Ordering::AcqRel);
        entry.change(from, Life::free(owner.generation()));
    }
}
