//! Forking this process.

use super::child::ReservedFd;
use super::Child;
use crate::liveness::{abandon_reserved, check_room};
use crate::{Error, Result};

/// The two processes that return from [`fork`].
#[derive(Debug)]
pub enum Forked {
    /// The caller, with its new child.
    Parent(Child),
    /// The child. Of all threads, it has only the calling one.
    Child,
}

/// Fork. At-fork hooks reset the engine's process-local state in the child.
///
/// # Safety
/// If the process has other threads, the child must not rely on anything that they may have been changing at that
/// moment, as with every fork.
pub unsafe fn fork() -> Result<Forked> {
    // A child of fork inherits its family, so there must be one.
    crate::family()?.me();
    check_room()?;
    let reserved_fd = ReservedFd::new()?;
    // SAFETY: the caller's promise.
    let pid = unsafe { libc::fork() };
    drop(reserved_fd);
    match pid {
        0 => Ok(Forked::Child),
        pid if pid > 0 => Child::forked(pid).map(Forked::Parent),
        _ => {
            let error = std::io::Error::last_os_error();
            abandon_reserved();
            Err(Error::os("fork", error))
        }
    }
}
