//! `procession ps`: the families of this user.

use crate::findings::{Findings, Limits, Watch, MOST_LOOKS_MORE};
use crate::{json, text, Failure};
use procession_core::inspect::{families, FamilySnapshot, InspectError, Inspector};
use serde_json::{json, Value};
use std::io::Write;
use std::time::Duration;

/// What `ps` says of one family.
struct Row {
    pids: Vec<u32>,
    found: Result<Findings, InspectError>,
}

/// A family that is looked at.
struct Looked {
    pids: Vec<u32>,
    state: Result<(Inspector, Watch), InspectError>,
}

impl Looked {
    fn look(&mut self) {
        let Ok((inspector, watch)) = &mut self.state else {
            return;
        };
        match inspector.snapshot() {
            Ok(seen) => watch.see(seen),
            Err(error) => self.state = Err(error),
        }
    }

    fn wants_pause(&self) -> Option<Duration> {
        self.state.as_ref().ok()?.1.wants_pause()
    }
}

pub(crate) fn show(
    out: &mut dyn Write,
    as_json: bool,
    pause: Option<Duration>,
    limits: &Limits,
) -> Result<(), Failure> {
    let mut looked: Vec<Looked> = families()
        .into_iter()
        .map(|family| Looked {
            pids: family.pids,
            state: family
                .inspector
                .map(|inspector| (inspector, Watch::new(limits.clone()))),
        })
        .collect();
    looked.iter_mut().for_each(Looked::look);
    // One pause for all.
    if let Some(pause) = pause {
        std::thread::sleep(pause);
        looked.iter_mut().for_each(Looked::look);
    }
    for _ in 0..MOST_LOOKS_MORE {
        let Some(pause) = looked.iter().find_map(Looked::wants_pause) else {
            break;
        };
        std::thread::sleep(pause);
        looked.iter_mut().for_each(Looked::look);
    }
    let row = |one: Looked| Row {
        pids: one.pids,
        found: one.state.map(|(_, watch)| watch.found),
    };
    let rows: Vec<Row> = looked.into_iter().map(row).collect();
    if as_json {
        let families: Vec<Value> = rows
            .iter()
            .map(|row| {
                let mut family = json_of(row.found.as_ref());
                family["pids"] = json!(row.pids);
                family
            })
            .collect();
        writeln!(out, "{}", json::text(&json!({ "families": families })))?;
        return Ok(());
    }
    let cells: Vec<Vec<String>> = rows.iter().map(cells_of).collect();
    let head = ["ROOT", "PROGRAM", "PROCESSES", "AGE", "CPU", "SHARED", "WARNINGS"];
    text::table(out, &head, &cells)?;
    Ok(())
}

/// The program of a family's first process.
pub(crate) fn program(seen: &FamilySnapshot) -> &str {
    let first = seen.processes.iter().find(|process| Some(process.pid) == seen.root);
    first.or(seen.processes.first()).map_or("", |process| &process.program)
}

fn age(seen: &FamilySnapshot) -> u64 {
    seen.processes.iter().map(|process| process.age_ms).max().unwrap_or(0)
}

fn cpu(seen: &FamilySnapshot) -> u64 {
    seen.processes.iter().map(|process| process.cpu_ms).sum()
}

/// What JSON says of a family besides its processes: of what was found, or why nothing was.
pub(crate) fn json_of(found: Result<&Findings, &InspectError>) -> Value {
    match found.map(|found| (&found.seen, found)) {
        Ok((seen, found)) => json!({
            "root": seen.root,
            "program": program(seen),
            "processes": seen.processes.len(),
            "age_ms": age(seen),
            "cpu_ms": cpu(seen),
            "committed_bytes": seen.committed_bytes,
            "warnings": found.phrases(),
            "error": null,
        }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn cells_of(row: &Row) -> Vec<String> {
    match row.found.as_ref().map(|found| (&found.seen, found)) {
        Ok((seen, found)) => vec![
            seen.root.map_or("-".to_owned(), |pid| pid.to_string()),
            text::clean(program(seen)),
            seen.processes.len().to_string(),
            text::time(age(seen)),
            text::time(cpu(seen)),
            text::bytes(seen.committed_bytes),
            found.phrases().join("; "),
        ],
        Err(error) => {
            let mut cells = vec![row.pids[0].to_string(), String::new(), row.pids.len().to_string()];
            cells.extend([String::new(), String::new(), String::new(), error.to_string()]);
            cells
        }
    }
}
