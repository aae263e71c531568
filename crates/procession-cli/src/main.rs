//! The `procession` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(procession_cli::run(std::env::args_os()))
}
