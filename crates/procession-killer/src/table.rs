//! The table that a run prints, each line as soon as it is known.

use crate::explore::Report;
use crate::stop::Report as StopReport;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

/// Totals of what was printed so far.
pub struct Table {
    begin: Instant,
    operations: usize,
    instructions: u64,
    kills: usize,
    pairs: usize,
    failures: usize,
}

/// Print a line. Errors are ignored: if the output is closed, its reader does not want the line.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn listed(findings: &BTreeMap<String, usize>) -> String {
    let each: Vec<_> = findings
        .iter()
        .map(|(what, times)| format!("{what}: {times}"))
        .collect();
    each.join(", ")
}

impl Table {
    pub fn new() -> Self {
        Self {
            begin: Instant::now(),
            operations: 0,
            instructions: 0,
            kills: 0,
            pairs: 0,
            failures: 0,
        }
    }

    pub fn add(&mut self, name: &str, report: Report) {
        if self.operations == 0 {
            say("| operation | instructions | syscalls | states | killed | two killed | slowest survivor | what survivors found | failures |");
            say("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |");
        }
        say(&format!(
            "| {name} | {} | {} | {} | {} | {} | {} ms | {} | {} |",
            report.instructions,
            report.syscalls,
            report.states,
            report.kills,
            report.pairs,
            report.longest.as_millis(),
            listed(&report.findings),
            report.failures.len()
        ));
        for failure in report.failures.iter().take(8) {
            say(&format!("    {failure}"));
        }
        self.operations += 1;
        self.instructions += report.instructions;
        self.kills += report.kills;
        self.pairs += report.pairs;
        self.failures += report.failures.len();
    }

    /// Print the last line; returns how many failures there were.
    pub fn end(&self) -> usize {
        say(&format!(
            "\n{} operations, {} instructions, {} processes killed and {} pairs, {} failures, {:.1} s",
            self.operations,
            self.instructions,
            self.kills,
            self.pairs,
            self.failures,
            self.begin.elapsed().as_secs_f64()
        ));
        self.failures
    }
}

/// The same for the stopper.
pub struct StopTable {
    begin: Instant,
    operations: usize,
    stops: usize,
    failures: usize,
}

impl StopTable {
    pub fn new() -> Self {
        say("| operation | accesses | stopped | slowest other | what was found at the end | failures |");
        say("| --- | ---: | ---: | ---: | --- | ---: |");
        Self {
            begin: Instant::now(),
            operations: 0,
            stops: 0,
            failures: 0,
        }
    }

    pub fn add(&mut self, name: &str, report: &StopReport) {
        say(&format!(
            "| {name} | {} | {} | {} ms | {} | {} |",
            report.accesses,
            report.stops,
            report.slowest.as_millis(),
            listed(&report.findings),
            report.failures.len()
        ));
        report
            .failures
            .iter()
            .for_each(|failure| say(&format!("    {failure}")));
        self.operations += 1;
        self.stops += report.stops;
        self.failures += report.failures.len();
    }

    /// Print the last line; returns how many failures there were.
    pub fn end(&self) -> usize {
        say(&format!(
            "\n{} operations, {} stops, {} failures, {:.1} s",
            self.operations,
            self.stops,
            self.failures,
            self.begin.elapsed().as_secs_f64()
        ));
        self.failures
    }
}
