//! The entry of a process: its layout, and the word that holds the state of its life. Leaves to `table` which entry is
//! whose, and to `waits` what the waits in it are for.

use crate::ids::Owner;
use crate::sys::proc::{Program, Stat};
use crate::sys::threads;
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

/// How many waits of one process (of several threads) are announced at once; further waits go unannounced.
pub(crate) const WAITS: usize = 8;
const NAME_WORDS: usize = 8;

/// The entry of a process. Zero-filled is a free one.
#[repr(C, align(512))]
pub(crate) struct ProcessEntry {
    /// Identity and state, see [`Life`]: everything needed to judge even a half-made registration.
    pub(super) life: AtomicU64,
    /// Birth number times two, plus one if born by fork; zero: not yet written.
    pub(super) birth: AtomicU64,
    /// When the state began: milliseconds of [`now`](super::table::now).
    pub(super) since: AtomicU64,
    /// Its pid. Kept until the slot is used again, so that errors can name a dead process.
    pub(super) pid: AtomicU32,
    /// `Owner` of the parent, or zero.
    pub(super) parent: AtomicU32,
    /// How many of its threads are spinning: its part of the table's count, which the reaper subtracts.
    pub(super) spinning: AtomicU32,
    /// The program that it runs, see [`ProcessEntry::set_program`].
    program: AtomicU64,
    /// The code that it is about to exit with, see [`ProcessEntry::note_exit`]; kept like the pid.
    exit: AtomicU64,
    /// How many waits its threads have begun.
    begun: AtomicU32,
    /// How many of the engine's own threads it has. Never more, once it has waited: noted after a thread has begun, and
    /// before one ends.
    helpers: AtomicU32,
    /// Whether it only does what other processes ask it to: a fork server, its spare child.
    serving: AtomicU32,
    name_version: AtomicU32,
    name: [AtomicU64; NAME_WORDS],
    /// Of a group's first entry: one bit for each entry of the group that is in use, so that the free ones need not be
    /// read. A hint, set before a claim and cleared before a release.
    pub(super) used: AtomicU64,
    /// What it is in the middle of, for a survivor to complete or undo. Only the module that writes it reads it.
    pub(crate) intent: [AtomicU64; 4],
    pub(super) waits: [Wait; WAITS],
}

/// One announced wait. Zero-filled is none.
#[repr(C)]
pub(crate) struct Wait {
    /// Distance of the futex word from the process table, which is the same in every process; zero: free.
    pub(super) word: AtomicU64,
    /// Handle of the object, or zero when it has none.
    pub(super) object: AtomicU64,
    /// Since when: milliseconds of [`now`](super::table::now), lower 32 bits.
    pub(super) since: AtomicU32,
    pub(super) kind: AtomicU32,
    /// Whether it has no deadline, and the thread is one of the program's own: [`Wait::FOR_OBJECT`] or
    /// [`Wait::FOR_PROCESS`]. Written last, and withdrawn first.
    pub(super) endless: AtomicU32,
    /// The thread, as lock words name it; zero: not known.
    pub(super) thread: AtomicU32,
    /// How many waits were announced here. With the same number before and after, what was read is of one wait.
    pub(super) stamp: AtomicU32,
    /// Whether it may end with an error that says that it is part of a deadlock.
    pub(super) may_fail: AtomicU32,
}

impl Wait {
    /// An endless wait for an object of the arena.
    pub(super) const FOR_OBJECT: u32 = 1;
    /// An endless wait for the end of a process, of which `object` has the name. Nothing sleeps on its word.
    pub(super) const FOR_PROCESS: u32 = 2;
}

/// Flag of an entry's `exit` word: a code was noted. `noted 1 | - | low bits of start time 22 | code 32`.
const NOTED: u64 = 1 << 63;

/// An entry's `life` word: `generation 16 | state 4 | pid 22 | low bits of start time 22`,
/// in state `Dead` `generation 16 | state 4 | - | reaper 31`.
/// A starting entry has the pid and start time of the parent that reserved it. Pid and start time are in the word
/// itself, so one compare-and-swap registers a process, and no death leaves an entry that no process can judge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Life(pub(super) u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Free,
    Starting,
    Live,
    Dead,
    Damaged,
}

impl Life {
    const BITS: u32 = 22;
    /// Bits of the start time that are kept: 11 hours of 10 ms ticks. To be confused, the same pid must return a
    /// multiple of that later.
    pub(super) const START_MASK: u64 = (1 << Self::BITS) - 1;

    pub(super) fn new(generation: u16, stage: Stage, pid: u32, start: u64) -> Self {
        let pid = u64::from(pid) & Self::START_MASK;
        Self(Self::head(generation, stage) | pid << Self::BITS | start & Self::START_MASK)
    }

    pub(super) fn dead(generation: u16, reaper: Owner) -> Self {
        Self(Self::head(generation, Stage::Dead) | u64::from(reaper.to_bits()))
    }

    pub(super) fn free(generation: u16) -> Self {
        Self(Self::head(generation, Stage::Free))
    }

    fn head(generation: u16, stage: Stage) -> u64 {
        u64::from(generation) << 48 | (stage as u64) << 44
    }

    pub(super) fn generation(self) -> u16 {
        (self.0 >> 48) as u16
    }

    pub(super) fn stage(self) -> Stage {
        match self.0 >> 44 & 0xf {
            0 => Stage::Free,
            1 => Stage::Starting,
            2 => Stage::Live,
            3 => Stage::Dead,
            _ => Stage::Damaged,
        }
    }

    /// Of a starting or living entry.
    pub(super) fn pid(self) -> u32 {
        (self.0 >> Self::BITS & Self::START_MASK) as u32
    }

    /// Of a starting or living entry.
    pub(super) fn start(self) -> u64 {
        self.0 & Self::START_MASK
    }

    /// Of a dead entry.
    pub(super) fn reaper(self) -> Option<Owner> {
        Owner::from_bits(self.0 as u32)
    }
}

impl ProcessEntry {
    pub(super) fn life(&self) -> Life {
        Life(self.life.load(Ordering::Acquire))
    }

    pub(super) fn is_live(&self) -> bool {
        self.life().stage() == Stage::Live
    }

    pub(super) fn change(&self, from: Life, to: Life) -> bool {
        self.life
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Record which program the process of this generation runs. Comes after the entry has become that process's, so
    /// that no other process overwrites it. Until then the word has another generation, and says nothing.
    /// `generation 16 | - | program 41`.
    pub(super) fn set_program(&self, generation: u16, program: Program) {
        let word = u64::from(generation) << 48 | program.to_bits();
        self.program.store(word, Ordering::Release);
    }

    /// Whether the process has executed another program since, given its state `now`. Then nothing of this family is in
    /// its memory any more.
    pub(super) fn has_executed(&self, generation: u16, now: Stat) -> bool {
        let word = self.program.load(Ordering::Acquire);
        (word >> 48) as u16 == generation && Program::from_bits(word).was_left(now)
    }

    /// Note the code with which the entry's own process is about to exit.
    pub(super) fn note_exit(&self, code: i32) {
        let start = self.life().start();
        let word = NOTED | start << 32 | u64::from(code as u32);
        self.exit.store(word, Ordering::Release);
    }

    /// The code noted by the process that started at `start` (`None`: at any time).
    pub(super) fn noted_exit(&self, start: Option<u64>) -> Option<i32> {
        let word = self.exit.load(Ordering::Acquire);
        let its = start.is_none_or(|start| word >> 32 & Life::START_MASK == start & Life::START_MASK);
        (word & NOTED != 0 && its).then_some(word as u32 as i32)
    }

    pub(super) fn forget_exit(&self) {
        self.exit.store(0, Ordering::Relaxed);
        self.serving.store(0, Ordering::Relaxed);
    }

    /// Record a wait of this process. It counts as begun if it is `anew`, and does not continue an interrupted one.
    pub(super) fn begin_wait(&self, anew: bool) {
        self.note_helpers();
        if anew {
            self.begun.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Note how many threads of the engine's own this process, the entry's, has.
    pub(super) fn note_helpers(&self) {
        loop {
            let helpers = threads::helpers();
            self.helpers
                .store(u32::try_from(helpers).unwrap_or(0), Ordering::SeqCst);
            // Another thread may have noted a newer number meanwhile, which this one has replaced.
            if threads::helpers() == helpers {
                return;
            }
        }
    }

    pub(super) fn begun_word(&self) -> &AtomicU32 {
        &self.begun
    }

    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Acquire)
    }

    pub(super) fn helpers(&self) -> usize {
        self.helpers.load(Ordering::SeqCst) as usize
    }

    /// Withdraw the waits of a process that is dead.
    pub(super) fn forget_waits(&self) {
        for wait in &self.waits {
            wait.endless.store(0, Ordering::Relaxed);
            wait.word.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn set_serving(&self, serving: bool) {
        self.serving.store(serving.into(), Ordering::Release);
    }

    pub(super) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire) != 0
    }

    /// Write the name, cut to 64 bytes at a character's boundary. Only the entry's own process writes it, or the one
    /// that just claimed the entry.
    pub(super) fn set_name(&self, name: &str) {
        let mut cut = name.len().min(NAME_WORDS * 8);
        while !name.is_char_boundary(cut) {
            cut -= 1;
        }
        let mut bytes = [0_u8; NAME_WORDS * 8];
        bytes[..cut].copy_from_slice(&name.as_bytes()[..cut]);
        // SYNC: a sequence lock. The version is odd while the name is being written. DEATH: an odd version of a dead
        // process's name is read as it stands.
        let version = self.name_version.load(Ordering::Relaxed) | 1;
        self.name_version.store(version, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, part) in self.name.iter().zip(bytes.chunks_exact(8)) {
            word.store(
                u64::from_ne_bytes(part.try_into().unwrap_or_default()),
                Ordering::Relaxed,
            );
        }
        self.name_version.store(version.wrapping_add(1), Ordering::Release);
    }

    pub(super) fn name(&self) -> String {
        let mut bytes = [0_u8; NAME_WORDS * 8];
        for _ in 0..16 {
            let version = self.name_version.load(Ordering::Acquire);
            for (word, part) in self.name.iter().zip(bytes.chunks_exact_mut(8)) {
                part.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            }
            fence(Ordering::Acquire);
            if version % 2 == 0 && version == self.name_version.load(Ordering::Relaxed) {
                break;
            }
        }
        let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_size() {
        assert_eq!(size_of::<ProcessEntry>(), 512);
    }

    #[test]
    fn life_keeps_its_parts_apart() {
        let life = Life::new(u16::MAX, Stage::Live, (1 << 22) - 1, u64::MAX);
        assert_eq!((life.generation(), life.stage()), (u16::MAX, Stage::Live));
        assert_eq!((life.pid(), life.start()), ((1 << 22) - 1, Life::START_MASK));
        let reaper = Owner::new(32767, u16::MAX);
        let dead = Life::dead(7, reaper);
        assert_eq!(
            (dead.generation(), dead.stage(), dead.reaper()),
            (7, Stage::Dead, Some(reaper))
        );
        assert!(reaper.to_bits() < 1 << 31);
    }
}
