//! Families that only wait: the root is dead, and every living member waits, without a timeout, for what only members
//! could give. Leaves to `sync::wait` the end of such a wait.
//!
//! The README beside this file has the rule, and the reason why it never applies too early.

use super::death::is_alive;
use super::entry::{ProcessEntry, Stage};
use super::own::me_already;
use super::table::{self, now, ProcessTable};
use crate::arena::awaits_a_newcomer;
use crate::ids::Owner;
use crate::sys::proc;
use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;

/// How often a waiting thread asks whether the root lives, in milliseconds.
const ASK: u64 = 100;
/// For how long nothing may have happened in the family, in milliseconds.
const STILL: u64 = 150;

/// Each member, and how many waits it has begun.
type Snapshot = Vec<(Owner, u32)>;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
    /// When this thread first saw the family in its present state.
    static SEEN: RefCell<Option<(u64, Snapshot)>> = const { RefCell::new(None) };
}

/// Whether a wait of this thread, which began at `since` (as `now` counts) and has no deadline, is for something that
/// no process will give.
pub(crate) fn is_abandoned(since: u64) -> bool {
    let (Some(table), Some(me)) = (table::table(), me_already()) else {
        return false;
    };
    let Some(root) = table.root().filter(|&root| root != me) else {
        return false;
    };
    if since <= table.verdict().load(Ordering::Acquire) {
        return true;
    }
    let now = now();
    if now.wrapping_sub(ASKED.replace(now)) < ASK || is_alive(root) {
        return false;
    }
    let Some(snapshot) = snapshot(table).filter(|first| is_unchanged(table, first)) else {
        SEEN.take();
        return false;
    };
    let still = SEEN.with_borrow_mut(|seen| match seen {
        Some((when, before)) if *before == snapshot => now.wrapping_sub(*when) >= STILL,
        _ => {
            *seen = Some((now, snapshot));
            false
        }
    });
    if still {
        SEEN.take();
        table.verdict().store(now, Ordering::Release);
        table.in_use().for_each(|(_, entry)| entry.wake_announced(table));
    }
    still
}

/// Whether the family's first process is another one, so that this process's waits check whether it lives.
pub(crate) fn has_root() -> bool {
    let root = table::table().and_then(ProcessTable::root);
    root.is_some() && root != me_already()
}

fn is_unchanged(table: &ProcessTable, first: &Snapshot) -> bool {
    snapshot(table).is_some_and(|second| second == *first)
}

/// All members, if each of them can only wait.
fn snapshot(table: &ProcessTable) -> Option<Snapshot> {
    let snapshot = table
        .in_use()
        .filter(|(_, entry)| entry.life().stage() != Stage::Free)
        .map(|(slot, entry)| {
            let life = entry.life();
            let begun = entry.begun();
            let member = Owner::new(slot, life.generation());
            let waits = life.stage() == Stage::Live && only_waits(entry, life.pid());
            if !waits {
                // A member that has died is reaped by this, and missing at the next look.
                is_alive(member);
            }
            waits.then_some((member, begun))
        })
        .collect::<Option<Snapshot>>()?;
    // A process that was started may not be in the process table yet.
    (!awaits_a_newcomer(|pid| table.in_use().any(|(_, entry)| entry.life().pid() == pid))).then_some(snapshot)
}

/// Whether every thread of the process sleeps: in a wait without a deadline, or as one of the engine's own. A process
/// that only serves others does nothing of its own accord, so that any sleep of its threads counts.
fn only_waits(entry: &ProcessEntry, pid: u32) -> bool {
    let Some(threads) = proc::all_sleep(pid) else {
        return false;
    };
    entry.is_serving() || threads <= entry.waits_without_end() + entry.helpers()
}
