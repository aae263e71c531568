//! Children between their start and the moment at which Python code records them.
//!
//! An interrupt may come between any two bytecodes, so also between the call that makes a child and the assignment that
//! records it. Every function that makes a child enters it here, before Python code runs again.

use crate::common::raise;
use crate::process::Child;
use procession_core::process::Child as CoreChild;
use procession_core::sys::signal;
use procession_core::{liveness, Deadline};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for a killed child to end.
const END: Duration = Duration::from_secs(2);

/// The children of this thread that are not recorded yet. Thread-local, so that no lock is held at a fork, and that it
/// has no other thread's children.
#[derive(Default)]
struct Newborns {
    born: u64,
    /// How many `Birth` blocks are open. Without one, children are not entered.
    blocks: u32,
    /// Held here, because an interrupt can drop the Python object before it has a name.
    children: Vec<(u64, Arc<CoreChild>)>,
}

thread_local! {
    static NEWBORNS: RefCell<Newborns> = RefCell::default();
}

/// The Python object of a child that was just made.
pub fn born(child: CoreChild) -> Child {
    let child = Arc::new(child);
    NEWBORNS.with_borrow_mut(|newborns| {
        newborns.born += 1;
        if newborns.blocks > 0 {
            newborns.children.push((newborns.born, Arc::clone(&child)));
        }
    });
    Child::new(child)
}

/// Kills the children that were started in its block, if the block raises.
#[pyclass(frozen, module = "procession._procession")]
#[derive(Default)]
pub struct Birth {
    /// The number of children that the thread had made before the block.
    since: AtomicU64,
}

#[pymethods]
impl Birth {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn __enter__(&self) {
        let since = NEWBORNS.with_borrow_mut(|newborns| {
            newborns.blocks += 1;
            newborns.born
        });
        self.since.store(since, Ordering::Relaxed);
    }

    #[pyo3(signature = (*exc))]
    fn __exit__(&self, py: Python<'_>, exc: &Bound<'_, PyTuple>) -> PyResult<()> {
        let since = self.since.load(Ordering::Relaxed);
        let children = NEWBORNS.with_borrow_mut(|newborns| {
            newborns.blocks = newborns.blocks.saturating_sub(1);
            let first = newborns.children.partition_point(|(number, _)| *number <= since);
            newborns.children.split_off(first)
        });
        if !exc.get_item(0)?.is_none() {
            py.detach(|| children.into_iter().for_each(|(_, child)| end(&child)));
        }
        Ok(())
    }
}

/// Kill a child and wait for its end. It has no record by which that could be done later.
fn end(child: &CoreChild) {
    // A child that cannot be signalled has ended, or belongs to another user by now.
    if child.signal(libc::SIGKILL).is_ok() {
        let deadline = Deadline::after(END);
        while let Err(procession_core::WaitError::Interrupted) = child.wait(deadline) {}
    }
}

/// Blocks SIGINT in its block. A program started in the block has it blocked until it unblocks it.
#[pyclass(unsendable, module = "procession._procession")]
#[derive(Default)]
pub struct InterruptHeld {
    held: Cell<Option<signal::InterruptHeld>>,
}

#[pymethods]
impl InterruptHeld {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn __enter__(&self) {
        self.held.set(Some(signal::InterruptHeld::new()));
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, _exc: &Bound<'_, PyTuple>) {
        drop(self.held.take());
    }
}

/// Fork by `os.fork`. The child calls `main` and does not return.
#[pyfunction]
pub fn fork(py: Python<'_>, main: &Bound<'_, PyAny>) -> PyResult<Child> {
    liveness::check_room().map_err(raise)?;
    let fork = py.import("os")?.getattr("fork")?;
    // An exception raised in an at-fork hook is lost, and so would be an interrupt there.
    let held = signal::InterruptHeld::new();
    let pid = fork.call0();
    drop(held);
    let pid: i32 = pid?.extract()?;
    if pid == 0 {
        match main.call0() {
            // Ctrl-C came before the child began its work. The parent got it, too.
            Err(error) if !error.is_instance_of::<PyKeyboardInterrupt>(py) => error.write_unraisable(py, Some(main)),
            _ => {}
        }
        // SAFETY: ends the process. All that could be cleaned up is the parent's.
        unsafe { libc::_exit(1) };
    }
    CoreChild::forked(pid).map(born).map_err(raise)
}
