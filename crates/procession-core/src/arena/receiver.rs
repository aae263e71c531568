//! The addressee of a block, and its liveness check. The check asks the kernel: a child that was just made is not in
//! the process table.

use super::word::Receiver;
use crate::hooks::hooks;
use crate::sys::{pidfd, proc};

impl Receiver {
    /// This process.
    pub(crate) fn me() -> Self {
        Self::new(std::process::id().into(), (hooks().own_start)())
    }

    /// The process that has this pid now.
    pub(crate) fn of(pid: u32) -> Self {
        // Without `/proc`, start times are not compared either.
        Self::new(pid.into(), proc::start_time(pid).unwrap_or(0))
    }

    /// Whether it has ended. To be mistaken for it, another process must get its pid and have started a multiple of 5.5
    /// minutes after it, to 10 ms.
    pub(crate) fn is_gone(self) -> bool {
        pidfd::is_gone(self.pid, self.start.into(), Self::START)
    }
}
