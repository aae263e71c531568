//! The report of a death: what the error says that the finder of a dead holder's object gets.

use crate::ids::Owner;
use std::fmt;

/// A process that died, or a thread that ended, while it held a lock; or a process that gave the lock back during a
/// panic.
#[derive(Clone, Debug)]
pub struct Death {
    /// The process's entry in the process table.
    pub owner: Owner,
    /// Its process identifier (zero if no longer known).
    pub pid: u32,
    /// Its name (empty if it had none, or if it is no longer known).
    pub name: String,
    /// The thread, if the thread ended and its process lives.
    pub thread: Option<u32>,
    /// Whether it panicked; then it may be alive.
    pub panicked: bool,
    /// The name of the class of what it held.
    pub object: &'static str,
    /// The name that the program gave that object.
    pub object_name: Option<String>,
    /// Where that object was made, if its creation site was recorded.
    pub made: Option<CreationSite>,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(thread) = self.thread {
            write!(f, "thread {thread} of ")?;
        }
        f.write_str(&label_of(self.pid, &self.name))?;
        let end = match self.thread {
            _ if self.panicked => "panicked",
            Some(_) => "ended",
            None => "died",
        };
        write!(f, " {end} holding the {}", self.object)?;
        if let Some(name) = &self.object_name {
            write!(f, " {name:?}")?;
        }
        match &self.made {
            Some(made) => write!(f, " made at {made}"),
            None => Ok(()),
        }
    }
}

/// A line of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreationSite {
    /// Its file; of a long path the end, after an ellipsis.
    pub file: String,
    /// Its number, from 1.
    pub line: u32,
}

impl fmt::Display for CreationSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// How errors name a process: by name and pid, as far as they are known.
pub(crate) fn label_of(pid: u32, name: &str) -> String {
    match (pid, name) {
        (0, _) => "a process".to_owned(),
        (pid, "") => format!("process {pid}"),
        (pid, name) => format!("process {name} ({pid})"),
    }
}
