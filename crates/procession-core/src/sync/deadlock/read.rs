//! One look at what the threads of the family wait for, as its own processes see it. The README of `sync` argues why
//! what such a look shows held at one moment.

use super::graph::Awaits;
use crate::arena::{look_up, name_of, Object};
use crate::ids::{Handle, Kind, Owner};
use crate::liveness::{self, EndlessWait, Target};
use crate::sync::claim::Claim;
use crate::sync::lock::LockState;
use crate::sync::primitive::Ordering;
use crate::sync::raw::RawLock;
use crate::sync::rlock::RLockState;
use crate::CreationSite;
use std::collections::{BTreeMap, HashMap};

/// A thread of a process, as lock words name both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Thread {
    owner: u32,
    thread: u32,
}

impl Thread {
    pub(super) fn of(claim: Claim) -> Self {
        Self {
            owner: claim.owner().to_bits(),
            thread: claim.thread_word(),
        }
    }

    fn waiting(wait: &EndlessWait) -> Self {
        Self {
            owner: wait.owner.to_bits(),
            thread: wait.thread,
        }
    }

    pub(super) fn owner(self) -> Owner {
        Owner(self.owner)
    }

    /// The kernel's number of the thread.
    pub(super) fn number(self) -> u32 {
        Claim::number(self.thread)
    }
}

/// What a thread waits for, in a deadlock.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub wait: EndlessWait,
    /// The lock, if it is one.
    pub lock: Option<HeldLock>,
}

/// A lock that is held.
#[derive(Clone, Debug)]
pub(super) struct HeldLock {
    pub class: &'static str,
    /// What the program calls it.
    pub name: Option<String>,
    pub holder: Thread,
    pub made: Option<CreationSite>,
    /// Only its holder will release it.
    is_owned: bool,
}

/// A look. What was read once is not read again.
#[derive(Debug)]
pub(super) struct Look {
    /// The thread that looks.
    me: Thread,
    waits: HashMap<Owner, Vec<EndlessWait>>,
    /// All threads of a process, if all of them wait.
    threads: HashMap<Owner, Option<Vec<Thread>>>,
    /// All threads of the family; none, if one of them may go on.
    family: Option<Vec<Thread>>,
    seen: BTreeMap<Thread, Seen>,
}

impl Look {
    pub(super) fn of(me: Thread) -> Self {
        Self {
            me,
            waits: HashMap::new(),
            threads: HashMap::new(),
            family: None,
            seen: BTreeMap::new(),
        }
    }

    /// What a thread waits for.
    pub(super) fn awaits(&mut self, thread: Thread) -> Awaits<Thread> {
        self.givers(thread).map_or(Awaits::MayGoOn, Awaits::OneOf)
    }

    fn givers(&mut self, thread: Thread) -> Option<Vec<Thread>> {
        let wait = self.wait(thread)?;
        let (lock, givers) = match wait.target {
            // The process that waits for another one may end it, by any of its threads.
            Target::Process(owner) => {
                let mut givers = self.threads(owner)?;
                givers.extend(self.threads(thread.owner())?);
                (None, givers)
            }
            Target::Object { kind, handle, distance } => {
                let lock = held(kind, handle, distance)?;
                let givers = if lock.is_owned {
                    vec![lock.holder]
                } else {
                    // Any thread of any process may release it. Most often its holder runs, and will.
                    self.wait(lock.holder)?;
                    self.family()?
                };
                (Some(lock), givers)
            }
        };
        self.seen.insert(thread, Seen { wait, lock });
        Some(givers)
    }

    fn waits(&mut self, owner: Owner) -> &[EndlessWait] {
        let me = (owner == self.me.owner()).then_some(self.me.thread);
        self.waits
            .entry(owner)
            .or_insert_with(|| liveness::endless_waits(owner, me))
    }

    fn wait(&mut self, thread: Thread) -> Option<EndlessWait> {
        let waits = self.waits(thread.owner());
        waits.iter().find(|wait| wait.thread == thread.thread).copied()
    }

    /// All threads of a process, if the engine knows of each that it waits.
    fn threads(&mut self, owner: Owner) -> Option<Vec<Thread>> {
        if let Some(known) = self.threads.get(&owner) {
            return known.clone();
        }
        let threads: Vec<Thread> = self.waits(owner).iter().map(Thread::waiting).collect();
        let all = !threads.is_empty() && liveness::program_threads(owner) == Some(threads.len());
        let threads = all.then_some(threads);
        self.threads.insert(owner, threads.clone());
        threads
    }

    /// All threads of the family that run the program, if all of them wait, and no signal is expected that would make
    /// one of them do something.
    fn family(&mut self) -> Option<Vec<Thread>> {
        if self.family.is_none() {
            self.family = Some(self.find_family().unwrap_or_default());
        }
        self.family.clone().filter(|threads| !threads.is_empty())
    }

    fn find_family(&mut self) -> Option<Vec<Thread>> {
        let programs = liveness::all_programs()?;
        // What is cheap to know comes first: most often one of them does not wait.
        if programs.iter().any(|&owner| self.waits(owner).is_empty()) {
            return None;
        }
        let threads = programs
            .iter()
            .map(|&owner| self.threads(owner))
            .collect::<Option<Vec<_>>>()?;
        let quiet = !programs.into_iter().any(liveness::handles_signals) && !liveness::some_process_will_begin();
        quiet.then(|| threads.concat())
    }

    /// Whether all that was seen held at one moment: no thread has stopped waiting since it was read, and no process is
    /// dead.
    pub(super) fn held_at_once(&self) -> bool {
        let waits = || self.waits.values().flatten();
        let still = |wait: &EndlessWait| wait.is_still();
        waits().all(still)
            && self.threads.iter().all(|(&owner, threads)| {
                let count = threads.as_ref().map(Vec::len);
                count.is_none() || liveness::program_threads(owner) == count
            })
            && self.waits.keys().all(|&owner| liveness::is_alive(owner))
    }

    pub(super) fn seen(&self, thread: Thread) -> Option<&Seen> {
        self.seen.get(&thread)
    }
}

/// The holder of the lock on whose word a thread sleeps.
fn held(kind: Kind, handle: Handle, distance: u64) -> Option<HeldLock> {
    match kind {
        Kind::Lock => held_as::<LockState>(handle, distance, |state| (&state.raw, state.options.made.get(), false)),
        Kind::RLock => held_as::<RLockState>(handle, distance, |state| (&state.raw, state.options.made.get(), true)),
        _ => None,
    }
}

fn held_as<T: Object>(
    handle: Handle,
    distance: u64,
    parts: impl Fn(&'static T) -> (&'static RawLock, Option<CreationSite>, bool),
) -> Option<HeldLock> {
    let (raw, made, is_owned) = parts(look_up::<T>(handle).ok()??);
    let word = raw.word.load(Ordering::Acquire);
    let holder = Thread::of(Claim::from_bits(word)?);
    // What was read was the lock, if it is still there.
    let there = liveness::is_at(distance, &raw.word) && look_up::<T>(handle).ok()?.is_some();
    there.then_some(HeldLock {
        class: T::NAME,
        name: name_of(handle),
        holder,
        made,
        is_owned: is_owned || Claim::is_scoped(word),
    })
}
