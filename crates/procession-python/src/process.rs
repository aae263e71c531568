//! Bindings of processes: this process's family, its children and mailboxes; the fork server is in `fork_server.rs`.
//! Python code decides how a process is started.

use crate::birth::born;
use crate::common::{lock, poll_deadline, raise, wait};
use crate::payload;
use procession_core::channel::{Mailbox as CoreMailbox, Outgoing};
use procession_core::ids::Owner;
use procession_core::process::{self, Child as CoreChild};
use procession_core::{family, liveness, sweep_deferred, Family};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};

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
    let fd = family().and_then(|family| family.arena_fd()).map_err(raise)?;
    Ok(fd.as_raw_fd())
}

/// Join the family of the arena that `fd` refers to. Takes ownership of the descriptor.
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

/// Watches another process of the family, which named itself by `own`. To be asked often.
#[pyclass(frozen, module = "procession._procession")]
pub struct DeathWatch(liveness::DeathWatch);

#[pymethods]
impl DeathWatch {
    #[new]
    fn new(process: u32) -> PyResult<Self> {
        family().map_err(raise)?.me();
        let owner = Owner::from_bits(process).ok_or_else(|| PyValueError::new_err("not a process of the family"))?;
        Ok(Self(liveness::DeathWatch::new(owner)))
    }

    /// Return this process, as `DeathWatch` takes it.
    #[staticmethod]
    fn own() -> PyResult<u32> {
        Ok(family().map_err(raise)?.me().to_bits())
    }

    /// Return whether the process has ended. That is known at once if a process of the family knows it, and otherwise
    /// within 20 ms.
    fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

/// Set this process's name in the process table.
#[pyfunction]
pub fn set_name(name: &str) -> PyResult<()> {
    family().map_err(raise)?.me();
    liveness::set_name(name);
    Ok(())
}

/// Count what is in use in the arena, by state, after reclaiming what dead processes owned. Equal counts before and
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

/// A child's instructions, stored in shared memory until the child takes them.
#[pyclass(frozen, module = "procession._procession")]
pub struct Mailbox {
    mailbox: CoreMailbox,
}

#[pymethods]
impl Mailbox {
    /// Create a mailbox with an object, which is pickled now.
    #[new]
    fn new(obj: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mailbox = payload::dumps(obj)?.with(CoreMailbox::pack)?;
        Ok(Self { mailbox })
    }

    /// Create a mailbox with plain bytes.
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

/// Make this process the receiver of a mailbox that it will take later.
#[pyfunction]
pub fn expect_mail(token: u64) -> PyResult<()> {
    CoreMailbox::expect(token).map_err(raise)
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
