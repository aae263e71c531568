//! Bindings of processes: this process's family, its children and mailboxes; the fork_server's are in `fork_server.rs`. How a
//! process is started is decided in Python.
//!
//! ```text
//! # the family
//! def arena_fd() -> int: ...                  # hand it to a spawned child at the same number (in pass_fds)
//! def attach(fd: int) -> None: ...            # join the family (takes over fd); before anything else of this module is used
//! def family_id() -> bytes: ...               # 16 bytes
//! def set_name(name: str) -> None: ...        # this process's name in the process table
//! def members() -> list[dict]: ...            # {"pid", "name", "parent" (pid or None), "state"} of every process in the process table
//!
//! # children
//! def spawn_exec(path: str, argv: list[str], pass_fds: list[int]) -> Child: ...
//!         # runs a program; it gets 0, 1, 2 and pass_fds, nothing else; inherits environment, working directory, signal mask
//! def check_room() -> None: ...               # BlockingIOError if there is none for a further process
//! def adopt(pid: int) -> Child: ...           # a child that somebody else made in this process
//!         # children are started within `Birth` (birth.rs), which also has fork()
//! def note_exit(code: int) -> None: ...       # this process is about to exit: its parent learns the code even where SIGCHLD is ignored
//! def watch_parent(pid: int) -> None: ...     # from now on this process ends (SIGTERM, 0.25 s later SIGKILL) when that process ends,
//!                                             # even when busy; at once if it is already gone. pid is the process that asked for this one
//! class Child:
//!     pid: int
//!     sentinel: int                           # readable once the child ended; closed by close() or with the object
//!     def poll(self) -> int | None: ...       # exit code, -signal, None while it runs, 255 when nobody can know any more
//!     def wait(self, timeout: float | None) -> int | None: ...     # None: timed out. GIL released, signal handlers run
//!     def kill(self, sig: int) -> None: ...   # nothing happens if it already ended
//!     def close(self) -> None: ...            # ValueError from everything but pid afterwards
//!
//! # mailboxes: what a child is to do waits in shared memory under a token
//! class Mailbox:
//!     def __init__(self, obj: object) -> None: ...                 # pickled here; errors name the object
//!     @staticmethod
//!     def from_bytes(data: bytes) -> Mailbox: ...
//!     token: int
//!         # dropping an untaken Mailbox gives it back: keep it until the child was started
//!     def address(self, pid: int) -> None: ...                     # the child exists: the mailbox outlives this process now, not that one
//! def take_mail(token: int) -> object: ...
//! def take_mail_bytes(token: int) -> bytes: ...
//! ```

use crate::birth::born;
use crate::common::{poll_deadline, raise, wait};
use crate::payload;
use procession_core::channel::{Mailbox as CoreMailbox, Outgoing};
use procession_core::process::{self, Child as CoreChild};
use procession_core::{family, liveness, sweep_deferred, Family};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Return the number of processes that can run at once.
///
/// These are the processors that this process may use, or fewer if its control group, or one above it, has a quota.
#[pyfunction]
pub fn usable_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Return the descriptor by which a child joins the family.
#[pyfunction]
pub fn arena_fd() -> PyResult<RawFd> {
    let fd = family().and_then(Family::arena_fd).map_err(raise)?;
    Ok(fd.as_raw_fd())
}

/// Join the family of the arena that `fd` refers to. FastPath ownership of the descriptor.
#[pyfunction]
pub fn attach(fd: RawFd) -> PyResult<()> {
    Family::attach(owned(fd)?).map(drop).map_err(raise)
}

/// Return the family's identity, 16 bytes.
#[pyfunction]
pub fn family_id(py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
    let id = family().map_err(raise)?.id();
    Ok(PyBytes::new(py, &id.to_ne_bytes()))
}

/// Set this process's name in the process table.
#[pyfunction]
pub fn set_name(name: &str) -> PyResult<()> {
    family().map_err(raise)?.me();
    liveness::set_name(name);
    Ok(())
}

/// Count what is in use in the arena, by state, after reclaiming what dead processes held. Equal counts before and
/// after show that nothing leaked.
#[pyfunction]
pub fn counters(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    liveness::sweep();
    let counters = sweep_deferred()
        .and_then(|_| procession_core::arena::counters())
        .map_err(raise)?;
    let counts = PyDict::new(py);
    counts.set_item("owned", counters.owned)?;
    counts.set_item("transit", counters.transit)?;
    counts.set_item("objects", counters.objects)?;
    counts.set_item("references", counters.refs)?;
    counts.set_item("deferred", counters.deferred)?;
    counts.set_item("other", counters.other)?;
    Ok(counts)
}

/// Return the processes of the family: pid, name, parent's pid, state.
#[pyfunction]
pub fn members(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let all = liveness::members();
    let pid = |owner| {
        all.iter()
            .find(|member| Some(member.owner) == owner)
            .map(|member| member.pid)
    };
    let describe = |member: &liveness::Member| {
        let dict = PyDict::new(py);
        dict.set_item("pid", member.pid)?;
        dict.set_item("name", &member.name)?;
        dict.set_item("parent", pid(member.parent))?;
        dict.set_item("state", format!("{:?}", member.state).to_lowercase())?;
        Ok(dict)
    };
    all.iter().map(describe).collect()
}

/// Run a program as a child process. It gets the descriptors 0, 1, 2 and `pass_fds`.
#[pyfunction]
pub fn spawn_exec(path: OsString, argv: Vec<OsString>, pass_fds: Vec<RawFd>) -> PyResult<Child> {
    process::spawn(&path, &argv, &[], &pass_fds).map(born).map_err(raise)
}

/// Raise `BlockingIOError` unless the family has room for one more process.
#[pyfunction]
pub fn check_room() -> PyResult<()> {
    liveness::check_room().map_err(raise)
}

/// Note that this process is about to exit with `code`.
#[pyfunction]
pub fn note_exit(code: i32) {
    liveness::note_exit(code);
}

/// Adopt a child that `os.fork()` made in this process.
#[pyfunction]
pub fn adopt(pid: i32) -> PyResult<Child> {
    CoreChild::forked(pid).map(born).map_err(raise)
}

/// End this process when process `pid` ends.
#[pyfunction]
pub fn watch_parent(pid: i32) -> PyResult<()> {
    process::watch_parent(pid).map_err(raise)
}

/// A child process.
#[pyclass(frozen, module = "procession._procession")]
pub struct Child {
    pub pid: i32,
    child: Mutex<Option<Arc<CoreChild>>>,
}

impl Child {
    pub fn new(child: Arc<CoreChild>) -> Self {
        Self {
            pid: child.pid(),
            child: Mutex::new(Some(child)),
        }
    }

    fn open(&self) -> PyResult<Arc<CoreChild>> {
        let child = lock(&self.child).clone();
        child.ok_or_else(|| PyValueError::new_err("child is closed"))
    }
}

#[pymethods]
impl Child {
    /// The process ID.
    #[getter]
    fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor that polls readable once the child has ended.
    #[getter]
    fn sentinel(&self) -> PyResult<RawFd> {
        Ok(self.open()?.sentinel().as_raw_fd())
    }

    /// Return the exit code, or None while the child runs.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        let child = self.open()?;
        let exit = wait(py, || child.try_wait())?.flatten();
        Ok(exit.map(process::Exit::code))
    }

    /// Wait for the child to end. Return its exit code, or None after `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        let child = self.open()?;
        let deadline = poll_deadline(timeout)?;
        let exit = wait(py, || child.wait(deadline))?.flatten();
        Ok(exit.map(process::Exit::code))
    }

    /// Send a signal. Nothing happens if the child has ended.
    fn kill(&self, sig: i32) -> PyResult<()> {
        self.open()?.signal(sig).map_err(raise)
    }

    /// Close the sentinel.
    fn close(&self) {
        let child = lock(&self.child).take();
        drop(child);
    }

    fn __repr__(&self) -> String {
        format!("<Child pid={}>", self.pid)
    }
}

/// What a child must do, stored in shared memory.
#[pyclass(frozen, module = "procession._procession")]
pub struct Mailbox {
    mailbox: CoreMailbox,
}

#[pymethods]
impl Mailbox {
    /// Create a mailbox of an object, which is pickled now.
    #[new]
    fn new(obj: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mailbox = payload::dumps(obj)?.with(CoreMailbox::pack)?;
        Ok(Self { mailbox })
    }

    /// Create a mailbox of plain bytes.
    #[staticmethod]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        let out = Outgoing {
            body: data,
            ..Outgoing::default()
        };
        let mailbox = CoreMailbox::pack(out).map_err(raise)?;
        Ok(Self { mailbox })
    }

    /// The number by which the receiver takes the mailbox.
    #[getter]
    fn token(&self) -> u64 {
        self.mailbox.token()
    }

    /// Make process `pid` the receiver: from now on the mailbox outlives this process.
    fn address(&self, pid: i32) {
        self.mailbox.address(pid);
    }
}

/// Take a mailbox and return its object.
#[pyfunction]
pub fn take_mail(py: Python<'_>, token: u64) -> PyResult<Bound<'_, PyAny>> {
    let incoming = CoreMailbox::take(token).map_err(raise)?;
    payload::loads(py, incoming)
}

/// Take a mailbox and return its bytes.
#[pyfunction]
pub fn take_mail_bytes(py: Python<'_>, token: u64) -> PyResult<Bound<'_, PyBytes>> {
    let mailbox = CoreMailbox::take(token).map_err(raise)?;
    Ok(PyBytes::new(py, mailbox.body()))
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn borrowed(fd: RawFd) -> PyResult<BorrowedFd<'static>> {
    check(fd)?;
    // SAFETY: open now. The Python caller must keep it open while it is used, as with every descriptor number.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

pub fn owned(fd: RawFd) -> PyResult<OwnedFd> {
    check(fd)?;
    // SAFETY: open, and the Python caller passes ownership.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(fd: RawFd) -> PyResult<()> {
    // SAFETY: fails if the number is not a descriptor.
    match unsafe { libc::fcntl(fd, libc::F_GETFD) } {
        -1 => Err(std::io::Error::last_os_error().into()),
        _ => Ok(()),
    }
}
