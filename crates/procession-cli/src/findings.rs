//! What is wrong with a family, found in one look or in several: deadlocks, and what is sick without being one.

use crate::text::{self, bytes, clean, time};
use procession_core::inspect::{
    deadlocks, lasting, may_be_deadlocked, self_waits, Deadlock, FamilySnapshot, InspectError, Inspector, ObjectId,
    ProcessState, QueueSeen,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

mod ages;
mod slow;

use ages::Ages;

/// Time between two looks, if one shows what may be a deadlock.
const PAUSE: Duration = Duration::from_millis(50);
/// How many looks more there are at most for that. On a machine under load a thread that waits may be found awake.
pub(crate) const MOST_LOOKS_MORE: usize = 3;
/// Looks closer to each other than so many milliseconds are kept as one.
const APART_MS: u64 = 1_000;
/// For how many milliseconds an earlier look counts, besides the last one.
const WINDOW_MS: u64 = 60_000;

/// The kinds of warnings.
pub(crate) const WARNINGS: [&str; 11] = [
    "first process gone",
    "stopped",
    "damaged",
    "stopped holder",
    "stopped worker",
    "own lock",
    "lock held long",
    "queue grows",
    "workers replaced",
    "slow task",
    "memory near limit",
];

/// From where on something counts as sick.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "What is a warning")]
pub struct Limits {
    /// A lock for which something has waited for so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    lock_seconds: Duration,
    /// A queue that has only grown, by so many items
    #[arg(long, value_name = "ITEMS", default_value = "100")]
    queue_growth: u64,
    /// A pool of which so many workers were killed, or ended with another exit code than 0
    #[arg(long, value_name = "WORKERS", default_value = "3", value_parser = clap::value_parser!(u64).range(1..))]
    replaced: u64,
    /// A task that has run for so many times as long as 99 of 100 of its pool's last tasks, and for a second
    #[arg(long, value_name = "TIMES", default_value = "10", value_parser = clap::value_parser!(u64).range(1..))]
    task_times: u64,
    /// Shared memory of which so much is used, in per cent of what the family may have
    #[arg(long, value_name = "PERCENT", default_value = "90", value_parser = clap::value_parser!(u64).range(1..=100))]
    memory_percent: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lock_seconds: Duration::from_secs(10),
            queue_growth: 100,
            replaced: 3,
            task_times: 10,
            memory_percent: 90,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "not a time".to_owned())
}

/// Something that is worth a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which kind, of those that `docs/reference/command.md` lists.
    pub kind: &'static str,
    /// A sentence.
    pub text: String,
    /// The object that it is about, if it is one.
    pub object: Option<ObjectId>,
    /// The processes that it is about.
    pub pids: Vec<u32>,
}

/// What a family is, and what is wrong with it.
pub struct Findings {
    /// The last look.
    pub seen: FamilySnapshot,
    /// Deadlocks; only several looks show them.
    pub deadlocks: Vec<Deadlock>,
    /// What is sick.
    pub warnings: Vec<Warning>,
    /// Of queues with items: for how many milliseconds, or longer, the oldest one has lain there; only several looks show
    /// it.
    pub oldest: HashMap<ObjectId, u64>,
}

/// Look at a family, and up to three times more while what is seen may be a deadlock. If a pause is given, look once more
/// after it first.
pub fn look(inspector: &Inspector, pause: Option<Duration>, limits: &Limits) -> Result<Findings, InspectError> {
    let mut watch = Watch::new(limits.clone());
    watch.look(inspector, pause)?;
    Ok(watch.found)
}

/// What one look leaves for the comparison with later ones.
struct Sample {
    taken_ms: u64,
    /// Of each queue.
    depths: HashMap<ObjectId, u64>,
    /// Of each pool: its workers, and how many have failed since the sample before.
    workers: HashMap<ObjectId, (HashSet<u32>, u64)>,
}

impl Sample {
    /// Count what a sample counted that this one takes the place of.
    fn add_replaced(&mut self, other: Option<Self>) {
        for (pool, (_, replaced)) in other.into_iter().flat_map(|other| other.workers) {
            if let Some((_, sum)) = self.workers.get_mut(&pool) {
                *sum += replaced;
            }
        }
    }
}

/// A family that is looked at again and again.
pub(crate) struct Watch {
    limits: Limits,
    samples: VecDeque<Sample>,
    ages: Ages,
    /// Threads in deadlocks, and those that wait for their own locks.
    known: Vec<(u32, u32)>,
    /// Deadlocks that the look before the last one showed, and the last one does not. A thread of them may have been awake.
    doubtful: Vec<Deadlock>,
    /// What is known since the last look.
    pub(crate) found: Findings,
}

impl Watch {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            samples: VecDeque::new(),
            ages: Ages::default(),
            known: Vec::new(),
            doubtful: Vec::new(),
            found: Findings {
                seen: FamilySnapshot::default(),
                deadlocks: Vec::new(),
                warnings: Vec::new(),
                oldest: HashMap::new(),
            },
        }
    }

    /// After how long another look is needed to tell whether there is a deadlock.
    pub(crate) fn wants_pause(&self) -> Option<Duration> {
        let is_needed = !self.doubtful.is_empty() || may_be_deadlocked(&self.found.seen, &self.known);
        is_needed.then_some(PAUSE)
    }

    /// As the function of this name.
    pub(crate) fn look(&mut self, inspector: &Inspector, pause: Option<Duration>) -> Result<(), InspectError> {
        self.see(inspector.snapshot()?);
        if let Some(pause) = pause {
            std::thread::sleep(pause);
            self.see(inspector.snapshot()?);
        }
        for _ in 0..MOST_LOOKS_MORE {
            let Some(pause) = self.wants_pause() else { break };
            std::thread::sleep(pause);
            self.see(inspector.snapshot()?);
        }
        Ok(())
    }

    /// Add a look.
    pub(crate) fn see(&mut self, seen: FamilySnapshot) {
        let before = std::mem::replace(&mut self.found.seen, seen);
        let mut sample = self.sample();
        if let Some(number) = self.samples.len().checked_sub(2) {
            if self.samples[number].taken_ms + APART_MS > sample.taken_ms {
                let last = self.samples.pop_back();
                sample.add_replaced(last);
            }
        }
        while self.samples.len() > 1 && self.samples[0].taken_ms + WINDOW_MS < sample.taken_ms {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.found.oldest = self.ages.see(&self.found.seen);
        let seen = &self.found.seen;
        let mut found = deadlocks(&before, seen);
        let threads = |deadlock: &Deadlock| -> Vec<(u32, u32)> {
            let members = deadlock.members.iter();
            members.map(|member| (member.pid, member.thread)).collect()
        };
        let mut known: Vec<(u32, u32)> = found.iter().flat_map(threads).collect();
        let doubtful = std::mem::take(&mut self.doubtful);
        let shown = std::mem::take(&mut self.found.deadlocks);
        let was_shown = shown.len();
        for (number, old) in shown.into_iter().chain(doubtful).enumerate() {
            if threads(&old).iter().any(|thread| known.contains(thread)) {
                continue;
            }
            match lasting(&old, seen) {
                Some(now) => found.push(now),
                None if number < was_shown => self.doubtful.push(old),
                None => {}
            }
        }
        known = found.iter().flat_map(threads).collect();
        found.sort_by_key(|deadlock| threads(deadlock).first().copied());
        self.found.deadlocks = found;
        let mut warnings = general(seen);
        let mut explained: HashSet<ObjectId> = HashSet::new();
        let members = self.found.deadlocks.iter().flat_map(|deadlock| &deadlock.members);
        explained.extend(members.filter_map(|member| member.lock));
        for own in self_waits(&before, seen) {
            explained.extend(own.lock);
            known.push((own.pid, own.thread));
            warnings.push(Warning {
                kind: "own lock",
                text: text::own_lock(&own),
                object: own.lock,
                pids: vec![own.pid],
            });
        }
        self.held(&mut explained, &mut warnings);
        self.growing(&mut warnings);
        self.replaced(&mut warnings);
        warnings.extend(slow::tasks(seen, self.limits.task_times));
        self.memory(&mut warnings);
        debug_assert!(warnings.iter().all(|one| WARNINGS.contains(&one.kind)));
        self.found.warnings = warnings;
        self.known = known;
    }

    fn sample(&self) -> Sample {
        let seen = &self.found.seen;
        // A worker that has done its work and left is no sign of anything. Of one whose entry is in use again it is not
        // known how it ended.
        let failed = seen.ended.iter().filter(|ended| ended.exit_code != Some(0));
        let failed: HashSet<u32> = failed.map(|ended| ended.pid).collect();
        let pool = |pool: &procession_core::inspect::PoolSeen| {
            let workers: HashSet<u32> = pool.workers.iter().filter_map(|worker| worker.pid).collect();
            let before = self.samples.back().and_then(|sample| sample.workers.get(&pool.id));
            let gone = before.map_or(0, |(before, _)| {
                let gone = before.difference(&workers).filter(|&pid| failed.contains(pid));
                gone.count() as u64
            });
            (pool.id, (workers, if pool.state == "running" { gone } else { 0 }))
        };
        let counted = seen.queues.iter().filter(|queue| is_counted(queue));
        Sample {
            taken_ms: seen.taken_ms,
            depths: counted.map(|queue| (queue.id, queue.depth)).collect(),
            workers: seen.pools.iter().map(pool).collect(),
        }
    }

    /// Locks that are held for long while others wait, or by a process that is stopped.
    fn held(&self, explained: &mut HashSet<ObjectId>, warnings: &mut Vec<Warning>) {
        let seen = &self.found.seen;
        let states: HashMap<u32, ProcessState> = seen.processes.iter().map(|one| (one.pid, one.state)).collect();
        let mut longest: HashMap<ObjectId, (u64, &str, u32)> = HashMap::new();
        for process in &seen.processes {
            for wait in &process.waits {
                let Some(id) = wait.object else { continue };
                let known = longest.entry(id).or_insert((0, &process.name, process.pid));
                if wait.for_ms >= known.0 {
                    *known = (wait.for_ms, &process.name, process.pid);
                }
            }
        }
        for lock in &seen.locks {
            let (Some(holder), Some(&(for_ms, name, waiter))) = (&lock.holder, longest.get(&lock.id)) else {
                continue;
            };
            let Some(pid) = holder.pid.filter(|_| !explained.contains(&lock.id)) else {
                continue;
            };
            let (this, held_by) = (
                text::lock(lock.kind, lock.id, self.found.seen.name(lock.id), lock.made.as_ref()),
                text::named(&holder.name, pid),
            );
            let waits = format!("{} has waited for it for {}", text::named(name, waiter), time(for_ms));
            let is_stopped = states.get(&pid) == Some(&ProcessState::Stopped);
            if is_stopped || u128::from(for_ms) >= self.limits.lock_seconds.as_millis() {
                explained.insert(lock.id);
                warnings.push(Warning {
                    kind: if is_stopped { "stopped holder" } else { "lock held long" },
                    text: if is_stopped {
                        format!("{held_by} is stopped and holds {this}; {waits}")
                    } else {
                        format!("{this} is held by {held_by}; {waits}")
                    },
                    object: Some(lock.id),
                    pids: vec![pid, waiter],
                });
            }
        }
        for pool in &seen.pools {
            let busy = pool.workers.iter().filter(|worker| worker.item_ms.is_some());
            for pid in busy.filter_map(|worker| worker.pid) {
                if states.get(&pid) == Some(&ProcessState::Stopped) {
                    warnings.push(Warning {
                        kind: "stopped worker",
                        text: format!(
                            "worker {pid} of {} is stopped in the middle of a task",
                            text::object("pool", pool.id, self.found.seen.name(pool.id))
                        ),
                        object: Some(pool.id),
                        pids: vec![pid],
                    });
                }
            }
        }
    }

    /// Queues that have only grown, over as many of the last looks as that is so.
    fn growing(&self, warnings: &mut Vec<Warning>) {
        for queue in self.found.seen.queues.iter().filter(|queue| is_counted(queue)) {
            let mut depths = self.samples.iter().rev();
            let (mut first, mut since) = (queue.depth, self.found.seen.taken_ms);
            depths.next();
            for sample in depths {
                match sample.depths.get(&queue.id) {
                    Some(&depth) if depth <= first => (first, since) = (depth, sample.taken_ms),
                    _ => break,
                }
            }
            if queue.depth > first && queue.depth - first >= self.limits.queue_growth {
                let (id, depth) = (queue.id, queue.depth);
                let for_ms = self.found.seen.taken_ms.saturating_sub(since);
                warnings.push(Warning {
                    kind: "queue grows",
                    text: format!(
                        "{} only grows: from {first} to {depth} items in {}",
                        text::object("queue", id, self.found.seen.name(id)),
                        time(for_ms)
                    ),
                    object: Some(id),
                    pids: Vec::new(),
                });
            }
        }
    }

    /// Pools whose workers are replaced again and again.
    fn replaced(&self, warnings: &mut Vec<Warning>) {
        let Some(first) = self.samples.front() else { return };
        let for_ms = self.found.seen.taken_ms.saturating_sub(first.taken_ms);
        for pool in &self.found.seen.pools {
            let samples = self.samples.iter().filter_map(|sample| sample.workers.get(&pool.id));
            let replaced: u64 = samples.map(|(_, replaced)| replaced).sum();
            if replaced >= self.limits.replaced {
                warnings.push(Warning {
                    kind: "workers replaced",
                    text: format!(
                        "{}: {replaced} workers or more have failed in {}",
                        text::object("pool", pool.id, self.found.seen.name(pool.id)),
                        time(for_ms)
                    ),
                    object: Some(pool.id),
                    pids: Vec::new(),
                });
            }
        }
    }

    fn memory(&self, warnings: &mut Vec<Warning>) {
        let (used, limit) = (self.found.seen.committed_bytes, self.found.seen.limit_bytes);
        let percent = (u128::from(used) * 100).checked_div(limit.into()).unwrap_or(0);
        if percent >= self.limits.memory_percent.into() {
            warnings.push(Warning {
                kind: "memory near limit",
                text: format!(
                    "{percent}% of the shared memory are used: {} of {}",
                    bytes(used),
                    bytes(limit)
                ),
                object: None,
                pids: Vec::new(),
            });
        }
    }
}

/// Whether a queue's depth may be compared with that of another look. If its list changed while it was read, the depth may
/// be far too large.
fn is_counted(queue: &QueueSeen) -> bool {
    queue.is_depth_exact || queue.is_long
}

/// What a single look shows of the family as a whole.
fn general(seen: &FamilySnapshot) -> Vec<Warning> {
    let warning = |kind, text: String, pids| Warning {
        kind,
        text,
        object: None,
        pids,
    };
    let mut found = Vec::new();
    if seen.root.is_none() {
        let text = "the first process is gone".to_owned();
        found.push(warning("first process gone", text, Vec::new()));
    }
    let stopped = seen.processes.iter();
    let stopped: Vec<u32> = stopped
        .filter(|process| process.state == ProcessState::Stopped)
        .map(|process| process.pid)
        .collect();
    if !stopped.is_empty() {
        found.push(warning(
            "stopped",
            format!("stopped: {}", text::pids(&stopped)),
            stopped,
        ));
    }
    if seen.damaged > 0 {
        let text = format!("{} damaged words in shared memory", seen.damaged);
        found.push(warning("damaged", text, Vec::new()));
    }
    found
}

impl Findings {
    /// A phrase for each deadlock, then for each warning.
    pub(crate) fn phrases(&self) -> Vec<String> {
        let deadlocks = self.deadlocks.iter().map(|deadlock| {
            let members = deadlock.members.iter().map(|one| text::named(&one.name, one.pid));
            format!("deadlock: {}", members.collect::<Vec<_>>().join(", "))
        });
        let warnings = self.warnings.iter().map(|warning| clean(&warning.text));
        deadlocks.chain(warnings).collect()
    }
}

#[cfg(test)]
mod tests;
