//! What is known of each process of the family: its name, parent, state, waits and exit code. Leaves it to `death` to
//! find out whether it lives.

use super::entry::Stage;
use super::table;
use crate::ids::{Handle, Owner};
use crate::trace::{self, What};
use std::sync::atomic::Ordering;

/// The state of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberState {
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
    pub state: MemberState,
    /// What its threads wait for: number of the object's kind (zero: none), its handle, for how many milliseconds.
    pub waits: Vec<(u32, Option<Handle>, u32)>,
}

/// Set this process's name, cut to 64 bytes.
pub fn set_name(name: &str) {
    if let Some((_, entry)) = table::my_entry() {
        entry.set_name(name);
    }
}

/// Set whether this process only does what others ask it to.
pub(crate) fn set_serving(serving: bool) {
    if let Some((_, entry)) = table::my_entry() {
        entry.set_serving(serving);
    }
}

/// Note the code with which this process is about to exit. Its parent reads it here if the kernel keeps no status.
pub fn note_exit(code: i32) {
    if let Some((_, entry)) = table::my_entry() {
        entry.note_exit(code & 0xff);
        trace::note_alone(What::ProcessEnd, (code & 0xff) as u64);
    }
}

/// The code that process `pid`, which has ended, noted before it exited. Lost once the entry is another process's.
pub(crate) fn noted_exit(pid: u32, start: Option<u64>) -> Option<i32> {
    let table = table::table()?;
    let mut its = table
        .entries()
        .iter()
        .filter(|entry| entry.pid.load(Ordering::Relaxed) == pid);
    its.find_map(|entry| entry.noted_exit(start))
}

/// Set this process's parent to `pid`: a fork server forks its children for another process.
pub(crate) fn set_parent(pid: u32) {
    let Some((table, mine)) = table::my_entry() else { return };
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
    let Some(table) = table::table() else {
        return Vec::new();
    };
    table
        .in_use()
        .filter_map(|(slot, entry)| {
            let life = entry.life();
            let state = match life.stage() {
                Stage::Starting => MemberState::Starting,
                Stage::Live => MemberState::Live,
                Stage::Dead => MemberState::Dead,
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
    let entry = table::entry(owner)?;
    let found = (entry.pid.load(Ordering::Relaxed), entry.name());
    (entry.life().generation() == owner.generation()).then_some(found)
}

/// The name of a process, living or dead, in errors.
pub(crate) fn label(owner: Owner) -> String {
    let (pid, name) = describe(owner).unwrap_or_default();
    crate::error::label_of(pid, &name)
}
