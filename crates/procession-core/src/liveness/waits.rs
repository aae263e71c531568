//! Announced waits: what the threads of a process wait for, so that a reaper can wake them and other processes can
//! look. Leaves the waiting itself to `sync::wait`.

use super::entry::{ProcessEntry, Stage, Wait};
use super::table::{self, ProcessTable};
use crate::ids::{Handle, Kind, Owner};
use crate::sys::{futex, threads};
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

/// An announced wait; withdrawn when dropped.
pub(crate) struct Announced(Option<&'static Wait>);

impl Announced {
    /// The thread is about to sleep. Until it wakes, it acquires and releases nothing.
    pub(crate) fn sleeping(&self) {
        if let Some(wait) = self.0 {
            let stamp = wait.stamp.load(Ordering::Relaxed);
            wait.stamp.store((stamp | 1).wrapping_add(1), Ordering::Release);
        }
    }

    /// The thread is about to look whether it has to wait any longer. It may take what it waits for.
    pub(crate) fn awake(&self) {
        if let Some(wait) = self.0 {
            let stamp = wait.stamp.load(Ordering::Relaxed);
            // SYNC: before the change, a Release, by which the thread takes a lock: a reader of that sees this.
            wait.stamp.store(stamp | 1, Ordering::Relaxed);
        }
    }
}

/// How long a wait may last, and whether it continues an earlier one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitKind {
    /// It has no deadline.
    pub endless: bool,
    /// It begins, rather than continuing after an interruption.
    pub anew: bool,
    /// When it first began, across interruptions: milliseconds of [`now`](super::table::now).
    pub since: u64,
    /// The thread, as lock words name it; zero: not known.
    pub thread: u32,
    /// Whether it may end with an error that says that it is part of a deadlock.
    pub may_fail: bool,
}

/// What is written of a wait besides its word.
#[derive(Clone, Copy)]
struct About {
    kind: u32,
    object: u64,
    endless: u32,
}

/// Announce that this thread is about to sleep on `word`. Never fails: without a free slot the wait goes unannounced.
pub(crate) fn announce(word: &AtomicU32, kind: Option<Kind>, object: Option<Handle>, manner: WaitKind) -> Announced {
    let Some((table, entry)) = table::my_entry() else {
        return Announced(None);
    };
    let distance = (word.as_ptr() as usize).wrapping_sub(table.base()) as u64;
    let about = About {
        kind: kind.map_or(0, |kind| kind as u32),
        object: object.map_or(0, Handle::to_bits),
        endless: Wait::FOR_OBJECT,
    };
    announce_at(entry, distance, about, manner)
}

/// Announce that this thread is about to sleep until process `pid` ends. Does nothing if it is no process of the family.
pub(crate) fn announce_join(pid: u32, manner: WaitKind) -> Announced {
    let Some((table, entry)) = table::my_entry() else {
        return Announced(None);
    };
    let target = table.in_use().find_map(|(slot, entry)| {
        let life = entry.life();
        let is = life.stage() == Stage::Live && life.pid() == pid;
        is.then(|| (entry, Owner::new(slot, life.generation())))
    });
    let Some((target, owner)) = target else {
        return Announced(None);
    };
    let about = About {
        kind: Kind::Child as u32,
        object: owner.to_bits().into(),
        endless: Wait::FOR_PROCESS,
    };
    let announced = announce_at(entry, table.join_word(target), about, manner);
    announced.sleeping(); // it does nothing else meanwhile
    announced
}

fn announce_at(entry: &'static ProcessEntry, distance: u64, about: About, manner: WaitKind) -> Announced {
    entry.begin_wait(manner.anew);
    let endless = manner.endless && !threads::is_helper();
    for wait in &entry.waits {
        if wait.word.load(Ordering::Relaxed) == 0
            && wait
                .word
                .compare_exchange(0, distance, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            let stamp = wait.stamp.load(Ordering::Relaxed);
            wait.stamp.store((stamp | 1).wrapping_add(2), Ordering::Relaxed);
            // SYNC: with the fence of `is_still`, a reader that sees any of what follows sees the new stamp, too.
            fence(Ordering::Release);
            wait.since.store(manner.since as u32, Ordering::Relaxed);
            wait.kind.store(about.kind, Ordering::Relaxed);
            wait.object.store(about.object, Ordering::Relaxed);
            wait.thread.store(manner.thread, Ordering::Relaxed);
            wait.may_fail.store(manner.may_fail.into(), Ordering::Relaxed);
            let endless = if endless { about.endless } else { 0 };
            wait.endless.store(endless, Ordering::Release);
            return Announced(Some(wait));
        }
    }
    Announced(None)
}

/// As [`announce`], for a sleep on the lower half of `word`.
pub(crate) fn announce_low(
    word: &AtomicU64,
    kind: Option<Kind>,
    object: Option<Handle>,
    manner: WaitKind,
) -> Announced {
    announce(futex::lower_half(word), kind, object, manner)
}

/// Whether a thread of a living process of the family sleeps in the engine. Such a thread looks for idle memory when
/// its slice ends.
pub(crate) fn some_process_waits() -> bool {
    let waits = |entry: &ProcessEntry| entry.waits.iter().any(|wait| wait.word.load(Ordering::Relaxed) != 0);
    table::table().is_some_and(|table| table.in_use().any(|(_, entry)| entry.is_live() && waits(entry)))
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Some(wait) = self.0 {
            wait.endless.store(0, Ordering::Relaxed);
            wait.word.store(0, Ordering::Release);
        }
    }
}

impl ProcessEntry {
    /// Wake every thread that sleeps on a word that this process announced. A wake that this process consumed before it
    /// died is passed on; and what the sleepers wait for may have died.
    pub(super) fn wake_announced(&self, table: &ProcessTable) {
        for wait in &self.waits {
            let distance = wait.word.load(Ordering::Acquire);
            if distance != 0 {
                // Nothing is read or written at this address: a damaged distance wakes no thread.
                futex::wake_at(table.base().wrapping_add(distance as usize), u32::MAX);
            }
        }
    }

    /// How many of its threads wait without a deadline.
    pub(super) fn waits_without_end(&self) -> usize {
        let endless = |wait: &&Wait| {
            wait.endless.load(Ordering::Acquire) == Wait::FOR_OBJECT && wait.word.load(Ordering::Acquire) != 0
        };
        self.waits.iter().filter(endless).count()
    }

    /// What its threads wait for: kind number, handle, milliseconds so far.
    pub(super) fn waiting(&self) -> Vec<(u32, Option<Handle>, u32)> {
        let now = table::now() as u32;
        self.waits
            .iter()
            .filter(|wait| wait.word.load(Ordering::Acquire) != 0)
            .map(|wait| {
                let since = wait.since.load(Ordering::Relaxed);
                let object = Handle::from_bits(wait.object.load(Ordering::Relaxed))
                    .filter(|_| wait.endless.load(Ordering::Relaxed) != Wait::FOR_PROCESS);
                (wait.kind.load(Ordering::Relaxed), object, now.wrapping_sub(since))
            })
            .collect()
    }
}

/// Counts this thread as spinning in the family, so that spinning threads leave a core to the process they wait for. A
/// hint; the reaper subtracts what a dead process counted.
pub(crate) struct Spinning(Option<(&'static ProcessTable, &'static ProcessEntry)>);

impl Spinning {
    pub(crate) fn begin() -> Self {
        let mine = table::my_entry();
        if let Some((table, entry)) = mine {
            // DEATH: in this order, and the reverse order at the end, the count can only come out too low, which does
            // no harm.
            entry.spinning.fetch_add(1, Ordering::Relaxed);
            table.spinners().fetch_add(1, Ordering::Relaxed);
        }
        Self(mine)
    }

    /// How many other threads are spinning.
    pub(crate) fn others(&self) -> u32 {
        self.0.map_or(0, |(table, _)| {
            (table.spinners().load(Ordering::Relaxed) as i64 - 1).max(0) as u32
        })
    }
}

/// How many cores the family's processes could use so far, together, as reported through this function; `own` are those
/// that this process can use now.
pub(crate) fn cores(own: u64) -> u32 {
    let others = table::table().map_or(0, |table| table.cores().fetch_or(own, Ordering::Relaxed));
    (others | own).count_ones()
}

impl Drop for Spinning {
    fn drop(&mut self) {
        if let Some((table, entry)) = self.0 {
            table.spinners().fetch_sub(1, Ordering::Relaxed);
            entry.spinning.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
