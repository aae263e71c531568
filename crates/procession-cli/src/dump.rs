//! `procession dump`: a family at one moment, for a report of an error. No values, keys or arguments of the program.

use crate::findings::{look, Findings, Limits};
use crate::text::{self, bytes, clean, label, pids, time};
use crate::{json, pick, stacks, Failure};
use procession_core::inspect::{FamilySnapshot, ObjectId};
use std::io::{self, Write};
use std::time::Duration;

/// What is printed.
pub(crate) struct How {
    pub json: bool,
    pub stacks: bool,
}

pub(crate) fn show(
    out: &mut dyn Write,
    pid: Option<u32>,
    how: &How,
    pause: Option<Duration>,
    limits: &Limits,
) -> Result<(), Failure> {
    let found = look(&pick::family(pid)?, pause, limits)?;
    let processes = found.seen.processes.iter();
    let living: Vec<u32> = processes
        .filter(|process| process.pid != 0 && process.state.is_alive())
        .map(|process| process.pid)
        .collect();
    let stacks = if how.stacks { stacks::of(&living) } else { Vec::new() };
    let stacks: Vec<_> = living.into_iter().zip(stacks).collect();
    if how.json {
        let mut family = json::family(&found);
        for process in family["processes"].as_array_mut().into_iter().flatten() {
            if let Some((_, stacks)) = stacks.iter().find(|(pid, _)| process["pid"] == *pid) {
                process["stacks"] = stacks::json(stacks);
            }
        }
        writeln!(out, "{}", json::text(&family))?;
        return Ok(());
    }
    write(out, &found)?;
    if how.stacks {
        writeln!(out, "\nstacks, innermost call first")?;
    }
    for (pid, stacks) in &stacks {
        let process = found.seen.processes.iter().find(|process| process.pid == *pid);
        writeln!(out, "  {}", process.map_or(pid.to_string(), label))?;
        for line in stacks::lines(stacks) {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}

fn write(out: &mut dyn Write, found: &Findings) -> io::Result<()> {
    let seen = &found.seen;
    let root = seen.processes.iter().find(|process| Some(process.pid) == seen.root);
    let of = root.map_or("whose first process is gone".to_owned(), |root| {
        format!("of {}, {}", label(root), clean(&root.program))
    });
    let count = seen.processes.len();
    let plural = if count == 1 { "process" } else { "processes" };
    writeln!(
        out,
        "family {of}: {count} {plural}, {} of shared memory",
        bytes(seen.committed_bytes)
    )?;
    for warning in &found.warnings {
        writeln!(out, "warning: {}", clean(&warning.text))?;
    }
    for deadlock in &found.deadlocks {
        writeln!(out, "\ndeadlock of {} threads", deadlock.members.len())?;
        for sentence in text::deadlock(deadlock) {
            writeln!(out, "  {}", clean(&sentence))?;
        }
    }
    processes(out, seen)?;
    locks(out, seen)?;
    queues(out, found)?;
    pools(out, seen)?;
    others(out, seen)?;
    memory(out, seen)
}

fn section(out: &mut dyn Write, name: &str, head: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{name}")?;
    text::table(out, head, &rows)
}

/// The name of an object, or a dash.
fn name(seen: &FamilySnapshot, id: ObjectId) -> String {
    seen.name(id).map_or("-".to_owned(), text::escaped)
}

/// The line that made an object, or a dash.
fn made(seen: &FamilySnapshot, id: ObjectId) -> String {
    seen.made(id).map_or("-".to_owned(), |made| clean(&made.to_string()))
}

fn processes(out: &mut dyn Write, seen: &FamilySnapshot) -> io::Result<()> {
    let mut rows = Vec::new();
    for process in &seen.processes {
        let waits = process.waits.iter().map(|wait| text::wait(wait, seen));
        let mut waits = text::task(process.pid, seen).into_iter().chain(waits);
        let name = match process.role {
            Some(role) => format!("{} [{role}]", clean(&process.name)),
            None => clean(&process.name),
        };
        rows.push(vec![
            process.pid.to_string(),
            name,
            process.state.name().to_owned(),
            process.start_method.unwrap_or("-").to_owned(),
            time(process.age_ms),
            time(process.cpu_ms),
            bytes(process.private_bytes),
            waits.next().unwrap_or_else(|| "-".to_owned()),
        ]);
        for more in waits {
            let mut row = vec![String::new(); 7];
            row.push(more);
            rows.push(row);
        }
    }
    let head = [
        "PID",
        "NAME",
        "STATE",
        "START",
        "AGE",
        "CPU",
        "PRIVATE",
        "RUNS, WAITS FOR",
    ];
    section(out, "processes", &head, rows)?;
    let ended = seen.ended.iter().map(|ended| {
        let code = ended.exit_code.map_or("none noted".to_owned(), |code| code.to_string());
        vec![ended.pid.to_string(), clean(&ended.name), code]
    });
    section(out, "ended lately", &["PID", "NAME", "EXIT CODE"], ended.collect())
}

fn locks(out: &mut dyn Write, seen: &FamilySnapshot) -> io::Result<()> {
    let rows = seen.locks.iter().map(|lock| {
        let holder = lock.holder.as_ref().map_or("-".to_owned(), |holder| match holder.pid {
            Some(pid) if clean(&holder.name).is_empty() => pid.to_string(),
            Some(pid) => format!("{} ({pid})", clean(&holder.name)),
            None => "a process that is gone".to_owned(),
        });
        vec![
            lock.id.to_string(),
            lock.kind.to_owned(),
            name(seen, lock.id),
            made(seen, lock.id),
            holder,
            pids(&lock.waiters),
        ]
    });
    section(
        out,
        "locks",
        &["ID", "KIND", "NAME", "MADE AT", "HELD BY", "WAITING"],
        rows.collect(),
    )
}

fn queues(out: &mut dyn Write, found: &Findings) -> io::Result<()> {
    let seen = &found.seen;
    let rows = seen.queues.iter().map(|queue| {
        let about = if queue.is_depth_exact { "" } else { "<=" };
        vec![
            queue.id.to_string(),
            name(seen, queue.id),
            format!("{about}{}", queue.depth),
            if queue.maxsize == 0 {
                "-".to_owned()
            } else {
                queue.maxsize.to_string()
            },
            queue.put.to_string(),
            found.oldest.get(&queue.id).map_or("-".to_owned(), |&age| time(age)),
            pids(&queue.getters),
            pids(&queue.putters),
            pids(&queue.joiners),
            made(seen, queue.id),
        ]
    });
    let head = [
        "ID",
        "NAME",
        "DEPTH",
        "LIMIT",
        "PUT",
        "OLDEST",
        "WAITING TO GET",
        "TO PUT",
        "TO JOIN",
        "MADE AT",
    ];
    section(out, "queues", &head, rows.collect())
}

fn pools(out: &mut dyn Write, seen: &FamilySnapshot) -> io::Result<()> {
    let rows = seen.pools.iter().map(|pool| {
        let busy = pool.workers.iter().filter(|worker| worker.item_ms.is_some()).count();
        vec![
            pool.id.to_string(),
            name(seen, pool.id),
            pool.state.to_owned(),
            pool.queued.to_string(),
            pool.running.to_string(),
            pool.done.to_string(),
            pool.failed.to_string(),
            pool.uncollected.to_string(),
            pool.median_us.map_or("-".to_owned(), text::micros),
            pool.p99_us.map_or("-".to_owned(), text::micros),
            format!("{} ({busy} busy, {} ended)", pool.workers.len(), pool.workers_ended),
            made(seen, pool.id),
        ]
    });
    let head = [
        "ID",
        "NAME",
        "STATE",
        "QUEUED",
        "RUNNING",
        "DONE",
        "FAILED",
        "UNCOLLECTED",
        "MEDIAN",
        "99%",
        "WORKERS",
        "MADE AT",
    ];
    section(out, "pools", &head, rows.collect())
}

fn others(out: &mut dyn Write, seen: &FamilySnapshot) -> io::Result<()> {
    let row = |id: ObjectId, kind: &str, state: String, waiters: &[u32]| {
        vec![
            id.to_string(),
            kind.to_owned(),
            name(seen, id),
            state,
            pids(waiters),
            made(seen, id),
        ]
    };
    let mut rows = Vec::new();
    for one in &seen.semaphores {
        rows.push(row(one.id, "semaphore", format!("value {}", one.value), &one.waiters));
    }
    for one in &seen.events {
        let state = if one.is_set { "set" } else { "not set" };
        rows.push(row(one.id, "event", state.to_owned(), &one.waiters));
    }
    for one in &seen.conditions {
        rows.push(row(one.id, "condition", "-".to_owned(), &one.waiters));
    }
    for one in &seen.barriers {
        let state = if one.is_broken {
            "broken".to_owned()
        } else {
            format!("{} of {}", one.waiters.len(), one.parties)
        };
        rows.push(row(one.id, "barrier", state, &one.waiters));
    }
    for one in &seen.collections {
        rows.push(row(one.id, one.kind, "-".to_owned(), &[]));
    }
    let head = ["ID", "KIND", "NAME", "STATE", "WAITING", "MADE AT"];
    section(out, "others", &head, rows)
}

fn memory(out: &mut dyn Write, seen: &FamilySnapshot) -> io::Result<()> {
    let rows = seen
        .memory
        .iter()
        .map(|usage| vec![usage.kind.to_owned(), usage.count.to_string(), bytes(usage.bytes)]);
    section(out, "shared memory in use", &["KIND", "COUNT", "BYTES"], rows.collect())?;
    if seen.left_out > 0 {
        writeln!(out, "\n{} more objects are not listed", seen.left_out)?;
    }
    Ok(())
}
