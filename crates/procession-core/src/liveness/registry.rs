//! Registering a process: its own entry, and those that it claims for others. Sweeps the family when the table is full;
//! leaves to `fork` what a fork does to an entry.

use super::death::sweep;
use super::entry::Stage;
use super::own::{become_owner_first, me_already, was_forked};
use super::table::{self, ProcessTable};
use super::waits::cores;
use crate::arena;
use crate::ids::Owner;
use crate::sys::{limits, proc};
use crate::{Error, Result};

/// Entries reserved for processes that bypass [`check_room`]: fork servers, their spare children, forks that the
/// program calls by itself.
const RESERVE: usize = 16;

/// This process, as an owner. Registers it on first use, and costs a load afterwards. Renewed in a child of fork.
#[inline]
pub fn me() -> Result<Owner> {
    match me_already() {
        Some(me) => Ok(me),
        None => join(),
    }
}

/// Register this process (a child of fork is registered by the hooks, unless there was no room then).
#[cold]
fn join() -> Result<Owner> {
    // Several threads may come here at once: the first one wins, and the others free their entries again. A lock here
    // could be inherited held by a child of fork.
    let pid = std::process::id();
    let state = proc::stat(pid);
    let before = table::open(arena::current()?).size();
    let start = state.map_or(0, |state| state.start);
    let me = claim(Stage::Live, pid, start, None, was_forked())?;
    if let (Some(entry), Some(state)) = (table::entry(me), state) {
        entry.set_program(me.generation(), state.program());
    }
    let first = become_owner_first(me);
    if first == Some(me) {
        cores(limits::usable_cores());
        if let Some(table) = table::table() {
            // A process has its entry before it starts another, so the first to come here is the root.
            table.set_root(me);
            if before != 0 && table.size() > before {
                // There was no room: the sweep makes some for the next process.
                sweep();
            }
        }
    } else if let Some((table, entry)) = table::table().and_then(|table| Some((table, table.get(me)?))) {
        table.release(me, entry.life());
    }
    first.ok_or(Error::Corrupt("this process's entry in the process table"))
}

/// Claim a free entry.
pub(super) fn claim(stage: Stage, pid: u32, start: u64, parent: Option<Owner>, by_fork: bool) -> Result<Owner> {
    let table = match table::table() {
        Some(table) => table,
        None => table::open(arena::current()?),
    };
    loop {
        let seen = table.size();
        if let Some(owner) = table.claim_any(stage, pid, start, parent, by_fork) {
            return Ok(owner);
        }
        // Only a process with an entry of its own can reap others.
        if seen == 0 || me_already().is_none() || sweep() == seen {
            table.grow(seen)?;
        }
    }
}

/// Check whether there is room for a further process. To be called before one is started: without an entry it could
/// only fail unseen.
pub fn check_room() -> Result<()> {
    let Some(table) = table::table() else { return Ok(()) };
    if has_reserve(table) || sweep() > 0 && has_reserve(table) {
        Ok(())
    } else {
        Err(Error::ProcessTableFull(table.capacity()))
    }
}

/// Whether more entries than the reserve are free, or can be.
fn has_reserve(table: &ProcessTable) -> bool {
    let most = table.capacity() - RESERVE;
    table.size() <= most || table.in_use().count() < most
}
