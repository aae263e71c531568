//! Process events, reported through the `log` facade, and a logger that all processes of a program share.

use crate::{current, Error, Result};
use log::{LevelFilter, Log, Metadata, Record};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{stderr, Write};
use std::path::Path;
use std::sync::OnceLock;

/// Log to stderr from now on, in this process and in those that it starts: `multiprocessing.log_to_stderr`.
///
/// The logger writes what the program logs with the macros of the `log` crate, and what this crate logs about process
/// starts and exits (at level info). Each record is one line, written in one piece, like
/// `[INFO/Process-1] child process calling self.run()`. Returns [`Error::Logger`] if the program already has a logger;
/// process events then go to that one. A child logs as its parent does, whatever a function of the program that runs
/// before `main` has set up there with this crate.
///
/// ```
/// procession::log_to_stderr(log::LevelFilter::Info)?;
/// log::info!("this line begins with [INFO/MainProcess]");
/// # Ok::<(), procession::Error>(())
/// ```
pub fn log_to_stderr(level: LevelFilter) -> Result<()> {
    install(Setting { path: None, level })
}

/// Like [`log_to_stderr`], but append to a file, which is created if it does not exist. Lines of different processes
/// never mix.
///
/// ```
/// # let path = std::env::temp_dir().join(format!("procession-{}.log", std::process::id()));
/// procession::log_to_file(&path, log::LevelFilter::Debug)?;
/// log::debug!("found {}", 3);
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "[DEBUG/MainProcess] found 3\n");
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), procession::Error>(())
/// ```
pub fn log_to_file(path: impl AsRef<Path>, level: LevelFilter) -> Result<()> {
    let path = path.as_ref();
    // A child may have another working directory.
    let path = std::path::absolute(path).map_err(|source| Error::log(path, source))?;
    let path = Some(path.into_os_string());
    install(Setting { path, level })
}

/// How the program logs; part of what a child is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// `None`: stderr.
    path: Option<OsString>,
    level: LevelFilter,
}

/// Where this program logs, once this crate's logger is installed.
static OWN: OnceLock<Lines> = OnceLock::new();

/// Where the parent of this process logs; it replaces what a function that runs before `main` has set in this one.
static PARENTS: OnceLock<Lines> = OnceLock::new();

fn lines() -> Option<&'static Lines> {
    PARENTS.get().or_else(|| OWN.get())
}

/// The setting for a child that does not inherit this process's memory.
pub(crate) fn setting() -> Option<Setting> {
    let level = log::max_level(); // the program may have changed it
    lines().map(|lines| Setting {
        level,
        ..lines.setting.clone()
    })
}

fn install(setting: Setting) -> Result<()> {
    let lines = Lines::open(setting)?;
    log::set_logger(&Logger).map_err(|_| Error::Logger)?;
    let _ = OWN.set(lines); // only the caller that installed the logger gets here
    begin();
    Ok(())
}

/// Log as this process's parent does, whose setting was sent.
pub(crate) fn inherit(setting: Setting) -> Result<()> {
    if OWN.get().is_none() {
        return install(setting);
    }
    let _ = PARENTS.set(Lines::open(setting)?); // a process is sent one setting
    begin();
    Ok(())
}

fn begin() {
    log::set_max_level(lines().map_or(LevelFilter::Off, |lines| lines.setting.level));
    crate::children::end_at_exit();
}

struct Lines {
    setting: Setting,
    /// Open for appending; `None`: stderr.
    file: Option<File>,
}

impl Lines {
    fn open(setting: Setting) -> Result<Self> {
        let open = |path: &OsString| {
            let file = File::options().append(true).create(true).open(path);
            file.map_err(|source| Error::log(path.as_ref(), source))
        };
        let file = setting.path.as_ref().map(open).transpose()?;
        Ok(Self { setting, file })
    }
}

/// Writes to [`lines`].
struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = format!("[{}/{}] {}\n", record.level(), current().name(), record.args());
        // One write, which does not mix with those of other processes. An error has no place to be reported.
        let _ = match lines().and_then(|lines| lines.file.as_ref()) {
            Some(mut file) => file.write_all(line.as_bytes()),
            None => stderr().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}
