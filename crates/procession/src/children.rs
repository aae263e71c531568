//! The children of this process that may still run. At exit, this process joins them and terminates the daemonic ones.

use crate::error::wait;
use crate::process::here;
use crate::Process;
use log::info;
use procession_core::arena::Ref;
use procession_core::channel::Mailbox;
use procession_core::process::{Child, ResultSlot};
use procession_core::Deadline;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

/// A child that was started.
#[derive(Debug)]
pub(crate) struct Running {
    pub identity: Process,
    pub child: Child,
    pub result_slot: Ref<ResultSlot>,
    /// Kept until the child can no longer take it.
    #[expect(dead_code, reason = "dropping it is its use")]
    pub mailbox: Option<Mailbox>,
}

/// The children that were neither joined nor seen to have ended.
#[derive(Debug, Default)]
pub(crate) struct Children {
    all: Mutex<Vec<Arc<Running>>>,
    /// Whether this process has logged that it shuts down.
    said: AtomicBool,
}

/// The time between SIGTERM and SIGKILL for a daemonic child when its parent exits.
const GRACE: Duration = Duration::from_secs(1);

impl Children {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Running>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forget the children that have ended. Called before a start, which may need their descriptors.
    pub(crate) fn forget_ended(&self) {
        self.lock()
            .retain(|running| matches!(running.child.try_wait(), Ok(None)));
    }

    /// Remember a new child.
    pub(crate) fn add(&self, running: Arc<Running>) {
        end_at_exit();
        self.lock().push(running);
    }

    pub(crate) fn remove(&self, running: &Arc<Running>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, running));
    }

    /// Terminate the daemonic children and wait for the others. Errors have no place to be reported: this process is
    /// exiting.
    pub(crate) fn end(&self) {
        if !self.said.swap(true, Ordering::Relaxed) {
            info!("process shutting down");
        }
        let all = std::mem::take(&mut *self.lock());
        let (daemons, others): (Vec<_>, Vec<_>) = all.iter().partition(|running| running.identity.daemon);
        for running in &daemons {
            info!("calling terminate() for daemon {}", running.identity.name());
            let _ = running.child.signal(libc::SIGTERM);
        }
        for running in &others {
            info!("calling join() for process {}", running.identity.name());
            let _ = wait(|| running.child.wait(Deadline::Never));
        }
        let deadline = Deadline::after(GRACE);
        for running in &daemons {
            info!("calling join() for process {}", running.identity.name());
            if let Ok(None) = wait(|| running.child.wait(deadline)) {
                let _ = running.child.signal(libc::SIGKILL);
            }
        }
        crate::forward::hand_over();
    }
}

/// Register [`Children::end`] to run when this process exits.
pub(crate) fn end_at_exit() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: `at_exit` is a plain function. A child of fork inherits the registration.
        unsafe { libc::atexit(at_exit) };
    });
}

extern "C" fn at_exit() {
    let here = here();
    // A process that the program forked on its own has no children of this crate.
    if here.me.pid == std::process::id() as i32 {
        // The program's logger may panic this late, without its thread-locals; a panic that left this function would
        // abort.
        let _ = catch_unwind(AssertUnwindSafe(|| here.children.end()));
    }
}
