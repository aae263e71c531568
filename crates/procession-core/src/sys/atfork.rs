//! Hooks around `fork`, whoever calls it.

use crate::{Error, Result};

/// Have `prepare` run before every fork of this process, then `parent` in the parent and `child` in the child.
/// `child` must be async-signal-safe: it may run in a copy of a process with many threads.
pub(crate) fn install(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> Result<()> {
    // SAFETY: the three are functions of this program text, which stays loaded for the life of the process
    // (an extension module is never unloaded), and take no argument.
    let code = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    if code == 0 {
        Ok(())
    } else {
        Err(Error::os("pthread_atfork", std::io::Error::from_raw_os_error(code)))
    }
}
