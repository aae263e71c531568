//! The `procession` command outside a Python environment: finds the interpreter and executes `python -m procession` in
//! its place.
//!
//! It interprets as little as it can: the Python package defines what `run` means.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Run Python programs on procession.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run a program in which `import multiprocessing` means procession
    Run(Run),
}

#[derive(Args)]
struct Run {
    /// The interpreter [default: the active virtual environment's, else python3 on the path]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,

    /// The start method, unless the program sets one
    #[arg(long, value_enum)]
    start_method: Option<StartMethod>,

    /// script.py, folder or archive, -m module, -c code, or - (as nothing at all) for standard input; then its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum StartMethod {
    Fork,
    Spawn,
    Forkserver,
}

impl Run {
    /// The command line that runs the program.
    fn command(&self, virtual_env: Option<&Path>) -> Command {
        let mut command = Command::new(self.interpreter(virtual_env));
        command.args(["-m", "procession", "run"]);
        if let Some(method) = self.start_method {
            let name = method.to_possible_value().expect("no variant is skipped");
            command.args(["--start-method", name.get_name()]);
        }
        command.args(&self.program);
        command
    }

    fn interpreter(&self, virtual_env: Option<&Path>) -> PathBuf {
        match (&self.python, virtual_env) {
            (Some(python), _) => python.clone(),
            (None, Some(environment)) => environment.join("bin").join("python"),
            (None, None) => PathBuf::from("python3"),
        }
    }
}

fn main() -> ExitCode {
    let Task::Run(run) = Cli::parse().command;
    let virtual_env = env::var_os("VIRTUAL_ENV")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let mut command = run.command(virtual_env.as_deref());
    // Returns only if it failed.
    let error = command.exec();
    eprintln!(
        "procession: cannot start the interpreter {}: {error} (--python PATH names another)",
        Path::new(command.get_program()).display()
    );
    ExitCode::from(127)
}

#[cfg(test)]
mod tests {
    use super::{Cli, Task};
    use clap::Parser;
    use std::path::Path;

    fn words(args: &[&str], virtual_env: Option<&str>) -> Vec<String> {
        let Task::Run(run) = Cli::try_parse_from(args).expect("a right use").command;
        let command = run.command(virtual_env.map(Path::new));
        std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn the_program_keeps_its_own_options() {
        assert_eq!(
            words(&["procession", "run", "-m", "app", "--python", "x", "-h"], None),
            ["python3", "-m", "procession", "run", "-m", "app", "--python", "x", "-h"]
        );
        assert_eq!(
            words(
                &[
                    "procession",
                    "run",
                    "--start-method",
                    "spawn",
                    "a.py",
                    "--start-method",
                    "y"
                ],
                None
            ),
            [
                "python3",
                "-m",
                "procession",
                "run",
                "--start-method",
                "spawn",
                "a.py",
                "--start-method",
                "y"
            ]
        );
    }

    #[test]
    fn the_named_interpreter_comes_before_the_environment() {
        let both = &["procession", "run", "--python", "/p", "-c", "1"];
        assert_eq!(words(both, Some("/venv"))[0], "/p");
        assert_eq!(
            words(&["procession", "run"], None),
            ["python3", "-m", "procession", "run"]
        );
        let none = &["procession", "run", "-c", "1"];
        assert_eq!(words(none, Some("/venv"))[0], "/venv/bin/python");
        assert_eq!(words(none, None)[0], "python3");
    }

    #[test]
    fn misuse_is_refused() {
        for args in [
            &["procession"][..],
            &["procession", "run", "--start-method", "thread", "a.py"],
            &["procession", "walk"],
        ] {
            assert!(Cli::try_parse_from(args).is_err());
        }
    }
}
