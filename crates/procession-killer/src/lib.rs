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
struct Order {
    how: Thoroughness,
    names: Vec<String>,
    list: bool,
}

impl Order {
    fn from_arguments() -> Self {
        let mut order = Self {
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
                "--points" => order.how.points = number(),
                "--pairs" => order.how.pairs = number(),
                "--limit" => order.how.limit = Duration::from_secs(number() as u64),
                "--list" => order.list = true,
                option if option.starts_with('-') => panic!("{USAGE}"),
                _ => order.names.push(argument),
            }
        }
        stage::prepare();
        order
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
    let order = Order::from_arguments();
    let mut table = table::Table::new();
    for operation in operations::all() {
        if order.wants(&operation.name) {
            table.add(&operation.name, explore(&operation, order.how));
        }
    }
    for operation in operations::waited() {
        if order.wants(operation.name) {
            table.add(operation.name, live::explore(&operation, order.how));
        }
    }
    order.end(|| table.end())
}

/// Run the stopper's command: like the killer's.
pub fn run_stopper() -> ExitCode {
    let order = Order::from_arguments();
    let mut table = table::StopTable::new();
    for operation in operations::all() {
        if order.wants(&operation.name) {
            table.add(&operation.name, &stop::explore(&operation, order.how));
        }
    }
    order.end(|| table.end())
}
