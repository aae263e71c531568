//! The cells of each table.

use super::state::{Shown, State};
use crate::text::{self, bytes, clean};
use procession_core::inspect::{ObjectId, ProcessState};
use std::cmp::Ordering;
use std::collections::HashMap;

/// A cell: its text, and the number by which it is sorted, if it is one.
pub(super) struct Entry {
    pub text: String,
    number: Option<f64>,
}

/// A row of a table.
pub(super) struct Row {
    pub cells: Vec<Entry>,
    /// Something waits here, or is not as it should be.
    pub is_notable: bool,
}

impl Row {
    pub(super) fn compare(&self, other: &Self, column: usize) -> Ordering {
        let (Some(one), Some(other)) = (self.cells.get(column), other.cells.get(column)) else {
            return Ordering::Equal;
        };
        match (one.number, other.number) {
            (Some(one), Some(other)) => one.total_cmp(&other),
            (one, other) if one.is_some() != other.is_some() => one.is_some().cmp(&other.is_some()),
            _ => one.text.cmp(&other.text),
        }
    }
}

fn words(text: impl Into<String>) -> Entry {
    Entry {
        text: text.into(),
        number: None,
    }
}

fn number(number: u64) -> Entry {
    Entry {
        text: number.to_string(),
        number: Some(number as f64),
    }
}

fn sized(number: u64) -> Entry {
    Entry {
        text: bytes(number),
        number: Some(number as f64),
    }
}

fn rate(rate: Option<f64>) -> Entry {
    Entry {
        text: rate.map_or("-".to_owned(), |rate| {
            if rate < 10.0 {
                format!("{rate:.1}")
            } else {
                format!("{rate:.0}")
            }
        }),
        number: rate,
    }
}

fn lasting(ms: Option<u64>) -> Entry {
    Entry {
        text: ms.map_or("-".to_owned(), text::time),
        number: ms.map(|ms| ms as f64),
    }
}

fn short(micros: Option<u64>) -> Entry {
    Entry {
        text: micros.map_or("-".to_owned(), text::micros),
        number: micros.map(|micros| micros as f64),
    }
}

/// Several processes: one by its pid, more by their number.
fn waiting(pids: &[u32]) -> Entry {
    let text = match pids {
        [] => "-".to_owned(),
        [pid] => pid.to_string(),
        more => format!("{} processes", more.len()),
    };
    Entry {
        text,
        number: Some(pids.len() as f64),
    }
}

/// The column of names: of an object without one, the line that made it.
const LABEL: &str = "NAME OR LINE";

/// The names of a table's columns, and their widths; the last takes what is left.
pub(super) fn head(shown: Shown) -> &'static [(&'static str, u16)] {
    match shown {
        Shown::Processes => &[
            ("PID", 7),
            ("NAME", 16),
            ("STATE", 8),
            ("CPU%", 5),
            ("PRIVATE", 7),
            ("SHARED", 6),
            ("RUNS, WAITS FOR", 0),
        ],
        Shown::Queues => &[
            ("QUEUE", 10),
            ("DEPTH", 9),
            ("LIMIT", 9),
            ("IN/S", 8),
            ("OUT/S", 8),
            ("OLDEST", 7),
            ("TO GET", 12),
            ("TO PUT", 12),
            (LABEL, 0),
        ],
        Shown::Locks => &[
            ("LOCK", 10),
            ("KIND", 6),
            ("HELD BY", 20),
            ("WAITING", 12),
            ("LONGEST", 7),
            (LABEL, 0),
        ],
        Shown::Pools => &[
            ("POOL", 7),
            ("STATE", 10),
            ("QUEUED", 6),
            ("RUNS", 4),
            ("DONE", 7),
            ("FAILED", 6),
            ("DONE/S", 6),
            ("MEDIAN", 6),
            ("99%", 6),
            ("BUSY", 5),
            ("ENDED", 5),
            (LABEL, 0),
        ],
        Shown::Deaths => &[("PID", 8), ("NAME", 24), ("HOW", 0)],
        Shown::Warnings => &[("KIND", 20), ("WHAT", 0)],
    }
}

/// All rows of the table that is shown.
pub(super) fn of(state: &State) -> Vec<Row> {
    match state.shown {
        Shown::Processes => processes(state),
        Shown::Queues => queues(state),
        Shown::Locks => locks(state),
        Shown::Pools => pools(state),
        Shown::Deaths => deaths(state),
        Shown::Warnings => warnings(state),
    }
}

fn processes(state: &State) -> Vec<Row> {
    let seen = state.seen();
    let row = |process: &procession_core::inspect::ProcessSeen| {
        let longest = process.waits.iter().max_by_key(|wait| wait.for_ms);
        let waits = longest.map(|wait| text::short_wait(wait, seen));
        // A task that waits is the reason why it takes so long.
        let does = match (text::short_task(process.pid, seen), waits) {
            (Some(task), Some(waits)) => format!("{waits} in {task}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => "-".to_owned(),
        };
        Row {
            cells: vec![
                number(process.pid.into()),
                words(clean(&process.name)),
                words(process.state.name()),
                rate(state.cpu_share(process.pid)),
                sized(process.private_bytes),
                sized(process.shared_bytes),
                words(does),
            ],
            is_notable: matches!(process.state, ProcessState::Stopped | ProcessState::Dead),
        }
    };
    seen.processes.iter().map(row).collect()
}

fn queues(state: &State) -> Vec<Row> {
    let row = |queue: &procession_core::inspect::QueueSeen| {
        let moves = state.rate(queue.id);
        Row {
            cells: vec![
                words(queue.id.to_string()),
                number(queue.depth),
                if queue.maxsize == 0 {
                    words("-")
                } else {
                    number(queue.maxsize)
                },
                rate(moves.map(|moves| moves.inward)),
                rate(moves.map(|moves| moves.outward)),
                lasting(state.oldest(queue.id)),
                waiting(&queue.getters),
                waiting(&queue.putters),
                words(text::name_or_line(state.seen(), queue.id)),
            ],
            is_notable: !queue.putters.is_empty(),
        }
    };
    state.seen().queues.iter().map(row).collect()
}

fn locks(state: &State) -> Vec<Row> {
    let mut longest: HashMap<ObjectId, u64> = HashMap::new();
    for wait in state.seen().processes.iter().flat_map(|process| &process.waits) {
        if let Some(id) = wait.object {
            let known = longest.entry(id).or_default();
            *known = wait.for_ms.max(*known);
        }
    }
    let row = |lock: &procession_core::inspect::LockSeen| {
        let holder = lock.holder.as_ref().map(|holder| match holder.pid {
            Some(pid) => format!("{pid} {}", clean(&holder.name)),
            None => "gone".to_owned(),
        });
        Row {
            cells: vec![
                words(lock.id.to_string()),
                words(lock.kind),
                words(holder.unwrap_or_else(|| "-".to_owned())),
                waiting(&lock.waiters),
                lasting(longest.get(&lock.id).copied()),
                words(text::name_or_line(state.seen(), lock.id)),
            ],
            is_notable: !lock.waiters.is_empty(),
        }
    };
    state.seen().locks.iter().map(row).collect()
}

fn pools(state: &State) -> Vec<Row> {
    let row = |pool: &procession_core::inspect::PoolSeen| {
        let busy = pool.workers.iter().filter(|worker| worker.item_ms.is_some()).count();
        Row {
            cells: vec![
                words(pool.id.to_string()),
                words(pool.state),
                number(pool.queued),
                number(pool.running),
                number(pool.done),
                number(pool.failed),
                rate(state.rate(pool.id).map(|moves| moves.outward)),
                short(pool.median_us),
                short(pool.p99_us),
                words(format!("{busy}/{}", pool.workers.len())),
                number(pool.workers_ended),
                words(text::name_or_line(state.seen(), pool.id)),
            ],
            is_notable: pool.failed > 0,
        }
    };
    state.seen().pools.iter().map(row).collect()
}

fn deaths(state: &State) -> Vec<Row> {
    let row = |ended: &procession_core::inspect::EndedProcess| Row {
        cells: vec![
            number(ended.pid.into()),
            words(clean(&ended.name)),
            words(text::cause(ended)),
        ],
        is_notable: ended.exit_code != Some(0),
    };
    state.seen().ended.iter().map(row).collect()
}

fn warnings(state: &State) -> Vec<Row> {
    let row = |kind: &str, what: &str, is_notable| Row {
        cells: vec![words(kind), words(clean(what))],
        is_notable,
    };
    let found = state.found();
    let deadlocks = found.deadlocks.iter().flat_map(text::short_deadlock);
    let deadlocks = deadlocks.map(|sentence| row("deadlock", &sentence, true));
    let warnings = found.warnings.iter();
    deadlocks
        .chain(warnings.map(|warning| row(warning.kind, &warning.text, false)))
        .collect()
}
