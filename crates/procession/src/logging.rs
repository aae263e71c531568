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
/// process events then go to that one.
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

/// Set once this crate's logger is installed.
static SETTING: OnceLock<Setting> = OnceLock::new();

/// The setting for a child that does not inherit this process's memory.
pub(crate) fn setting() -> Option<Setting> {
    let level = log::max_level(); // the program may have changed it
    SETTING.get().map(|setting| Setting {
        level,
        ..setting.clone()
    })
}

pub(crate) fn install(setting: Setting) -> Result<()> {
    let open = |path: &OsString| {
        let file = File::options().append(true).create(true).open(path);
        file.map_err(|source| Error::log(path.as_ref(), source))
    };
    let file = setting.path.as_ref().map(open).transpose()?;
    log::set_boxed_logger(Box::new(Lines { file })).map_err(|_| Error::Logger)?;
    log::set_max_level(setting.level);
    let _ = SETTING.set(setting); // only the caller that installed the logger gets here
    crate::children::end_at_exit();
    Ok(())
}

struct Lines {
    /// Open for appending; `None`: stderr.
    file: Option<File>,
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = format!("[{}/{}] {}\n", record.level(), current().name(), record.args());
        // One write, which does not mix with those of other processes. An error has no place to be reported.
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => stderr().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}
