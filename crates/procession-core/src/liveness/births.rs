//! Which processes were born by fork, and so may still use what others free. Leaves to the arena which frees are
//! deferred for them, and to `death` the reaping of a process that needs none of them any more.

use super::death::{is_over, may_ask_again, note_executed};
use super::entry::{Life, Stage};
use super::table::{self, ProcessTable, VERSION, VERSION_BITS};
use crate::ids::Owner;
use crate::sys::proc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Whether some process (or one about to start) may have been born by fork after `birth`, so that it may have inherited
/// whatever was created then. Costs two loads. The caller itself counts, too: it may be dropping what it inherited.
/// What it created itself is younger than it is, so nothing of that is deferred for the caller.
pub(crate) fn fork_born_after(birth: u64) -> bool {
    table::table().is_some_and(|table| {
        let may = table.youngest().load(Ordering::Acquire) >> VERSION_BITS > birth;
        if may {
            suspect(table, birth);
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
        let Some(table) = table::table() else {
            return Self {
                births: Vec::new(),
                unknown: false,
            };
        };
        let youngest = table.youngest();
        // SYNC: read before the scan. A process that takes an entry later changes this word afterwards, see
        // `ProcessTable::claim_any`.
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
        if let Some(table) = table::table().filter(|_| are) {
            suspect(table, after);
        }
        are
    }
}

/// Record that no process reads any more what this dead process inherited. Its reaper calls this.
pub(crate) fn forget_inherited(dead: Owner) {
    if let Some(entry) = table::entry(dead) {
        entry.birth.fetch_and(!1, Ordering::AcqRel);
    }
}

/// Frees are deferred for processes born by fork after `birth`. From time to time, ask the kernel whether one of them,
/// each time another, has executed a program meanwhile and so needs nothing that it inherited. Such a process is to be
/// reaped, see [`reap_executed`](super::reap_executed).
fn suspect(table: &ProcessTable, birth: u64) {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    static TURN: AtomicUsize = AtomicUsize::new(0);
    if !may_ask_again(&ASKED) {
        return;
    }
    let mut forked = table.in_use().filter(|(_, entry)| {
        let own = entry.birth.load(Ordering::Relaxed);
        matches!(entry.life().stage(), Stage::Live | Stage::Starting) && own & 1 == 1 && own >> 1 > birth
    });
    let turn = TURN.load(Ordering::Relaxed);
    let next = forked.find(|(slot, _)| *slot >= turn);
    TURN.store(next.map_or(0, |(slot, _)| slot + 1), Ordering::Relaxed);
    let Some((_, entry)) = next else { return };
    let life = entry.life();
    let left =
        |now: proc::Stat| now.start & Life::START_MASK == life.start() && entry.has_executed(life.generation(), now);
    let over = match life.stage() {
        Stage::Live => proc::stat(life.pid()).is_some_and(left),
        // Reserved for a child that was never born.
        Stage::Starting => is_over(entry, life),
        _ => false,
    };
    if over {
        note_executed();
    }
}
