//! The table itself: claiming and finding entries. Leaves to `death` whether their processes live.

use super::death;
use super::entry::{Entry, Life, Stage};
use super::fork;
use crate::arena::{self, Arena};
use crate::ids::{Handle, Owner};
use crate::sys::{limits, proc};
use crate::{Error, Result};
use once_cell::race::OnceBox;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Entries that share a word of hints.
const GROUP: usize = 64;
/// Least number of entries by which the part of the table in use grows.
const STEP: usize = 128;
/// Entries reserved for processes that bypass [`check_room`]: fork servers, their spare children, forks that the
/// program calls by itself.
const RESERVE: usize = 16;

/// The family's processes, as this process sees the table that lies in the arena. Zero-filled is valid and empty.
pub(crate) struct Table {
    arena: &'static Arena,
    entries: &'static [Entry],
}

/// The words that the process table keeps in the arena's header, by index.
#[derive(Clone, Copy)]
enum Word {
    /// How many entries are committed and in use. The search for a free one wraps around within them, so that a
    /// slot's generations last.
    Size,
    /// Where the next search starts: a hint.
    Next,
    /// How many threads of the family are spinning: a hint.
    Spinners,
    /// The most cores that any process of the family was free to use: a hint.
    Cores,
    /// No process that was born by fork, or is about to be, has a greater birth number than this. The lowest bits count
    /// the changes.
    Youngest,
    /// The family's first process.
    Root,
    /// When it was last found that the family can only wait: milliseconds of the boot clock.
    Verdict,
    /// When a waiting process last swept the family: milliseconds of the boot clock.
    Swept,
}

const VERSION_BITS: u32 = 20;
const VERSION: u64 = (1 << VERSION_BITS) - 1;

/// The table of this process's family, once [`open`]ed. Not a cell with an initializer that locks: a child of fork
/// could inherit it locked.
static TABLE: OnceBox<Table> = OnceBox::new();
/// This process's `Owner`, or zero. The child hook of fork renews it.
static ME: AtomicU32 = AtomicU32::new(0);

/// The state of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Reserved by a parent that is about to fork it.
    Starting,
    /// Alive, as far as is known.
    Live,
    /// Dead, and being reaped.
    Dead,
}

/// A process of the family, as seen at one moment.
#[derive(Clone, Debug)]
pub struct Member {
    /// What names it in claim words: its slot in the process table, and the slot's generation.
    pub owner: Owner,
    /// Its process identifier (zero while starting).
    pub pid: u32,
    /// Its name; empty until it is given one.
    pub name: String,
    /// Its parent, if that is known.
    pub parent: Option<Owner>,
    /// Its state.
    pub state: State,
    /// What its threads wait for: number of the object's kind (zero: none), its handle, for how many milliseconds.
    pub waits: Vec<(u32, Option<Handle>, u32)>,
}

/// Use the process table in `arena` from now on.
pub(crate) fn open(arena: &'static Arena) -> &'static Table {
    TABLE.get_or_init(|| {
        // SAFETY: `Entry` is atomics only, of the size the arena expects, and the table's type in every process of this
        // version.
        let entries = unsafe { arena.process_table::<Entry>() };
        Box::new(Table { arena, entries })
    })
}

/// The table, if the family exists.
#[inline]
pub(super) fn table() -> Option<&'static Table> {
    TABLE.get()
}

/// This process, as an owner. Registers it on first use, and costs a load afterwards. Renewed in a child of fork.
#[inline]
pub fn me() -> Result<Owner> {
    match Owner::from_bits(ME.load(Ordering::Relaxed)) {
        Some(me) => Ok(me),
        None => join(None),
    }
}

/// This process, as an owner, if it is registered already.
pub(super) fn me_already() -> Option<Owner> {
    Owner::from_bits(ME.load(Ordering::Relaxed))
}

pub(super) fn become_owner(me: Option<Owner>) {
    ME.store(me.map_or(0, Owner::to_bits), Ordering::Relaxed);
}

/// Register this process (a child of fork is registered by the hooks, unless there was no room then).
#[cold]
pub(crate) fn join(parent: Option<Owner>) -> Result<Owner> {
    // Several threads may come here at once: the first one wins, and the others free their entries again. A lock here
    // could be inherited held by a child of fork.
    let pid = std::process::id();
    let state = proc::stat(pid);
    let before = open(arena::current()?).size();
    let start = state.map_or(0, |state| state.start);
    let me = claim(Stage::Live, pid, start, parent, fork::was_forked())?;
    if let (Some(entry), Some(state)) = (entry(me), state) {
        entry.set_program(me.generation(), state.program());
    }
    match ME.compare_exchange(0, me.to_bits(), Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            super::cores(limits::usable_cores());
            if let Some(table) = table() {
                // A process has its entry before it starts another, so the first to come here is the root.
                let root = table.word(Word::Root);
                let _ = root.compare_exchange(0, me.to_bits().into(), Ordering::AcqRel, Ordering::Relaxed);
            }
            if before != 0 && table().is_some_and(|table| table.size() > before) {
                // There was no room: the sweep makes some for the next process.
                death::sweep();
            }
            Ok(me)
        }
        Err(first) => {
            if let Some((table, entry)) = table().and_then(|table| Some((table, table.get(me)?))) {
                table.release(me, entry.life());
            }
            Owner::from_bits(first).ok_or(Error::Corrupt("this process's entry in the process table"))
        }
    }
}

/// Claim a free entry.
pub(super) fn claim(stage: Stage, pid: u32, start: u64, parent: Option<Owner>, by_fork: bool) -> Result<Owner> {
    let table = match table() {
        Some(table) => table,
        None => open(arena::current()?),
    };
    loop {
        let seen = table.size();
        if let Some(owner) = table.claim_any(stage, pid, start, parent, by_fork) {
            return Ok(owner);
        }
        // Only a process with an entry of its own can reap others.
        if seen == 0 || me_already().is_none() || death::sweep() == seen {
            table.grow(seen)?;
        }
    }
}

/// Check whether there is room for a further process. To be called before one is started: without an entry it could
/// only fail unseen.
pub fn check_room() -> Result<()> {
    let Some(table) = table() else { return Ok(()) };
    if table.has_reserve() || death::sweep() > 0 && table.has_reserve() {
        Ok(())
    } else {
        Err(Error::ProcessTableFull(table.entries.len()))
    }
}

/// The calling process's table and entry.
#[inline]
pub(super) fn my_entry() -> Option<(&'static Table, &'static Entry)> {
    let table = table()?;
    Some((table, table.get(me_already()?)?))
}

/// The entry of `owner`. It may be another process's by now: check what was read with [`is_alive`](super::is_alive)
/// afterwards.
pub(crate) fn entry(owner: Owner) -> Option<&'static Entry> {
    table()?.get(owner)
}

/// Whether some process (or one about to start) may have been born by fork after `birth`, so that it may have inherited
/// whatever was created then. Costs two loads. The caller itself counts, too: it may be dropping what it inherited.
/// What it created itself is younger than it is, so nothing of that is deferred for the caller.
pub(crate) fn fork_born_after(birth: u64) -> bool {
    table().is_some_and(|table| {
        let may = table.word(Word::Youngest).load(Ordering::Acquire) >> VERSION_BITS > birth;
        if may {
            death::suspect(table, birth);
        }
        may
    })
}

/// The births of all processes that were born by fork, or are about to be, at one moment.
pub(crate) struct Forks {
    /// In ascending order.
    births: Vec<u64>,
    /// Whether some process has not written its birth yet, and may have any.
    unknown: bool,
}

impl Forks {
    /// Scan the whole process table, for many questions.
    pub(crate) fn find() -> Self {
        let Some(table) = table() else {
            return Self {
                births: Vec::new(),
                unknown: false,
            };
        };
        let youngest = table.word(Word::Youngest);
        // SYNC: read before the scan. A process that takes an entry later changes this word afterwards, see
        // `claim_any`.
        let seen = youngest.load(Ordering::SeqCst);
        let (mut births, mut unknown) = (Vec::new(), false);
        for (_, entry) in table.in_use() {
            let stage = entry.life().stage();
            let birth = entry.birth.load(Ordering::Acquire);
            match stage {
                Stage::Live | Stage::Starting if birth == 0 => unknown = true,
                // A dead process counts until its reaper has finished or undone its operation.
                Stage::Live | Stage::Starting | Stage::Dead if birth & 1 == 1 => births.push(birth >> 1),
                _ => {}
            }
        }
        births.sort_unstable();
        let last = births.last().copied().unwrap_or(0);
        if !unknown && last < seen >> VERSION_BITS {
            let version = seen.wrapping_add(1) & VERSION;
            // On failure the word stays too high for a while longer.
            let _ = youngest.compare_exchange(
                seen,
                last << VERSION_BITS | version,
                Ordering::SeqCst,
                Ordering::Relaxed,
            );
        }
        Self { births, unknown }
    }

    /// Whether one of them has a birth number in `(after, upto]`: it may have inherited what was created at `after` and
    /// dropped at `upto`.
    pub(crate) fn between(&self, after: u64, upto: u64) -> bool {
        let next = self.births.partition_point(|&birth| birth <= after);
        let are = after < upto && (self.unknown || self.births.get(next).is_some_and(|&birth| birth <= upto));
        if let Some(table) = table().filter(|_| are) {
            death::suspect(table, after);
        }
        are
    }
}

/// Record that no process reads any more what this dead process inherited. Its reaper calls this.
pub(crate) fn forget_inherited(dead: Owner) {
    if let Some(entry) = entry(dead) {
        entry.birth.fetch_and(!1, Ordering::AcqRel);
    }
}

/// Set this process's name, cut to 64 bytes.
pub fn set_name(name: &str) {
    if let Some((_, entry)) = my_entry() {
        entry.set_name(name);
    }
}

/// Set whether this process only does what others ask it to.
pub(crate) fn set_serving(serving: bool) {
    if let Some((_, entry)) = my_entry() {
        entry.set_serving(serving);
    }
}

/// Note the code with which this process is about to exit. Its parent reads it here if the kernel keeps no status.
pub fn note_exit(code: i32) {
    if let Some((_, entry)) = my_entry() {
        entry.note_exit(code & 0xff);
    }
}

/// The code that process `pid`, which has ended, noted before it exited. Lost once the entry is another process's.
pub(crate) fn noted_exit(pid: u32, start: Option<u64>) -> Option<i32> {
    let table = table()?;
    let mut its = table.entries[..table.size()]
        .iter()
        .filter(|entry| entry.pid.load(Ordering::Relaxed) == pid);
    its.find_map(|entry| entry.noted_exit(start))
}

/// Set this process's parent to `pid`: a fork server forks its children for another process.
pub(crate) fn set_parent(pid: u32) {
    let Some((table, mine)) = my_entry() else { return };
    let parent = table.in_use().find_map(|(slot, entry)| {
        let life = entry.life();
        let is = life.stage() == Stage::Live && entry.pid.load(Ordering::Relaxed) == pid;
        is.then(|| Owner::new(slot, life.generation()))
    });
    if let Some(parent) = parent {
        mine.parent.store(parent.to_bits(), Ordering::Relaxed);
    }
}

/// The processes of the family.
pub fn members() -> Vec<Member> {
    let Some(table) = table() else {
        return Vec::new();
    };
    table
        .in_use()
        .filter_map(|(slot, entry)| {
            let life = entry.life();
            let state = match life.stage() {
                Stage::Starting => State::Starting,
                Stage::Live => State::Live,
                Stage::Dead => State::Dead,
                Stage::Free | Stage::Damaged => return None,
            };
            let member = Member {
                owner: Owner::new(slot, life.generation()),
                pid: entry.pid.load(Ordering::Relaxed),
                name: entry.name(),
                parent: Owner::from_bits(entry.parent.load(Ordering::Relaxed)),
                state,
                waits: entry.waiting(),
            };
            (entry.life().generation() == life.generation()).then_some(member)
        })
        .collect()
}

/// Pid and name of a process, living or dead; `None` when its slot has been used again.
pub fn describe(owner: Owner) -> Option<(u32, String)> {
    let entry = entry(owner)?;
    let found = (entry.pid.load(Ordering::Relaxed), entry.name());
    (entry.life().generation() == owner.generation()).then_some(found)
}

/// The name of a process, living or dead, in errors.
pub(crate) fn label(owner: Owner) -> String {
    let (pid, name) = describe(owner).unwrap_or_default();
    crate::error::label_of(pid, &name)
}

/// Milliseconds of the boot clock (coarse, cheap).
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

impl Table {
    /// The address from which announced distances are counted.
    pub(super) fn base(&self) -> usize {
        self.entries.as_ptr() as usize
    }

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

    /// When it was last found that the family can only wait.
    pub(super) fn verdict(&self) -> &AtomicU64 {
        self.word(Word::Verdict)
    }

    /// When a waiting process last swept the family.
    pub(super) fn swept(&self) -> &AtomicU64 {
        self.word(Word::Swept)
    }

    fn size(&self) -> usize {
        let size = self.word(Word::Size).load(Ordering::Acquire);
        (size as usize).min(self.entries.len())
    }

    /// Whether more entries than the reserve are free, or can be.
    fn has_reserve(&self) -> bool {
        let most = self.entries.len() - RESERVE;
        self.size() <= most || self.in_use().count() < most
    }

    /// Put more entries to use, unless another process did since `seen`. Half as many again: a growth follows a scan of
    /// all entries, and is to stay rare.
    fn grow(&self, seen: usize) -> Result<()> {
        let more = (seen + STEP.max(seen / 2 / GROUP * GROUP)).min(self.entries.len());
        if more == seen {
            return Err(Error::ProcessTableFull(seen));
        }
        self.arena.commit_process_table(more)?;
        self.word(Word::Size).fetch_max(more as u64, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn get(&self, owner: Owner) -> Option<&Entry> {
        self.entries[..self.size()].get(owner.slot())
    }

    /// The entries in use, according to the hints.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries[..self.size()]
            .chunks(GROUP)
            .enumerate()
            .flat_map(|(at, group)| {
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
        // of a scan that looked before fails, because the version has changed (`Forks::find`).
        let raise = |seen: u64| {
            let version = seen.wrapping_add(1) & VERSION;
            Some((seen >> VERSION_BITS).max(birth) << VERSION_BITS | version)
        };
        let _ = self
            .word(Word::Youngest)
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, raise);
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
