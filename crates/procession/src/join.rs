//! The parent's handle of a child: its identity, its end and its result.

use crate::children::Running;
use crate::error::wait;
use crate::process::here;
use crate::request::{LOST, PANICKED, RETURNED};
use crate::{codec, Error, JoinError, Result};
use procession_core::channel::Incoming;
use procession_core::process::Exit;
use procession_core::Deadline;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// A handle of a child process. `R` is the return type of the child's function.
///
/// Dropping the handle does not end the process. When the parent exits, it waits for the child, or terminates it if the
/// child is daemonic.
///
/// ```
/// fn busy((): ()) {
///     loop {
///         std::thread::park();
///     }
/// }
/// let child = procession::spawn(busy, ())?;
/// assert!(!child.is_finished());
/// child.terminate()?;
/// assert_eq!(child.join(), Err(procession::JoinError::Signaled(15)));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug)]
pub struct JoinHandle<R> {
    running: Arc<Running>,
    result: PhantomData<fn() -> R>,
}

impl<R> JoinHandle<R> {
    pub(crate) fn new(running: Arc<Running>) -> Self {
        Self {
            running,
            result: PhantomData,
        }
    }

    /// The process ID.
    pub fn pid(&self) -> i32 {
        self.running.child.pid()
    }

    /// The process's name.
    pub fn name(&self) -> &str {
        self.running.identity.name()
    }

    /// Whether the process is daemonic: it ends with its parent.
    pub fn is_daemon(&self) -> bool {
        self.running.identity.is_daemon()
    }

    /// Whether the process has ended.
    pub fn is_finished(&self) -> bool {
        matches!(self.running.child.try_wait(), Ok(Some(_)))
    }

    /// A descriptor that polls readable once the process has ended.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.running.child.sentinel()
    }

    /// Terminate the process with SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        Ok(self.running.child.signal(libc::SIGTERM)?)
    }

    /// Kill the process with SIGKILL.
    pub fn kill(&self) -> Result<()> {
        Ok(self.running.child.signal(libc::SIGKILL)?)
    }

    /// Wait at most `timeout` for the process to end. Returns whether it has ended.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let deadline = Deadline::after(timeout);
        Ok(wait(|| self.running.child.wait(deadline))?.is_some())
    }
}

impl<R: DeserializeOwned> JoinHandle<R> {
    /// Wait for the process to end and return what its function returned.
    pub fn join(self) -> Result<R, JoinError> {
        let running = &self.running;
        let lost = |error: Error| JoinError::Lost(error.to_string());
        let exit = wait(|| running.child.wait(Deadline::Never)).map_err(|e| lost(e.into()))?;
        here().children.remove(running);
        match running.result_slot.take().map_err(|e| lost(e.into()))? {
            Some(incoming) => read(&incoming),
            None => Err(match exit.unwrap_or(Exit::Unknown) {
                Exit::Code(code) => JoinError::Exited(code),
                Exit::Signal(signal) => JoinError::Signaled(signal),
                Exit::Unknown => JoinError::Unknown,
            }),
        }
    }
}

fn read<R: DeserializeOwned>(incoming: &Incoming) -> Result<R, JoinError> {
    let lost = |error: Error| JoinError::Lost(error.to_string());
    let (kind, rest) = incoming.body().split_first().unwrap_or((&LOST, &[]));
    match *kind {
        RETURNED => codec::unpack(rest, Vec::new()).map_err(lost),
        PANICKED => {
            let (message, location, backtrace) = codec::unpack(rest, Vec::new()).map_err(lost)?;
            Err(JoinError::Panicked {
                message,
                location,
                backtrace,
            })
        }
        _ => Err(JoinError::Lost(String::from_utf8_lossy(rest).into_owned())),
    }
}
