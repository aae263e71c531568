//! What Python code the threads of processes run, for `dump --stacks` and `top`: by py-spy if it is installed, otherwise
//! by Python's own `sys.remote_exec`, from 3.14 on.
//!
//! Unlike all else, this takes the right to trace the processes. py-spy reads their memory. `remote_exec` has the first
//! thread of each run a few lines, which write the stacks down, when it is next ready to. Functions, files and lines are
//! shown, and no values.

mod pyspy;
mod remote;

use crate::text::clean;
use serde_json::{json, Value};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A call that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    function: String,
    file: String,
    line: u64,
}

/// A thread, with its innermost call first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Thread {
    /// The kernel's identifier, if it is known.
    id: Option<u64>,
    name: String,
    frames: Vec<Frame>,
}

/// The threads of a process, or why they are not known.
pub(crate) type Stacks = Result<Vec<Thread>, String>;

/// The stacks of processes, in their order. Takes some seconds at most, also if they do not answer.
pub(crate) fn of(pids: &[u32]) -> Vec<Stacks> {
    match pyspy::find() {
        Some(program) => pids.iter().map(|&pid| pyspy::stacks(&program, pid)).collect(),
        None => remote::stacks(pids),
    }
}

/// The lines that show the stacks of one process.
pub(crate) fn lines(stacks: &Stacks) -> Vec<String> {
    let threads = match stacks {
        Ok(threads) => threads,
        Err(reason) => return vec![format!("no stack: {}", clean(reason))],
    };
    let mut lines = Vec::new();
    for thread in threads {
        let id = thread.id.map_or(String::new(), |id| format!(" {id}"));
        lines.push(format!("thread{id} {}", clean(&thread.name)).trim_end().to_owned());
        for frame in &thread.frames {
            let Frame { function, file, line } = frame;
            lines.push(format!("  {} ({}:{line})", clean(function), clean(file)));
        }
    }
    lines
}

/// The same as JSON.
pub(crate) fn json(stacks: &Stacks) -> Value {
    let frame = |frame: &Frame| json!({ "function": frame.function, "file": frame.file, "line": frame.line });
    match stacks {
        Ok(threads) => {
            let thread = |thread: &Thread| {
                json!({
                    "thread": thread.id,
                    "name": thread.name,
                    "frames": thread.frames.iter().map(frame).collect::<Vec<_>>(),
                })
            };
            json!({ "threads": threads.iter().map(thread).collect::<Vec<_>>(), "error": null })
        }
        Err(reason) => json!({ "threads": [], "error": reason }),
    }
}

/// Run a program to its end, or kill it after `patience`. Returns what it wrote to its output; what it wrote to standard
/// error last is the reason if it failed.
fn output(program: &OsStr, words: &[&OsStr], patience: Duration) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let (tell, told) = mpsc::channel();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reader = std::thread::spawn(move || {
        let error = std::thread::spawn(move || read(err));
        let out = read(out);
        let _ = tell.send((out, error.join().unwrap_or_default()));
    });
    let read = told.recv_timeout(patience);
    if read.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    // Not joined before: a program that this one has started may hold the other end for long.
    let (out, error) = read.map_err(|_| "it took too long".to_owned())?;
    let _ = reader.join(); // it has ended
    if status.success() {
        return Ok(out);
    }
    let error = String::from_utf8_lossy(&error).into_owned();
    let last = error.lines().rev().find(|line| !line.trim().is_empty());
    Err(last.map_or_else(|| status.to_string(), |line| line.trim().to_owned()))
}

fn read(from: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read until an error counts.
        let _: io::Result<usize> = from.take(MOST_BYTES).read_to_end(&mut bytes);
    }
    bytes
}

/// How much of a program's output is read.
const MOST_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_cannot_steer_a_terminal() {
        let frame = Frame {
            function: "serve\x1b[2J".to_owned(),
            file: "/srv/shop.py\n".to_owned(),
            line: 12,
        };
        let threads = vec![Thread {
            id: Some(7),
            name: "clerk\u{202e}".to_owned(),
            frames: vec![frame],
        }];
        assert_eq!(
            lines(&Ok(threads)),
            ["thread 7 clerk?", "  serve?[2J (/srv/shop.py?:12)"]
        );
        assert_eq!(lines(&Err("gone\x07".to_owned())), ["no stack: gone?"]);
    }

    #[test]
    fn a_program_that_fails_or_hangs_is_an_error() {
        let run = |code: &str, patience| {
            let words = ["-c", code].map(OsStr::new);
            output(OsStr::new("/bin/sh"), &words, Duration::from_millis(patience))
        };
        let long = 60_000;
        assert_eq!(run("echo yes", long), Ok(b"yes\n".to_vec()));
        assert_eq!(run("echo one >&2; echo two >&2; exit 3", long), Err("two".to_owned()));
        assert!(run("exit 3", long).unwrap_err().contains('3'));
        assert!(run("exec sleep 1000", 50).unwrap_err().contains("too long"));
        assert!(output(OsStr::new("/nowhere/at/all"), &[], Duration::ZERO).is_err());
    }
}
