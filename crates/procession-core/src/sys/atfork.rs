//! Hooks around `fork`, by any caller.

use crate::{Error, Result};
use std::sync::atomic::{AtomicU32, Ordering};

/// The hooks of one module: before a fork, after it in the parent, and in the child.
pub(crate) struct ForkHooks {
    prepare: extern "C" fn(),
    parent: extern "C" fn(),
    /// Must be async-signal-safe: it may run in a copy of a process with many threads. Calls
    /// [`mark_installed`](Self::mark_installed).
    child: extern "C" fn(),
    /// The pid of the process that is installing them, 0, or [`INSTALLED`].
    state: AtomicU32,
}

const INSTALLED: u32 = u32::MAX;

impl ForkHooks {
    pub(crate) const fn new(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> Self {
        Self {
            prepare,
            parent,
            child,
            state: AtomicU32::new(0),
        }
    }

    /// Install the hooks, unless they are installed. When this returns they are, whichever thread installed them. This
    /// is not a cell that locks while one thread initializes it: a child of fork could inherit it locked.
    pub(crate) fn install(&self) -> Result<()> {
        let mut seen = self.state.load(Ordering::Acquire);
        if seen == INSTALLED {
            return Ok(());
        }
        let me = std::process::id();
        loop {
            if seen == INSTALLED {
                return Ok(());
            }
            if seen == me {
                // Another thread is installing them, for microseconds.
                std::thread::yield_now();
                seen = self.state.load(Ordering::Acquire);
                continue;
            }
            // No thread of this process is installing them. A thread of the parent may have been when the parent
            // forked, without finishing: otherwise the child's hook would have recorded it.
            match self
                .state
                .compare_exchange(seen, me, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    let installed = install(self.prepare, self.parent, self.child);
                    let state = if installed.is_ok() { INSTALLED } else { 0 };
                    self.state.store(state, Ordering::Release);
                    return installed;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Record that they are installed. The child's hook calls this: it runs, so it was installed.
    pub(crate) fn mark_installed(&self) {
        self.state.store(INSTALLED, Ordering::Release);
    }
}

fn install(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> Result<()> {
    // SAFETY: the three are functions of this program text, which stays loaded for the life of the process
    // (an extension module is never unloaded), and take no argument.
    let code = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    if code == 0 {
        Ok(())
    } else {
        Err(Error::os("pthread_atfork", std::io::Error::from_raw_os_error(code)))
    }
}
