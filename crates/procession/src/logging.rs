//! The events of processes, told through the `log` facade, and a logger that all processes of a program share.

use crate::{current, Error, Result};
use log::{LevelFilter, Log, Metadata, Record};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{stderr, Write};
use std::path::Path;
use std::sync::OnceLock;

/// Log to stderr from now on, in this process and in those it starts: `multiprocessing.log_to_stderr`.
///
/// Whatever the program logs with the macros of the `log` crate, and what this crate tells of the coming and going of processes (at level
/// info), becomes lines like `[INFO/Process-1] child process calling self.run()`, each in one piece.
/// [`Error::Logger`] if the program has a logger already; the events of processes then go to that one.
///
/// ```
/// procession::log_to_stderr(log::LevelFilter::Info)?;
/// log::info!("this line begins with [INFO/MainProcess]");
/// # Ok::<(), procession::Error>(())
/// ```
pub fn log_to_stderr(level: LevelFilter) -> Result<()> {
    install(Setting { path: None, level })
}

/// As [`log_to_stderr`], to the end of a file, which is made if there is none. Lines of different processes never mix.
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
    // Children may work in another directory.
    let path = std::path::absolute(path).map_err(|source| Error::log(path, source))?;
    let path = Some(path.into_os_string());
    install(Setting { path, level })
}

/// How the program logs, as children are told it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// `None`: stderr.
    path: Option<OsString>,
    level: LevelFilter,
}

/// Set once the logger is this crate's.
static SETTING: OnceLock<Setting> = OnceLock::new();

/// For a child that does not inherit this process's memory.
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
    let _ = SETTING.set(setting); // whoever becomes the logger is the only one here
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
        // One write, which does not mix with those of other processes. An error is nobody's to hear.
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => stderr().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}
