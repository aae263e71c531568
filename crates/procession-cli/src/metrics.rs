//! `procession metrics`: a family's figures in the text format of Prometheus, version 0.0.4. The names are stable, and
//! documented in `docs/reference/command.md`.

use crate::findings::{look, Findings, Limits, WARNINGS};
use crate::listen::listen;
use crate::text::clean;
use crate::{pick, Failure};
use procession_core::inspect::{FamilySnapshot, ProcessSeen, ProcessState};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// How many processes, queues, locks and pools have series of their own. The others are counted as left out.
const MOST_OF_A_KIND: usize = 100;

const STATES: [ProcessState; 5] = [
    ProcessState::Starting,
    ProcessState::Running,
    ProcessState::Sleeping,
    ProcessState::Stopped,
    ProcessState::Dead,
];

pub(crate) fn show(
    out: &mut dyn Write,
    pid: Option<u32>,
    pause: Option<Duration>,
    address: Option<SocketAddr>,
    limits: &Limits,
) -> Result<(), Failure> {
    let inspector = pick::family(pid)?;
    if let Some(address) = address {
        return listen(out, &inspector, address, limits);
    }
    let found = look(&inspector, pause, limits)?;
    out.write_all(text(&found).as_bytes())?;
    Ok(())
}

/// Labels of a sample.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// The exposition so far.
struct Page {
    text: String,
    /// The label that all samples have.
    root: String,
}

impl Page {
    /// Begin a metric. Its samples follow.
    fn metric(&mut self, name: &'static str, kind: &str, help: &str) -> Metric<'_> {
        // Writing to a string does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Metric { page: self, name }
    }
}

struct Metric<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Metric<'_> {
    fn sample(&mut self, labels: Labels<'_>, value: f64) -> &mut Self {
        let Page { text, root } = &mut *self.page;
        let _ = write!(text, "{}{{root=\"{root}\"", self.name);
        for (name, value) in labels {
            let _ = write!(text, ",{name}=\"{}\"", escaped(value));
        }
        let _ = writeln!(text, "}} {value}");
        self
    }
}

/// A label's value as the format has it. What a terminal would obey is replaced as in the other commands.
fn escaped(value: &str) -> String {
    clean(value).replace('\\', "\\\\").replace('"', "\\\"")
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// The whole page.
pub(crate) fn text(found: &Findings) -> String {
    let seen = &found.seen;
    let mut page = Page {
        text: String::new(),
        root: seen.root.map_or(String::new(), |pid| pid.to_string()),
    };
    family(&mut page, found);
    processes(&mut page, seen);
    names(&mut page, seen);
    queues(&mut page, found);
    locks(&mut page, seen);
    pools(&mut page, seen);
    let mut left_out = page.metric(
        "procession_left_out",
        "gauge",
        "Things without series of their own, by kind.",
    );
    let beyond = |count: usize| count.saturating_sub(MOST_OF_A_KIND) as f64;
    left_out
        .sample(&[("kind", "process")], beyond(listed(seen).len()))
        .sample(&[("kind", "queue")], beyond(seen.queues.len()))
        .sample(&[("kind", "pool")], beyond(seen.pools.len()))
        .sample(&[("kind", "awaited lock")], beyond(awaited(seen).count()))
        .sample(&[("kind", "object not read")], seen.left_out as f64);
    page.text
}

fn family(page: &mut Page, found: &Findings) {
    let seen = &found.seen;
    let root = seen.processes.iter().find(|process| Some(process.pid) == seen.root);
    let program = root.map_or("", |root| &root.program);
    page.metric(
        "procession_family_info",
        "gauge",
        "The program of the first process. Always 1.",
    )
    .sample(&[("program", program)], 1.0);
    let oldest = seen.processes.iter().map(|process| process.age_ms).max().unwrap_or(0);
    page.metric(
        "procession_family_age_seconds",
        "gauge",
        "Time since the start of the oldest process.",
    )
    .sample(&[], seconds(oldest));
    let mut states = page.metric("procession_processes", "gauge", "Processes, by state.");
    for state in STATES {
        let count = seen.processes.iter().filter(|process| process.state == state).count();
        states.sample(&[("state", state.name())], count as f64);
    }
    page.metric(
        "procession_process_deaths_total",
        "counter",
        "Processes that have ended.",
    )
    .sample(&[], seen.deaths as f64);
    page.metric(
        "procession_shared_memory_bytes",
        "gauge",
        "Shared memory of the family.",
    )
    .sample(&[], seen.committed_bytes as f64);
    page.metric(
        "procession_shared_memory_limit_bytes",
        "gauge",
        "Shared memory that the family may have.",
    )
    .sample(&[], seen.limit_bytes as f64);
    let mut used = page.metric(
        "procession_shared_memory_used_bytes",
        "gauge",
        "Shared memory in use, by what it is used for.",
    );
    for usage in &seen.memory {
        used.sample(&[("kind", usage.kind)], usage.bytes as f64);
    }
    page.metric(
        "procession_damaged_words",
        "gauge",
        "Words in shared memory that no correct process writes.",
    )
    .sample(&[], seen.damaged as f64);
    page.metric(
        "procession_deadlocks",
        "gauge",
        "Circles of threads that wait for each other's locks.",
    )
    .sample(&[], found.deadlocks.len() as f64);
    let threads = found.deadlocks.iter().map(|deadlock| deadlock.members.len());
    page.metric("procession_deadlocked_threads", "gauge", "Threads in deadlocks.")
        .sample(&[], threads.sum::<usize>() as f64);
    let mut warnings = page.metric("procession_warnings", "gauge", "What dump warns of, by kind.");
    // Each kind has a series, which is 0 most of the time.
    for kind in WARNINGS {
        let count = found.warnings.iter().filter(|warning| warning.kind == kind).count();
        warnings.sample(&[("kind", kind)], count as f64);
    }
}

/// The processes that have series: each pid once. A process that is starting has no pid yet, and that of one that is
/// dead may be another's already.
fn listed(seen: &FamilySnapshot) -> BTreeMap<u32, &ProcessSeen> {
    let mut listed = BTreeMap::new();
    for process in seen.processes.iter().filter(|process| process.pid != 0) {
        let known = listed.entry(process.pid).or_insert(process);
        if known.state == ProcessState::Dead {
            *known = process;
        }
    }
    listed
}

fn processes(page: &mut Page, seen: &FamilySnapshot) {
    let listed: Vec<_> = listed(seen).into_values().take(MOST_OF_A_KIND).collect();
    let pids: Vec<String> = listed.iter().map(|process| process.pid.to_string()).collect();
    let mut series = |name, kind, help, value: &dyn Fn(&ProcessSeen) -> f64| {
        let mut metric = page.metric(name, kind, help);
        for (process, pid) in listed.iter().zip(&pids) {
            metric.sample(&[("pid", pid), ("name", &process.name)], value(process));
        }
    };
    series(
        "procession_process_cpu_seconds_total",
        "counter",
        "Processor time of a process.",
        &|one| seconds(one.cpu_ms),
    );
    series(
        "procession_process_private_bytes",
        "gauge",
        "Private resident memory of a process.",
        &|one| one.private_bytes as f64,
    );
    series(
        "procession_process_waiting_seconds",
        "gauge",
        "Longest wait of a thread of a process; 0: none waits.",
        &|one| seconds(one.waits.iter().map(|wait| wait.for_ms).max().unwrap_or(0)),
    );
}

/// The names that the program gave its objects.
fn names(page: &mut Page, seen: &FamilySnapshot) {
    let mut info = page.metric(
        "procession_object_info",
        "gauge",
        "1 for each queue, lock and pool that the program gave a name, with that name.",
    );
    let queues = seen.queues.iter().map(|one| ("queue", one.id));
    let pools = seen.pools.iter().map(|one| ("pool", one.id));
    let locks = seen.locks.iter().map(|one| (one.kind, one.id));
    let all = queues.chain(pools).chain(locks);
    let named = all.filter_map(|(kind, id)| Some((kind, id.to_string(), seen.name(id)?)));
    for (kind, id, name) in named.take(MOST_OF_A_KIND) {
        info.sample(&[("object", &id), ("kind", kind), ("name", name)], 1.0);
    }
}

fn queues(page: &mut Page, found: &Findings) {
    let seen = &found.seen;
    let listed = || {
        seen.queues
            .iter()
            .take(MOST_OF_A_KIND)
            .map(|queue| (queue.id.to_string(), queue))
    };
    let mut items = page.metric(
        "procession_queue_items",
        "gauge",
        "Items in a queue; of a long one an upper bound.",
    );
    for (id, queue) in listed() {
        items.sample(&[("queue", &id)], queue.depth as f64);
    }
    let mut limit = page.metric(
        "procession_queue_limit_items",
        "gauge",
        "Items that a queue holds at most; 0: no limit.",
    );
    for (id, queue) in listed() {
        limit.sample(&[("queue", &id)], queue.maxsize as f64);
    }
    let mut oldest = page.metric(
        "procession_queue_oldest_item_seconds",
        "gauge",
        "Age of a queue's oldest item, as far as several looks show it; 0: none, or not known.",
    );
    for (id, queue) in listed() {
        let age = found.oldest.get(&queue.id).copied().unwrap_or(0);
        oldest.sample(&[("queue", &id)], seconds(age));
    }
    let mut put = page.metric(
        "procession_queue_put_items_total",
        "counter",
        "Items that were put into a queue.",
    );
    for (id, queue) in listed() {
        put.sample(&[("queue", &id)], queue.put as f64);
    }
    let mut waiting = page.metric(
        "procession_queue_waiting_threads",
        "gauge",
        "Threads that wait for a queue, by operation.",
    );
    for (id, queue) in listed() {
        for (operation, pids) in [
            ("get", &queue.getters),
            ("put", &queue.putters),
            ("join", &queue.joiners),
        ] {
            waiting.sample(&[("queue", &id), ("operation", operation)], pids.len() as f64);
        }
    }
}

/// The locks that something waits for.
fn awaited(seen: &FamilySnapshot) -> impl Iterator<Item = &procession_core::inspect::LockSeen> {
    seen.locks.iter().filter(|lock| !lock.waiters.is_empty())
}

fn locks(page: &mut Page, seen: &FamilySnapshot) {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for kind in ["lock", "rlock"] {
        for state in ["free", "held"] {
            counts.insert((kind, state), 0);
        }
    }
    for lock in &seen.locks {
        let state = if lock.holder.is_some() { "held" } else { "free" };
        *counts.entry((lock.kind, state)).or_default() += 1;
    }
    let mut locks = page.metric("procession_locks", "gauge", "Locks, by kind and state.");
    for ((kind, state), count) in counts {
        locks.sample(&[("kind", kind), ("state", state)], count as f64);
    }
    let mut waiting = page.metric(
        "procession_lock_waiting_threads",
        "gauge",
        "Threads that wait for a lock, of locks with such threads.",
    );
    for lock in awaited(seen).take(MOST_OF_A_KIND) {
        let (id, made) = (
            lock.id.to_string(),
            lock.made.as_ref().map_or(String::new(), ToString::to_string),
        );
        waiting.sample(
            &[("lock", &id), ("kind", lock.kind), ("made", &made)],
            lock.waiters.len() as f64,
        );
    }
}

fn pools(page: &mut Page, seen: &FamilySnapshot) {
    let listed = || {
        seen.pools
            .iter()
            .take(MOST_OF_A_KIND)
            .map(|pool| (pool.id.to_string(), pool))
    };
    let mut tasks = page.metric(
        "procession_pool_tasks",
        "gauge",
        "Tasks of a pool that are not collected yet, by state.",
    );
    for (id, pool) in listed() {
        let states = [
            ("queued", pool.queued),
            ("running", pool.running),
            ("uncollected", pool.uncollected),
        ];
        for (state, count) in states {
            tasks.sample(&[("pool", &id), ("state", state)], count as f64);
        }
    }
    let mut done = page.metric(
        "procession_pool_done_tasks",
        "gauge",
        "Tasks that a pool's workers have finished, also with an error.",
    );
    for (id, pool) in listed() {
        done.sample(&[("pool", &id)], pool.done as f64);
    }
    let mut failed = page.metric(
        "procession_pool_failed_tasks",
        "gauge",
        "Tasks that a pool's workers have finished with an error.",
    );
    for (id, pool) in listed() {
        failed.sample(&[("pool", &id)], pool.failed as f64);
    }
    let mut times = page.metric(
        "procession_pool_task_seconds",
        "gauge",
        "Time that this part of a pool's last tasks took at most.",
    );
    for (id, pool) in listed() {
        for (quantile, micros) in [("0.5", pool.median_us), ("0.99", pool.p99_us)] {
            if let Some(micros) = micros {
                times.sample(&[("pool", &id), ("quantile", quantile)], micros as f64 / 1e6);
            }
        }
    }
    let mut ended = page.metric(
        "procession_pool_workers_ended_total",
        "counter",
        "Workers of a pool that have ended after they had become ready.",
    );
    for (id, pool) in listed() {
        ended.sample(&[("pool", &id)], pool.workers_ended as f64);
    }
    let mut workers = page.metric("procession_pool_workers", "gauge", "Workers of a pool, by state.");
    for (id, pool) in listed() {
        let busy = pool.workers.iter().filter(|worker| worker.item_ms.is_some()).count();
        workers.sample(&[("pool", &id), ("state", "busy")], busy as f64);
        workers.sample(&[("pool", &id), ("state", "idle")], (pool.workers.len() - busy) as f64);
    }
    let mut longest = page.metric(
        "procession_pool_longest_item_seconds",
        "gauge",
        "Time of the item that has run for longest; 0: none runs.",
    );
    for (id, pool) in listed() {
        let item = pool.workers.iter().filter_map(|worker| worker.item_ms).max();
        longest.sample(&[("pool", &id)], seconds(item.unwrap_or(0)));
    }
}

#[cfg(test)]
mod tests;
