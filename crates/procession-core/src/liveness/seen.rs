//! What an observer of another family reads of its process table, given copies of its entries.

use super::entry::{ProcessEntry, Stage, Wait};
use super::members::MemberState;
use super::table::{Word, GROUP};
use crate::arena::seen::{AnyBits, Header};
use crate::ids::Owner;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) use super::entry::ProcessEntry as Entry;
pub(crate) use super::table::now;

// SAFETY: atomics only.
unsafe impl AnyBits for ProcessEntry {}

/// An announced wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitWord {
    /// Distance of the word that the thread sleeps on from the process table.
    pub distance: u64,
    /// For how many milliseconds it has lasted.
    pub for_ms: u32,
    /// When it began, as [`now`] counts.
    pub since_ms: u64,
    /// Whether it has no deadline.
    pub endless: bool,
    /// The kernel's identifier of the thread, if that is known.
    pub thread: Option<u32>,
    /// The process whose end it waits for, if it does.
    pub joins: Option<Owner>,
}

/// An entry of the process table, decoded.
#[derive(Clone, Debug)]
pub(crate) struct EntrySeen {
    pub owner: Owner,
    /// `None`: the entry is free, and tells of the process that had it last.
    pub state: Option<MemberState>,
    pub pid: u32,
    /// Low bits of its start time, while it lives.
    pub start: u64,
    pub name: String,
    pub parent: Option<Owner>,
    /// Whether it was born by fork; `None`: not written yet.
    pub by_fork: Option<bool>,
    /// Whether it only does what other processes ask it to.
    pub serving: bool,
    /// The code that it noted before it exited.
    pub exit_code: Option<i32>,
    pub waits: Vec<WaitWord>,
    /// How many of the engine's own threads it had when it last began to wait.
    pub helpers: usize,
}

/// How many entries the family says it uses, and its first process.
pub(crate) fn table_words(header: &Header) -> (u64, Option<Owner>) {
    let word = |word: Word| header.process_table[word as usize].load(Relaxed);
    (word(Word::Size), Owner::from_bits(word(Word::Root) as u32))
}

/// Number of entries that share a word of hints, which lies in the first of them.
pub(crate) const ENTRIES: usize = GROUP;

/// The kernel's identifier in a thread's name in lock words, of which it has the lower bits.
fn thread_number(thread: u32) -> Option<u32> {
    Some(thread & ((1 << 22) - 1)).filter(|&number| number != 0)
}

/// Whether this start time is the one whose low bits are `low`. Zero matches any: the process could not read its own.
pub(crate) fn is_start(low: u64, start: u64) -> bool {
    low == 0 || low == start & super::entry::Life::START_MASK
}

impl ProcessEntry {
    /// Whether two copies agree on which process the entry is for, and on its name.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.life() == other.life() && self.name() == other.name()
    }

    /// Whether it never was a process's.
    pub(crate) fn is_unused(&self) -> bool {
        self.life().0 == 0
    }

    /// What a copy says. `None`: it never was a process's, or is damaged.
    pub(crate) fn seen(&self, slot: usize) -> Option<EntrySeen> {
        let life = self.life();
        let state = match life.stage() {
            Stage::Free => None,
            Stage::Starting => Some(MemberState::Starting),
            Stage::Live => Some(MemberState::Live),
            Stage::Dead => Some(MemberState::Dead),
            Stage::Damaged => return None,
        };
        let pid = match state {
            Some(MemberState::Live) => life.pid(),
            _ => self.pid.load(Relaxed),
        };
        let birth = self.birth.load(Relaxed);
        let now = now();
        let waits = self.waits.iter().filter_map(|wait| {
            let distance = wait.word.load(Relaxed);
            // A wait that began after `now` was read has lasted for no time.
            let for_ms = ((now as u32).wrapping_sub(wait.since.load(Relaxed)) as i32).max(0) as u32;
            (distance != 0).then(|| WaitWord {
                distance,
                for_ms,
                since_ms: now.saturating_sub(for_ms.into()),
                endless: wait.endless.load(Relaxed) != 0,
                thread: thread_number(wait.thread.load(Relaxed)),
                joins: (wait.endless.load(Relaxed) == Wait::FOR_PROCESS)
                    .then(|| Owner::from_bits(wait.object.load(Relaxed) as u32))
                    .flatten(),
            })
        });
        (life.generation() != 0).then(|| EntrySeen {
            owner: Owner::new(slot, life.generation()),
            state,
            pid,
            start: if state == Some(MemberState::Live) {
                life.start()
            } else {
                0
            },
            name: self.name(),
            parent: Owner::from_bits(self.parent.load(Relaxed)),
            by_fork: (birth != 0).then_some(birth & 1 != 0),
            serving: self.is_serving(),
            exit_code: self.noted_exit(None),
            waits: waits.collect(),
            helpers: self.helpers(),
        })
    }

    /// Which entries of this entry's group are in use, if it is the group's first.
    pub(crate) fn group_bits(&self) -> u64 {
        self.used.load(Relaxed)
    }
}
