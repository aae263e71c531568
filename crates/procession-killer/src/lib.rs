//! Two tools that step processes through every engine operation.
//!
//! The killer kills a process after every instruction, and lets survivors check what it left. The stopper stops the
//! process there, lets others go on beside it, continues it, and checks how it ends.
//!
//! ```text
//! procession-killer [--points N] [--pairs N] [--limit SECONDS] [--list] [NAME...]
//! procession-stopper [--points N] [--limit SECONDS] [--list] [NAME...]
//! ```

// The tools read x86-64 registers and instructions. On other processors the crate is empty, so that the workspace
// builds.
#![cfg(target_arch = "x86_64")]

mod access;
mod battery;
mod explore;
mod image;
mod live;
mod operations;
mod pooled;
mod remote;
mod stage;
mod stop;
mod table;
mod trace;

use explore::{explore, Thoroughness};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "[--points N] [--pairs N] [--limit SECONDS] [--list] [NAME...]";

/// What a command is to do.
struct Command {
    how: Thoroughness,
    names: Vec<String>,
    list: bool,
}

impl Command {
    fn from_arguments() -> Self {
        let mut command = Self {
            how: Thoroughness {
                points: usize::MAX,
                pairs: 0,
                limit: Duration::from_secs(10),
            },
            names: Vec::new(),
            list: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next().and_then(|text| text.parse().ok()).expect(USAGE);
            match argument.as_str() {
                "--points" => command.how.points = number(),
                "--pairs" => command.how.pairs = number(),
                "--limit" => command.how.limit = Duration::from_secs(number() as u64),
                "--list" => command.list = true,
                option if option.starts_with('-') => panic!("{USAGE}"),
                _ => command.names.push(argument),
            }
        }
        stage::prepare();
        command
    }

    /// Whether to explore an operation of this name now.
    fn wants(&self, name: &str) -> bool {
        let wanted = self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()));
        if wanted && self.list {
            table::say(name);
        }
        wanted && !self.list
    }

    fn end(&self, failures: impl FnOnce() -> usize) -> ExitCode {
        if !self.list && failures() > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// Run the killer's command: go through the operations that its arguments name, and print the table.
pub fn run() -> ExitCode {
    let command = Command::from_arguments();
    let mut table = table::Table::new();
    for operation in operations::all() {
        if command.wants(&operation.name) {
            table.add(&operation.name, explore(&operation, command.how));
        }
    }
    for operation in operations::waited() {
        if command.wants(operation.name) {
            table.add(operation.name, live::explore(&operation, command.how));
        }
    }
    command.end(|| table.end())
}

/// Run the stopper's command: like the killer's.
pub fn run_stopper() -> ExitCode {
    let command = Command::from_arguments();
    let mut table = table::StopTable::new();
    for operation in operations::all() {
        if command.wants(&operation.name) {
            table.add(&operation.name, &stop::explore(&operation, command.how));
        }
    }
    for operation in operations::pooled() {
        if command.wants(operation.name) {
            table.add(operation.name, &stop::explore(&operation, command.how));
        }
    }
    command.end(|| table.end())
}
