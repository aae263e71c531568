//! A copy of this process.

use super::child::SetAside;
use super::Child;
use crate::roll::{abandon_reserved, check_room};
use crate::{Error, Result};

/// The two who return from [`fork`].
#[derive(Debug)]
pub enum Forked {
    /// The caller, with its new child.
    Parent(Child),
    /// The child. Of the threads only this one is left.
    Child,
}

/// Fork. What is process-local in the engine is made anew in the child by at-fork hooks.
///
/// # Safety
/// If the process has other threads, the child must not rely on anything they may have been changing at that moment,
/// as with every fork.
pub unsafe fn fork() -> Result<Forked> {
    // A child of fork inherits its family, so there must be one.
    crate::family()?.me();
    check_room()?;
    let set_aside = SetAside::new()?;
    // SAFETY: the caller's promise.
    let pid = unsafe { libc::fork() };
    drop(set_aside);
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
