//! Deadlocks: threads that wait for each other's locks and ends, in a circle. Works on snapshots alone.
//!
//! Why there is no false alarm. Each wait of the circle was seen in the later look, and began before the earlier look
//! did: all of these threads waited during the whole earlier look. A thread that waits acquires and releases nothing.
//! So the holders that the earlier look read, one after the other, held their locks all at once, and hold them still.
//! Such a circle is a deadlock unless something outside of it ends it: another thread or process that releases one of
//! the locks, or a signal handler that raises.

use super::snapshot::{FamilySnapshot, ObjectId, ProcessSeen, ProcessState, WaitSeen};
use crate::error::CreationSite;
use std::collections::{BTreeMap, HashMap, HashSet};

/// By how many milliseconds a wait must have begun before the earlier look. The clock of waits is late by up to 10, and
/// a wait that goes on after an interruption may note its beginning a few later.
const MARGIN_MS: u64 = 25;

/// Threads of which each waits, without a timeout, for a lock that the next one holds or for the end of its process; the
/// last one in the same way for the first. The first one has the smallest pid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlock {
    /// At least two threads.
    pub members: Vec<DeadlockMember>,
}

/// A thread in a deadlock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlockMember {
    /// Its process.
    pub pid: u32,
    /// The process's name in the program; may be empty.
    pub name: String,
    /// The kernel's identifier of the thread.
    pub thread: u32,
    /// The lock that it waits for; `None`: it waits for the end of the next one's process.
    pub lock: Option<ObjectId>,
    /// `lock`, `rlock` or `process`.
    pub kind: &'static str,
    /// The name that the program gave the lock.
    pub lock_name: Option<String>,
    /// The line that made the lock, if it was recorded.
    pub made: Option<CreationSite>,
    /// Milliseconds so far. Whatever lock the thread holds, it has held it for at least as long.
    pub for_ms: u64,
    /// When the wait began, as [`WaitSeen::since_ms`].
    pub since_ms: u64,
}

/// What a thread waits for.
#[derive(Clone, Copy)]
struct Awaited {
    target: OnlyGiver,
    kind: &'static str,
    since_ms: u64,
    for_ms: u64,
}

/// A thread, by its process and its own identifier.
pub type Thread = (u32, u32);

/// What one thread alone can give.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnlyGiver {
    /// The lock, its holder.
    Lock(ObjectId),
    /// The end of a process, the only thread that it has.
    End(Thread),
}

impl OnlyGiver {
    fn of(wait: &WaitSeen) -> Option<Self> {
        match wait.joined {
            Some(thread) => Some(Self::End(thread)),
            None if is_for_lock(wait) => wait.object.map(Self::Lock),
            None => None,
        }
    }

    fn lock(self) -> Option<ObjectId> {
        match self {
            Self::Lock(lock) => Some(lock),
            Self::End(_) => None,
        }
    }
}

/// Whether a wait is for a lock that has a holder.
pub(super) fn is_for_lock(wait: &WaitSeen) -> bool {
    matches!(wait.kind, "lock" | "rlock") && wait.operation == "acquire"
}

/// The waits of a process without a timeout, for what one thread can give.
fn endless_waits(process: &ProcessSeen) -> impl Iterator<Item = (&WaitSeen, OnlyGiver)> {
    let waits = process.waits.iter().filter(|wait| wait.endless);
    waits.filter_map(|wait| Some((wait, OnlyGiver::of(wait)?)))
}

/// Those of them that are for locks.
fn lock_waits(process: &ProcessSeen) -> impl Iterator<Item = (&WaitSeen, ObjectId)> {
    endless_waits(process).filter_map(|(wait, target)| Some((wait, target.lock()?)))
}

fn alive(seen: &FamilySnapshot) -> impl Iterator<Item = &ProcessSeen> {
    seen.processes.iter().filter(|process| process.state.is_alive())
}

/// What each thread waits for, of those threads that are known to wait without a timeout.
fn waits(seen: &FamilySnapshot) -> BTreeMap<Thread, Awaited> {
    let mut found = BTreeMap::new();
    for process in alive(seen) {
        for (wait, target) in endless_waits(process) {
            let Some(thread) = wait.thread else { continue };
            let awaited = Awaited {
                target,
                kind: wait.kind,
                since_ms: wait.since_ms,
                for_ms: wait.for_ms,
            };
            found.insert((process.pid, thread), awaited);
        }
    }
    found
}

fn holders(seen: &FamilySnapshot) -> HashMap<ObjectId, Thread> {
    let held = seen.locks.iter().filter_map(|lock| {
        let holder = lock.holder.as_ref()?;
        Some((lock.id, (holder.pid?, holder.thread)))
    });
    held.collect()
}

/// The thread that each waiting thread waits for.
fn edges(waits: &BTreeMap<Thread, Awaited>, holders: &HashMap<ObjectId, Thread>) -> BTreeMap<Thread, Thread> {
    let giver = |wait: &Awaited| match wait.target {
        OnlyGiver::Lock(lock) => holders.get(&lock).copied(),
        OnlyGiver::End(thread) => Some(thread),
    };
    let edges = waits.iter().filter_map(|(&thread, wait)| Some((thread, giver(wait)?)));
    edges.collect()
}

/// All circles, each once and beginning with its smallest thread. Each thread waits for one other at most, so that each
/// belongs to one circle at most, and every thread is passed once.
fn circles(edges: &BTreeMap<Thread, Thread>) -> Vec<Vec<Thread>> {
    let mut passed: HashMap<Thread, usize> = HashMap::new();
    let mut found = Vec::new();
    for (walk, &start) in edges.keys().enumerate() {
        let mut at = start;
        let mut path = Vec::new();
        while let (Some(&next), false) = (edges.get(&at), passed.contains_key(&at)) {
            passed.insert(at, walk);
            path.push(at);
            at = next;
        }
        // A walk that ends where it passed itself has closed a circle. Walks begin at the smallest thread not passed
        // yet, but the circle may be entered at any of its threads.
        if passed.get(&at) == Some(&walk) {
            let mut circle = path.split_off(path.iter().position(|&one| one == at).unwrap_or(0));
            let smallest = (0..circle.len()).min_by_key(|&one| circle[one]).unwrap_or(0);
            circle.rotate_left(smallest);
            found.push(circle);
        }
    }
    found
}

/// Whether a single look shows what may be a deadlock besides those whose threads are `known`: reason for another look.
/// It is a circle, which may be one that passes; or a process that holds a lock for which something waits, and has a wait
/// for a lock of which it is not known whose it is: the thread may be awake just now.
pub fn may_be_deadlocked(seen: &FamilySnapshot, known: &[Thread]) -> bool {
    let held = holders(seen);
    let is_new = |thread: &Thread| !known.contains(thread);
    if circles(&edges(&waits(seen), &held)).iter().flatten().any(is_new) {
        return true;
    }
    let awaited = alive(seen).flat_map(lock_waits).filter_map(|(_, lock)| held.get(&lock));
    let holders: HashSet<u32> = awaited.filter(|thread| is_new(thread)).map(|thread| thread.0).collect();
    let mut unknown = alive(seen)
        .filter(|process| holders.contains(&process.pid))
        .flat_map(lock_waits);
    unknown.any(|(wait, lock)| wait.thread.is_none() && held.contains_key(&lock))
}

/// A deadlock that was found, as a later look shows it: `None`, if it may be over.
///
/// It lasts if each of its locks has the same holder still, and each process has the same wait, whether its thread is
/// known or not: a thread may be awake for a moment to see whether it has to wait further.
pub fn lasting(deadlock: &Deadlock, seen: &FamilySnapshot) -> Option<Deadlock> {
    let held = holders(seen);
    let mut members = deadlock.members.clone();
    let following = deadlock.members.iter().cycle().skip(1);
    for (member, next) in members.iter_mut().zip(following) {
        let next = (next.pid, next.thread);
        let process = alive(seen).find(|process| process.pid == member.pid)?;
        let target = member.lock.map_or(OnlyGiver::End(next), OnlyGiver::Lock);
        let is_its = |(wait, other): &(&WaitSeen, OnlyGiver)| {
            *other == target
                && wait.thread.is_none_or(|thread| thread == member.thread)
                && wait.since_ms.abs_diff(member.since_ms) <= MARGIN_MS
        };
        let for_ms = endless_waits(process).find(is_its)?.0.for_ms;
        if member.lock.is_some_and(|lock| held.get(&lock) != Some(&next)) {
            return None;
        }
        member.for_ms = for_ms;
    }
    Some(Deadlock { members })
}

/// The deadlocks that two looks at a family show, the one after the other.
///
/// Found are circles of threads that wait for locks, reentrant locks and the ends of processes with one thread, without
/// a timeout, and have waited since before the earlier look. To take a lock again after a notification of a condition
/// is such a wait.
pub fn deadlocks(before: &FamilySnapshot, after: &FamilySnapshot) -> Vec<Deadlock> {
    let found = lasting_circles(before, after).into_iter();
    found
        .filter(|members| members.len() > 1)
        .map(|members| Deadlock { members })
        .collect()
}

/// The threads that two looks show to wait, without a timeout, for a lock that they hold themselves. It is a deadlock
/// unless another thread or process releases the lock, as a program may do that signals with a lock.
pub fn self_waits(before: &FamilySnapshot, after: &FamilySnapshot) -> Vec<DeadlockMember> {
    let found = lasting_circles(before, after).into_iter();
    let found = found.filter(|members| members.len() == 1).flatten();
    // A thread that has got the lock withdraws its wait at once, unless it was stopped or could not run in between.
    found
        .filter(|member| [before, after].iter().all(|seen| is_asleep(seen, member.pid)))
        .collect()
}

fn is_asleep(seen: &FamilySnapshot, pid: u32) -> bool {
    let mut processes = seen.processes.iter().filter(|process| process.pid == pid);
    processes.any(|process| process.state == ProcessState::Sleeping)
}

fn lasting_circles(before: &FamilySnapshot, after: &FamilySnapshot) -> Vec<Vec<DeadlockMember>> {
    let (earlier, mut lasting) = (waits(before), waits(after));
    lasting.retain(|thread, wait| {
        let same = earlier.get(thread).is_some_and(|other| other.target == wait.target);
        same && wait.since_ms + MARGIN_MS <= before.taken_ms
    });
    let (mut held, later) = (holders(before), holders(after));
    held.retain(|lock, holder| later.get(lock) == Some(holder));
    let names: HashMap<u32, &str> = after.processes.iter().map(|one| (one.pid, &*one.name)).collect();
    let made: HashMap<ObjectId, &Option<CreationSite>> = after.locks.iter().map(|lock| (lock.id, &lock.made)).collect();
    let member = |thread: Thread| {
        let wait = lasting.get(&thread)?;
        let lock = wait.target.lock();
        Some(DeadlockMember {
            pid: thread.0,
            name: names.get(&thread.0).copied().unwrap_or_default().to_owned(),
            thread: thread.1,
            lock,
            kind: wait.kind,
            lock_name: lock.and_then(|lock| after.name(lock).map(str::to_owned)),
            made: lock.and_then(|lock| made.get(&lock).copied().cloned().flatten()),
            for_ms: wait.for_ms,
            since_ms: wait.since_ms,
        })
    };
    let circles = circles(&edges(&lasting, &held)).into_iter();
    circles
        .map(|circle| circle.into_iter().filter_map(member).collect())
        .collect()
}

#[cfg(test)]
mod tests;
