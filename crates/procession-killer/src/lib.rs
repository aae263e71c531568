//! Kills a process after every instruction of every engine operation, and lets survivors judge what it left.
//!
//! ```text
//! procession-killer [--points N] [--pairs N] [--limit SECONDS] [--list] [NAME...]
//! ```

// It reads x86-64 registers and instructions. Elsewhere there is nothing here, so that the workspace builds.
#![cfg(target_arch = "x86_64")]

mod explore;
mod image;
mod live;
mod operations;
mod stage;
mod table;
mod trace;

use explore::{explore, Report, Thoroughness};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "procession-killer [--points N] [--pairs N] [--limit SECONDS] [--list] [NAME...]";

/// The command: goes through the operations that its arguments name, and prints the table.
pub fn run() -> ExitCode {
    let mut how = Thoroughness {
        points: usize::MAX,
        pairs: 0,
        limit: Duration::from_secs(10),
    };
    let (mut names, mut list) = (Vec::new(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok()).expect(USAGE);
        match argument.as_str() {
            "--points" => how.points = number(),
            "--pairs" => how.pairs = number(),
            "--limit" => how.limit = Duration::from_secs(number() as u64),
            "--list" => list = true,
            option if option.starts_with('-') => panic!("{USAGE}"),
            _ => names.push(argument),
        }
    }
    stage::prepare();
    let mut table = table::Table::new();
    let mut each = |name: &str, explore: &dyn Fn() -> Report| {
        if !names.is_empty() && !names.iter().any(|part| name.contains(part.as_str())) {
            return;
        }
        if list {
            table::say(name);
        } else {
            table.add(name, explore());
        }
    };
    for operation in operations::all() {
        each(&operation.name, &|| explore(&operation, how));
    }
    for operation in operations::waited() {
        each(operation.name, &|| live::explore(&operation, how));
    }
    if !list && table.end() > 0 {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
