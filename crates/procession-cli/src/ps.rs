//! `procession ps`: the families of this user.

use crate::{json, text, Failure};
use procession_core::inspect::{families, FamilyFound, FamilySnapshot, InspectError, ProcessState};
use serde_json::{json, Value};
use std::io::Write;

/// What `ps` says of one family.
struct Row {
    pids: Vec<u32>,
    seen: Result<FamilySnapshot, InspectError>,
}

pub(crate) fn show(out: &mut dyn Write, as_json: bool) -> Result<(), Failure> {
    let rows: Vec<Row> = families().into_iter().map(look).collect();
    if as_json {
        let families: Vec<Value> = rows.iter().map(json_of).collect();
        writeln!(out, "{}", json::text(&json!({ "families": families })))?;
        return Ok(());
    }
    let cells: Vec<Vec<String>> = rows.iter().map(cells_of).collect();
    let head = ["ROOT", "PROGRAM", "PROCESSES", "AGE", "CPU", "SHARED", "WARNINGS"];
    text::table(out, &head, &cells)?;
    Ok(())
}

fn look(found: FamilyFound) -> Row {
    Row {
        seen: found.inspector.and_then(|inspector| inspector.processes()),
        pids: found.pids,
    }
}

fn program(seen: &FamilySnapshot) -> &str {
    let first = seen.processes.iter().find(|process| Some(process.pid) == seen.root);
    first.or(seen.processes.first()).map_or("", |process| &process.program)
}

fn age(seen: &FamilySnapshot) -> u64 {
    seen.processes.iter().map(|process| process.age_ms).max().unwrap_or(0)
}

fn cpu(seen: &FamilySnapshot) -> u64 {
    seen.processes.iter().map(|process| process.cpu_ms).sum()
}

/// What is worth a look.
pub(crate) fn warnings(seen: &FamilySnapshot) -> Vec<String> {
    let mut found = Vec::new();
    if seen.root.is_none() {
        found.push("the first process is gone".to_owned());
    }
    let stopped = seen
        .processes
        .iter()
        .filter(|process| process.state == ProcessState::Stopped);
    let stopped: Vec<u32> = stopped.map(|process| process.pid).collect();
    if !stopped.is_empty() {
        found.push(format!("stopped: {}", text::pids(&stopped)));
    }
    if seen.damaged > 0 {
        found.push(format!("{} damaged words in shared memory", seen.damaged));
    }
    found
}

fn json_of(row: &Row) -> Value {
    match &row.seen {
        Ok(seen) => json!({
            "pids": row.pids,
            "root": seen.root,
            "program": program(seen),
            "processes": seen.processes.len(),
            "age_ms": age(seen),
            "cpu_ms": cpu(seen),
            "committed_bytes": seen.committed_bytes,
            "warnings": warnings(seen),
            "error": null,
        }),
        Err(error) => json!({ "pids": row.pids, "error": error.to_string() }),
    }
}

fn cells_of(row: &Row) -> Vec<String> {
    match &row.seen {
        Ok(seen) => vec![
            seen.root.map_or("-".to_owned(), |pid| pid.to_string()),
            text::clean(program(seen)),
            seen.processes.len().to_string(),
            text::time(age(seen)),
            text::time(cpu(seen)),
            text::bytes(seen.committed_bytes),
            warnings(seen).join("; "),
        ],
        Err(error) => {
            let mut cells = vec![row.pids[0].to_string(), String::new(), row.pids.len().to_string()];
            cells.extend([String::new(), String::new(), String::new(), error.to_string()]);
            cells
        }
    }
}
