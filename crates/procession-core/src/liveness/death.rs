//! Noticing deaths, and reaping dead processes. Leaves to `reclaim` what a death gives back.

use super::entry::{Life, ProcessEntry, Stage};
use super::own::me_already;
use super::table::{self, now, ProcessTable};
use crate::hooks::hooks;
use crate::ids::Owner;
use crate::sys::{pidfd, proc};
use crate::trace::{self, What};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How long a child of fork may take to claim the entry reserved for it, in milliseconds. An older reservation belongs
/// to a fork that failed.
const CLAIM_TIME: u64 = 60_000;
/// The same when the parent is dead, and so cannot abandon the reservation of a failed fork.
const ORPHAN_CLAIM_TIME: u64 = 2_000;
/// Least time between two questions of non-blocking calls to the kernel about a holder, in milliseconds.
const ASK_AGAIN: u64 = 20;
/// Least time between two sweeps by processes that wait, in milliseconds.
const SWEEP_AGAIN: u64 = 1_000;

/// Whether this very process still lives (a zombie does not). Looks at the process table first, then asks the kernel
/// (pidfd and start time). On learning of a death it marks the process dead, reclaims what the process owned and wakes
/// the processes that waited for it.
pub fn is_alive(owner: Owner) -> bool {
    let Some(table) = table::table() else {
        return false;
    };
    let Some(entry) = table.get(owner) else {
        return false;
    };
    let life = entry.life();
    if life.generation() != owner.generation() {
        return false;
    }
    match life.stage() {
        Stage::Live if me_already() == Some(owner) => true,
        Stage::Live | Stage::Starting if !is_over(entry, life) => true,
        Stage::Live | Stage::Starting | Stage::Dead => {
            reap(table, owner, entry);
            false
        }
        Stage::Free | Stage::Damaged => false,
    }
}

/// Whether the process table already says that this process is dead. Costs a load.
pub(crate) fn is_known_dead(owner: Owner) -> bool {
    table::entry(owner).is_none_or(|entry| {
        let life = entry.life();
        life.generation() != owner.generation() || !matches!(life.stage(), Stage::Live | Stage::Starting)
    })
}

/// As `!is_alive`, but cheap when called often: asks the kernel only now and then.
pub(crate) fn is_probably_dead(owner: Owner) -> bool {
    is_known_dead(owner) || may_ask() && !is_alive(owner)
}

/// Whether a non-blocking call may ask the kernel about holders. False if another call of this process did just now.
pub(crate) fn may_ask() -> bool {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    may_ask_again(&ASKED)
}

/// As [`may_ask`], for questions that have their own `asked`, when the kernel was last asked one.
pub(super) fn may_ask_again(asked: &AtomicU64) -> bool {
    let now = now();
    let may = now.wrapping_sub(asked.load(Ordering::Relaxed)) >= ASK_AGAIN;
    if may {
        asked.store(now, Ordering::Relaxed);
    }
    may
}

/// Tells whether a process has ended, and is cheap when asked often.
#[derive(Debug)]
pub struct DeathWatch {
    owner: Owner,
    /// When the kernel was last asked.
    asked: AtomicU64,
}

impl DeathWatch {
    /// Watch a process.
    pub fn new(owner: Owner) -> Self {
        let asked = AtomicU64::new(0);
        Self { owner, asked }
    }

    /// Whether the process has ended. The process table knows it at once if any process of the family has noticed; the
    /// kernel is asked every 20 ms at most.
    pub fn is_over(&self) -> bool {
        is_known_dead(self.owner) || may_ask_again(&self.asked) && !is_alive(self.owner)
    }
}

/// Check every process of the family and reap those that died. Returns how many are left.
pub fn sweep() -> usize {
    let Some(table) = table::table() else {
        return 0;
    };
    table
        .in_use()
        .filter(|(slot, entry)| is_alive(Owner::new(*slot, entry.life().generation())))
        .count()
}

/// As [`sweep`], at most once in [`SWEEP_AGAIN`] in the whole family. Waiting processes do it: perhaps no other process
/// notices the death of an orphan, or an entry that was reserved for its child.
pub(crate) fn sweep_now_and_then() {
    let Some(table) = table::table() else { return };
    let (now, last) = (now(), table.swept().load(Ordering::Relaxed));
    // DEATH: nothing has begun but the pause until the next sweep.
    let due = now.abs_diff(last) >= SWEEP_AGAIN
        && table
            .swept()
            .compare_exchange(last, now, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
    if !due || (hooks().is_reclaiming)() {
        return;
    }
    trace::forget_dead_tracer();
    for (slot, entry) in table.in_use() {
        let life = entry.life();
        // The fork of a living parent may still be under way, however old its reservation is: a stopped process
        // resumes.
        if life.stage() != Stage::Starting || pidfd::is_gone(life.pid(), life.start(), Life::START_MASK) {
            is_alive(Owner::new(slot, life.generation()));
        }
    }
}

/// Report that this process has ended. What it owned is reclaimed now, not when another process notices.
pub(crate) fn has_ended(pid: i32) {
    let Some(table) = table::table() else {
        return;
    };
    for (slot, entry) in table.in_use() {
        if entry.pid.load(Ordering::Relaxed) == pid as u32 {
            // The kernel is asked all the same: the pid may be another process's by now.
            is_alive(Owner::new(slot, entry.life().generation()));
        }
    }
}

/// Whether some process has executed another program, and still has its entry.
static EXECUTED: AtomicBool = AtomicBool::new(false);

/// Record that a process is to be reaped because it executed another program, see [`reap_executed`].
pub(super) fn note_executed() {
    EXECUTED.store(true, Ordering::Relaxed);
}

/// Reap the processes that executed another program, if one was seen. Not to be called while reclaiming.
pub(crate) fn reap_executed() {
    if EXECUTED.load(Ordering::Relaxed) && EXECUTED.swap(false, Ordering::Relaxed) {
        sweep();
    }
}

/// Whether this thread of a process that lives has ended.
pub(crate) fn has_thread_ended(owner: Owner, tid: u32) -> bool {
    table::entry(owner).is_some_and(|entry| {
        let life = entry.life();
        let ended = life.stage() == Stage::Live && proc::has_thread_ended(life.pid(), tid);
        // The process may have died and another may have its pid. Then its death is to be reported, not the thread's
        // end.
        ended && life.generation() == owner.generation() && !is_over(entry, life)
    })
}

/// Whether the process of a starting or living entry has ended, or has executed another program: then it holds nothing
/// any more.
pub(super) fn is_over(entry: &ProcessEntry, life: Life) -> bool {
    if life.stage() == Stage::Live {
        return pidfd::is_gone_or(life.pid(), life.start(), Life::START_MASK, |now| {
            entry.has_executed(life.generation(), now)
        });
    }
    let gone = pidfd::is_gone(life.pid(), life.start(), Life::START_MASK);
    match entry.since.load(Ordering::Relaxed) {
        // Not written yet, so there was no fork yet: the entry is over if the parent is.
        0 => gone,
        since => now().saturating_sub(since) > if gone { ORPHAN_CLAIM_TIME } else { CLAIM_TIME },
    }
}

/// Reap `owner`, which is dead. Idempotent: if the reaper dies, another process takes over.
fn reap(table: &ProcessTable, owner: Owner, entry: &ProcessEntry) {
    // A process without an entry cannot be named as the reaper, and registering here could come back here.
    let Some(me) = me_already() else { return };
    let mine = Life::dead(owner.generation(), me);
    loop {
        let life = entry.life();
        if life.generation() != owner.generation() {
            return;
        }
        match life.stage() {
            Stage::Starting | Stage::Live => {}
            // Another thread of this process, or another process, is reaping it.
            Stage::Dead => match life.reaper() {
                Some(reaper) if reaper == me || !has_died(table, reaper) => return,
                _ => {}
            },
            Stage::Free | Stage::Damaged => return,
        }
        if entry.change(life, mine) {
            break;
        }
    }
    // DEATH: from here on the entry names its reaper. If the reaper dies, the next process that meets the entry starts
    // again.
    trace::note_alone(What::Death, entry.pid.load(Ordering::Relaxed).into());
    // The waiters go on, however long the reclaiming takes.
    for (_, waiting) in table.in_use() {
        waiting.wake_announced(table);
    }
    (hooks().reclaim)(owner, me);
    table.release(owner, mine);
    // Some cells may stay deferred only because of such processes.
    if !(hooks().is_reclaiming)() {
        reap_executed();
    }
}

/// As `!is_alive`, but reaps nothing.
fn has_died(table: &ProcessTable, owner: Owner) -> bool {
    table.get(owner).is_none_or(|entry| {
        let life = entry.life();
        life.generation() != owner.generation()
            || match life.stage() {
                Stage::Live | Stage::Starting => is_over(entry, life),
                Stage::Dead | Stage::Free | Stage::Damaged => true,
            }
    })
}
