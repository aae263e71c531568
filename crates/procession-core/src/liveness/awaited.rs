//! What other processes read of announced waits: which thread waits for what, and whether it still does. Leaves to
//! `sync::deadlock` what follows from it.

use super::entry::{ProcessEntry, Stage, Wait};
use super::table;
use crate::hooks::hooks;
use crate::ids::{Handle, Kind, Owner};
use crate::sys::proc;
use std::sync::atomic::{fence, AtomicU64, Ordering};

/// A wait without a deadline, of a thread that the program started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndlessWait {
    /// The process.
    pub owner: Owner,
    /// The thread, as lock words name it.
    pub thread: u32,
    pub target: Target,
    /// Lower half of when it began, in milliseconds of [`now`](super::now).
    pub since: u32,
    /// Whether it may end with an error.
    pub may_fail: bool,
    place: usize,
    stamp: u32,
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Something in the arena. The distance is where the word lies that the thread sleeps on.
    Object { kind: Kind, handle: Handle, distance: u64 },
    /// The end of a process.
    Process(Owner),
}

/// The waits of a living process without a deadline, as far as it is known for what they are, and of which thread. Those
/// of threads that are awake are left out: such a thread may have just taken what it waited for. `me`: the thread that
/// asks, of this process.
pub(crate) fn endless_waits(owner: Owner, me: Option<u32>) -> Vec<EndlessWait> {
    let waits = living(owner).map_or(&[][..], |entry| &entry.waits);
    let numbered = waits.iter().enumerate();
    let all = numbered.filter_map(|(place, wait)| read(owner, place, wait));
    all.filter(|seen| seen.stamp & 1 == 0 || me == Some(seen.thread))
        .collect()
}

fn living(owner: Owner) -> Option<&'static ProcessEntry> {
    let entry = table::entry(owner)?;
    let life = entry.life();
    (life.stage() == Stage::Live && life.generation() == owner.generation()).then_some(entry)
}

fn read(owner: Owner, place: usize, wait: &Wait) -> Option<EndlessWait> {
    let stamp = wait.stamp.load(Ordering::Acquire);
    let distance = wait.word.load(Ordering::Acquire);
    let endless = wait.endless.load(Ordering::Acquire);
    let object = wait.object.load(Ordering::Relaxed);
    let target = match endless {
        Wait::FOR_OBJECT => Target::Object {
            kind: Kind::from_number(wait.kind.load(Ordering::Relaxed).try_into().ok()?)?,
            handle: Handle::from_bits(object)?,
            distance,
        },
        Wait::FOR_PROCESS => Target::Process(Owner::from_bits(object as u32)?),
        _ => return None,
    };
    let seen = EndlessWait {
        owner,
        thread: wait.thread.load(Ordering::Relaxed),
        target,
        since: wait.since.load(Ordering::Relaxed),
        may_fail: wait.may_fail.load(Ordering::Relaxed) != 0,
        place,
        stamp,
    };
    (distance != 0 && seen.thread != 0 && seen.is_still()).then_some(seen)
}

impl EndlessWait {
    /// Whether the thread has waited ever since this was read. Then it has neither acquired nor released anything.
    pub(crate) fn is_still(&self) -> bool {
        // SYNC: see `announce_at`.
        fence(Ordering::Acquire);
        living(self.owner).is_some_and(|entry| {
            let wait = &entry.waits[self.place];
            let lasts = wait.endless.load(Ordering::Relaxed) != 0 && wait.word.load(Ordering::Relaxed) != 0;
            lasts && wait.stamp.load(Ordering::Relaxed) == self.stamp
        })
    }

    /// Milliseconds so far.
    pub(crate) fn for_ms(&self) -> u32 {
        let waited = (super::now() as u32).wrapping_sub(self.since);
        (waited as i32).max(0) as u32
    }
}

/// Whether an announced distance is that of this word.
pub(crate) fn is_at(distance: u64, word: &AtomicU64) -> bool {
    let low = crate::sys::futex::lower_half(word).as_ptr() as usize;
    table::table().is_some_and(|table| distance == low.wrapping_sub(table.base()) as u64)
}

/// How many threads of the program's own a living process has; at least as many, while some begin or end. `None`: the
/// kernel does not say.
pub(crate) fn program_threads(owner: Owner) -> Option<usize> {
    let entry = living(owner)?;
    let before = entry.helpers();
    let threads = proc::thread_count_of(entry.life().pid())?;
    // A number that was changed meanwhile says nothing.
    (entry.helpers() == before)
        .then(|| threads.checked_sub(before))
        .flatten()
}

/// All processes of the family that may run a line of the program. `None`: one of them is being started, or is ending.
pub(crate) fn all_programs() -> Option<Vec<Owner>> {
    let table = table::table()?;
    let in_use = table.in_use().filter(|(_, entry)| entry.life().stage() != Stage::Free);
    let all = in_use
        .map(|(slot, entry)| {
            let life = entry.life();
            let owner = Owner::new(slot, life.generation());
            (life.stage() == Stage::Live).then_some((owner, entry.is_serving()))
        })
        .collect::<Option<Vec<_>>>()?;
    // A fork server does only what others ask it to.
    let programs = all.into_iter().filter(|(_, serves)| !serves).map(|(owner, _)| owner);
    Some(programs.collect())
}

/// Whether something in the arena belongs to a process that has not begun yet. Looks at all cells.
pub(crate) fn some_process_will_begin() -> bool {
    let is_member =
        |pid| table::table().is_some_and(|table| table.in_use().any(|(_, entry)| entry.life().pid() == pid));
    crate::arena::awaits_a_newcomer(is_member)
}

/// Whether the process has a handler for a signal that may come, which may do anything. True if the kernel does not say.
pub(crate) fn handles_signals(owner: Owner) -> bool {
    living(owner).is_none_or(|entry| proc::handles_signals(entry.life().pid()))
}

/// Note how many threads of the engine's own this process has.
pub(crate) fn note_helpers() {
    if let Some((_, entry)) = table::my_entry() {
        entry.note_helpers();
    }
}

/// What the family does about deadlocks; zero: not decided yet.
pub(crate) fn deadlock_word() -> Option<&'static AtomicU64> {
    table::table().map(table::ProcessTable::deadlocks)
}

/// Whether this wait, which began at `since` and has no deadline, is part of a deadlock that it has to end. Returns
/// what the deadlock is, in words.
pub(crate) fn deadlock(since: u64) -> Option<String> {
    (hooks().deadlock)(since)
}
