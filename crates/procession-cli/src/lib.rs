//! The `procession` command: what the processes of a program do, seen from outside.
//!
//! The binary of this crate and the command of the Python package are the same code.

mod args;
mod dump;
pub mod findings;
mod function;
mod http;
pub mod json;
mod listen;
mod metrics;
mod pick;
mod ps;
#[cfg(test)]
mod samples;
mod stacks;
mod text;
mod top;
mod trace;
mod web;

use args::{Arguments, Command};
use clap::Parser;
use std::ffi::OsString;
use std::io::{self, Write};

/// Shown what was asked for.
pub const OK: u8 = 0;
/// The family cannot be read: it is another user's, of another version, or damaged; or the output cannot be written.
pub const UNREADABLE: u8 = 1;
/// The command line is wrong.
pub const MISUSED: u8 = 2;
/// There is no such process, or no family.
pub const NOTHING: u8 = 3;

/// Why a command failed: its exit code, and a sentence for people.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            code: UNREADABLE,
            message: error.to_string(),
        }
    }
}

/// Run a command line, whose first word is the command's own name, and return the exit code.
pub fn run(words: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are asked for, and go to standard output.
            let code = if error.use_stderr() { MISUSED } else { OK };
            let _ = error.print();
            return code;
        }
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = match arguments.command {
        Command::Ps { json, seconds, limits } => ps::show(&mut out, json, seconds, &limits),
        Command::Dump {
            pid,
            json,
            stacks,
            seconds,
            limits,
        } => {
            let how = dump::How { json, stacks };
            dump::show(&mut out, pid, &how, seconds, &limits)
        }
        Command::Metrics {
            pid,
            seconds,
            listen,
            limits,
        } => metrics::show(&mut out, pid, seconds, listen, &limits),
        Command::Top { pid, interval, limits } => top::show(pid, interval, limits),
        Command::Trace { pid, output, seconds } => trace::write(&mut out, pid, &output, seconds),
        Command::Web {
            pid,
            port,
            host,
            interval,
            limits,
        } => web::show(&mut out, pid, (host, port).into(), interval, &limits),
        Command::Completions { shell } => args::write_completions(shell, &mut out).map_err(Failure::from),
    };
    let done = done.and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => OK,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "procession: {failure}");
            failure.code
        }
    }
}
