//! The report of a death, as a holder of the dead process's lock gets it.

use std::fmt;

/// A process that died, or a thread that ended, while it held a lock; or a process that gave the lock back during a
/// panic. Displayed, it is a sentence for people.
///
/// ```
/// use procession::{LockError, Mutex};
///
/// fn fail(total: Mutex<u64>) {
///     let _guard = total.lock().unwrap();
///     std::process::abort();
/// }
/// let total = Mutex::new(0_u64)?;
/// let child = procession::spawn(fail, total.clone())?;
/// let pid = child.pid();
/// assert!(child.join().is_err());
/// let Err(LockError::Poisoned(poisoned)) = total.lock() else { panic!("its holder died") };
/// let death = poisoned.death();
/// assert_eq!((death.pid as i32, death.panicked), (pid, false));
/// assert!(death.to_string().contains("died holding the"));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Death {
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
    /// File and line, from 1, of the call that made this object, if they were recorded. Of a long path only the end,
    /// after an ellipsis.
    pub made: Option<(String, u32)>,
    text: String,
}

impl Death {
    pub(crate) fn of_engine(death: &procession_core::Death) -> Self {
        Self {
            pid: death.pid,
            name: death.name.clone(),
            thread: death.thread,
            panicked: death.panicked,
            object: death.object,
            object_name: death.object_name.clone(),
            made: death.made.as_ref().map(|made| (made.file.clone(), made.line)),
            text: death.to_string(),
        }
    }
}

impl Death {
    /// That of a process that wrote to an object of this kind. `found` is what its locks tell of the dead process.
    pub(crate) fn of_writer(pid: u32, panicked: bool, object: &'static str, found: Option<Box<Self>>) -> Self {
        let found = found.filter(|death| death.pid == pid);
        let (name, made) = found.map(|death| (death.name, death.made)).unwrap_or_default();
        let label = match &*name {
            "" => format!("process {pid}"),
            name => format!("process {name} ({pid})"),
        };
        let end = if panicked { "panicked" } else { "died" };
        let made_at = made
            .as_ref()
            .map_or_else(String::new, |(file, line)| format!(" made at {file}:{line}"));
        Self {
            pid,
            name,
            thread: None,
            panicked,
            object,
            object_name: None, // the objects that have such data have no names
            made,
            text: format!("{label} {end} holding the {object}{made_at}"),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
