//! Bindings of the process room: this process's family, children, parcels and the zygote. No policy: who is started how is Python's.
//!
//! ```text
//! # the family
//! def arena_fd() -> int: ...                  # hand it to a spawned child at the same number (in pass_fds)
//! def attach(fd: int) -> None: ...            # join the family (takes over fd); before anything else of this module is used
//! def family_id() -> bytes: ...               # 16 bytes
//! def set_name(name: str) -> None: ...        # this process's name in the roll
//! def members() -> list[dict]: ...            # {"pid", "name", "parent" (pid or None), "state"} of every process in the roll
//!
//! # children
//! def spawn_exec(path: str, argv: list[str], pass_fds: list[int]) -> Child: ...
//!         # runs a program; it gets 0, 1, 2 and pass_fds, nothing else; inherits environment, working directory, signal mask
//! def check_room() -> None: ...               # BlockingIOError if there is none for a further process; to be called before os.fork()
//! def adopt(pid: int) -> Child: ...           # a child made by os.fork() in this process
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
//! # parcels: what a child is to do waits in shared memory under a token
//! class Parcel:
//!     def __init__(self, obj: object) -> None: ...                 # pickled here; errors name the object
//!     @staticmethod
//!     def from_bytes(data: bytes) -> Parcel: ...
//!     token: int
//!         # dropping an untaken Parcel gives it back: keep it until the child was started
//!     def address(self, pid: int) -> None: ...                     # the child exists: the parcel outlives this process now, not that one
//! def take_parcel(token: int) -> object: ...
//! def take_parcel_bytes(token: int) -> bytes: ...
//!
//! # zygote, client side
//! def zygote_request(token: int, fds: list[int]) -> Child | None: ...
//!         # asks this process's zygote to fork a child for the parcel `token`, which gets duplicates of fds (at other numbers: see
//!         # ZygoteRequest.fds, same order). Returns when the child exists. None: this process has no living zygote, start one
//! def zygote_start(launch: Callable[[int], Child]) -> None: ...
//!         # makes a socket pair, calls launch(server_fd), which must start the zygote with it, e.g.
//!         #   spawn_exec(exe, [exe, "-c", f"... main(arena_fd={a}, server_fd={server_fd})"], [a, server_fd]);
//!         # afterwards zygote_request() works in this process and in all children forked or made by that zygote from now on
//! def zygote_channel() -> tuple[int, int] | None: ...   # (descriptor, zygote's pid): to be passed to a spawned child (pass_fds), so
//! def attach_zygote(fd: int, pid: int) -> None: ...     # that it says this and shares the zygote. Optional: without, it starts its own
//! def zygote_pid() -> int | None: ...                   # of the zygote this process would use, if it lives
//! def zygote_stop() -> None: ...                        # forget it: it leaves once no other process and no child of it holds the channel
//!
//! # zygote, server side (in the process launched by zygote_start; single-threaded; ignores SIGINT by its own signal.signal)
//! class ZygoteServer:
//!     def __init__(self, server_fd: int) -> None: ...    # takes over the descriptor
//!     def next(self) -> ZygoteRequest | None: ...        # None: nobody is left, leave. Reaps children meanwhile. GIL released, handlers run
//!     def seat(self) -> ZygoteSeat | None: ...           # a place for a child forked ahead of its request; None while one waits
//! class ZygoteSeat:
//!     def taken(self, pid: int) -> None: ...             # in the zygote, after os.fork()
//!     def wait(self) -> ZygoteRequest | None: ...        # in the child: the request, which in_child() then enters. None: leave
//! class ZygoteRequest:
//!     token: int
//!     parent_pid: int                         # who asked (os.getppid() would be the zygote)
//!     fds: list[int]                          # the descriptors passed, at their numbers here; the child owns them after in_child()
//!     def hand_over(self) -> bool: ...        # in the zygote: the spare child takes it. False: there is none, fork
//!     def forked(self, pid: int) -> None: ... # in the zygote, after os.fork(): tells the asker, closes fds
//!     def failed(self, errno: int) -> None: ...          # in the zygote, when os.fork() failed: the asker gets that OSError
//!     def in_child(self) -> bool: ...         # in the child, first thing: signal mask as before the server, the server's descriptors closed,
//!                                             # the zygote channel attached. False: nobody waits for this child any more: os._exit(0) at once
//! ```

use crate::common::{deadline, raise, wait};
use crate::payload;
use procession_core::channel::{Outgoing, Parcel as CoreParcel};
use procession_core::process::zygote::{self, Event, Request, Seat, Server};
use procession_core::process::{self, Child as CoreChild};
use procession_core::{family, roll, sweep_limbo, Error, Family};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many processes can run at once: the processors that this process may use, or fewer if a control group of it, or above it, has a quota.
#[pyfunction]
pub fn usable_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The descriptor that lets a child join the family.
#[pyfunction]
pub fn arena_fd() -> PyResult<RawFd> {
    let fd = family().and_then(Family::arena_fd).map_err(raise)?;
    Ok(fd.as_raw_fd())
}

/// Join the family whose arena `fd` refers to; takes the descriptor over.
#[pyfunction]
pub fn attach(fd: RawFd) -> PyResult<()> {
    Family::attach(owned(fd)?).map(drop).map_err(raise)
}

/// The family's identity, 16 bytes.
#[pyfunction]
pub fn family_id(py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
    let id = family().map_err(raise)?.id();
    Ok(PyBytes::new(py, &id.to_ne_bytes()))
}

/// This process's name in the roll.
#[pyfunction]
pub fn set_name(name: &str) -> PyResult<()> {
    family().map_err(raise)?.me();
    roll::set_name(name);
    Ok(())
}

/// What is in use in the arena once the dead are cleared away, counted by state: equal counts before and after show that nothing leaked.
#[pyfunction]
pub fn census(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    roll::sweep();
    let census = sweep_limbo()
        .and_then(|_| procession_core::arena::census())
        .map_err(raise)?;
    let counts = PyDict::new(py);
    counts.set_item("owned", census.owned)?;
    counts.set_item("transit", census.transit)?;
    counts.set_item("objects", census.objects)?;
    counts.set_item("references", census.refs)?;
    counts.set_item("limbo", census.limbo)?;
    counts.set_item("other", census.other)?;
    Ok(counts)
}

/// The processes of the family: pid, name, parent's pid, state.
#[pyfunction]
pub fn members(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let all = roll::members();
    let pid = |owner| {
        all.iter()
            .find(|member| Some(member.owner) == owner)
            .map(|member| member.pid)
    };
    let describe = |member: &roll::Member| {
        let dict = PyDict::new(py);
        dict.set_item("pid", member.pid)?;
        dict.set_item("name", &member.name)?;
        dict.set_item("parent", pid(member.parent))?;
        dict.set_item("state", format!("{:?}", member.state).to_lowercase())?;
        Ok(dict)
    };
    all.iter().map(describe).collect()
}

/// Run a program as a child that gets the descriptors 0, 1, 2 and `pass_fds`.
#[pyfunction]
pub fn spawn_exec(path: OsString, argv: Vec<OsString>, pass_fds: Vec<RawFd>) -> PyResult<Child> {
    process::spawn(&path, &argv, &[], &pass_fds)
        .map(Child::new)
        .map_err(raise)
}

/// `BlockingIOError` unless there is room for one more process in the family.
#[pyfunction]
pub fn check_room() -> PyResult<()> {
    roll::check_room().map_err(raise)
}

/// A child made by `os.fork()` in this process.
#[pyfunction]
pub fn adopt(pid: i32) -> PyResult<Child> {
    CoreChild::forked(pid).map(Child::new).map_err(raise)
}

/// End this process when process `pid` ends.
#[pyfunction]
pub fn watch_parent(pid: i32) -> PyResult<()> {
    process::watch_parent(pid).map_err(raise)
}

/// A child process.
#[pyclass(frozen, module = "procession._procession")]
pub struct Child {
    pid: i32,
    child: Mutex<Option<Arc<CoreChild>>>,
}

impl Child {
    fn new(child: CoreChild) -> Self {
        Self {
            pid: child.pid(),
            child: Mutex::new(Some(Arc::new(child))),
        }
    }

    fn open(&self) -> PyResult<Arc<CoreChild>> {
        let child = lock(&self.child).clone();
        child.ok_or_else(|| PyValueError::new_err("child is closed"))
    }
}

#[pymethods]
impl Child {
    /// Its process id.
    #[getter]
    fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor that polls readable once the child ended.
    #[getter]
    fn sentinel(&self) -> PyResult<RawFd> {
        Ok(self.open()?.sentinel().as_raw_fd())
    }

    /// The exit code, or None while it runs.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        let child = self.open()?;
        let exit = wait(py, || child.try_wait())?.flatten();
        Ok(exit.map(process::Exit::code))
    }

    /// Wait for the end: the exit code, or None when `timeout` seconds passed.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        let child = self.open()?;
        let deadline = deadline(timeout);
        let exit = wait(py, || child.wait(deadline))?.flatten();
        Ok(exit.map(process::Exit::code))
    }

    /// Send a signal; nothing happens if it ended.
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

/// What a child is to do, waiting in shared memory.
#[pyclass(frozen, module = "procession._procession")]
pub struct Parcel {
    parcel: CoreParcel,
}

#[pymethods]
impl Parcel {
    /// A parcel of an object, pickled now.
    #[new]
    fn new(obj: &Bound<'_, PyAny>) -> PyResult<Self> {
        let parcel = payload::dumps(obj)?.with(CoreParcel::pack)?;
        Ok(Self { parcel })
    }

    /// A parcel of plain bytes.
    #[staticmethod]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        let out = Outgoing {
            body: data,
            ..Outgoing::default()
        };
        let parcel = CoreParcel::pack(out).map_err(raise)?;
        Ok(Self { parcel })
    }

    /// What the receiver must know.
    #[getter]
    fn token(&self) -> u64 {
        self.parcel.token()
    }

    /// The receiver is this process: from now on the parcel outlives us.
    fn address(&self, pid: i32) {
        self.parcel.address(pid);
    }
}

/// The object of a parcel, which is gone afterwards.
#[pyfunction]
pub fn take_parcel(py: Python<'_>, token: u64) -> PyResult<Bound<'_, PyAny>> {
    let incoming = CoreParcel::take(token).map_err(raise)?;
    payload::loads(py, incoming)
}

/// The bytes of a parcel, which is gone afterwards.
#[pyfunction]
pub fn take_parcel_bytes(py: Python<'_>, token: u64) -> PyResult<Bound<'_, PyBytes>> {
    let parcel = CoreParcel::take(token).map_err(raise)?;
    Ok(PyBytes::new(py, parcel.body()))
}

/// Ask this process's zygote for a child; None when there is no living zygote.
#[pyfunction]
pub fn zygote_request(py: Python<'_>, token: u64, fds: Vec<RawFd>) -> PyResult<Option<Child>> {
    let fds = fds.into_iter().map(borrowed).collect::<PyResult<Vec<_>>>()?;
    let Some(Some(pending)) = wait(py, || zygote::request(token, &fds))? else {
        return Ok(None);
    };
    let child = wait(py, || pending.wait(procession_core::Deadline::Never))?.flatten();
    Ok(child.map(Child::new))
}

/// Start a zygote: `launch(server_fd)` must return its `Child`.
#[pyfunction]
pub fn zygote_start(launch: &Bound<'_, PyAny>) -> PyResult<()> {
    zygote::start(|fd| {
        let launched = launch.call1((fd,))?;
        let child = launched.cast::<Child>().map_err(PyErr::from)?;
        Ok::<_, Raised>(child.get().pid)
    })
    .map_err(|raised| raised.0)
}

/// The descriptor of the channel to the zygote, and its pid.
#[pyfunction]
pub fn zygote_channel() -> Option<(RawFd, i32)> {
    zygote::channel()
}

/// Use a channel that a parent passed on; takes the descriptor over.
#[pyfunction]
pub fn attach_zygote(fd: RawFd, pid: i32) -> PyResult<()> {
    zygote::attach(owned(fd)?, pid).map_err(raise)
}

/// The pid of the zygote that the next request would go to.
#[pyfunction]
pub fn zygote_pid() -> Option<i32> {
    zygote::pid()
}

/// Give the channel to the zygote up.
#[pyfunction]
pub fn zygote_stop() {
    zygote::forget();
}

/// The zygote's side.
#[pyclass(frozen, module = "procession._procession")]
pub struct ZygoteServer {
    server: Mutex<Option<Server>>,
}

#[pymethods]
impl ZygoteServer {
    #[new]
    fn new(server_fd: RawFd) -> PyResult<Self> {
        let server = Server::new(owned(server_fd)?).map_err(raise)?;
        Ok(Self {
            server: Mutex::new(Some(server)),
        })
    }

    /// Wait for the next request; None: leave.
    fn next(this: &Bound<'_, Self>) -> PyResult<Option<ZygoteRequest>> {
        let server = &this.get().server;
        let event = wait(this.py(), || match &mut *lock(server) {
            Some(server) => server.next(),
            None => Ok(Event::Quit),
        })?;
        let Some(Event::Fork(request)) = event else {
            return Ok(None);
        };
        Ok(Some(ZygoteRequest::new(request, this.clone().unbind())))
    }

    /// A place for a spare child; None while there is one.
    fn seat(this: &Bound<'_, Self>) -> PyResult<Option<ZygoteSeat>> {
        let seat = match &*lock(&this.get().server) {
            Some(server) => server.seat().map_err(raise)?,
            None => None,
        };
        Ok(seat.map(|seat| ZygoteSeat {
            seat: Mutex::new(Some(seat)),
            server: this.clone().unbind(),
        }))
    }
}

/// A place for a child that is forked before anybody asks for it.
#[pyclass(frozen, module = "procession._procession")]
pub struct ZygoteSeat {
    seat: Mutex<Option<Seat>>,
    server: Py<ZygoteServer>,
}

impl ZygoteSeat {
    fn take(&self) -> PyResult<Seat> {
        lock(&self.seat)
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("this seat was taken already"))
    }
}

#[pymethods]
impl ZygoteSeat {
    /// In the zygote: the spare child exists.
    fn taken(&self, pid: i32) -> PyResult<()> {
        let seat = self.take()?;
        if let Some(server) = &mut *lock(&self.server.get().server) {
            seat.taken(server, pid);
        }
        Ok(())
    }

    /// In the child: wait for a request. None: leave.
    fn wait(&self, py: Python<'_>) -> PyResult<Option<ZygoteRequest>> {
        let seat = self.take()?;
        let request = py.detach(|| seat.wait()).map_err(raise)?;
        Ok(request.map(|request| ZygoteRequest::new(request, self.server.clone_ref(py))))
    }
}

/// A request to fork.
#[pyclass(frozen, module = "procession._procession")]
pub struct ZygoteRequest {
    /// The parcel with what the child is to do.
    #[pyo3(get)]
    token: u64,
    /// The process that asks.
    #[pyo3(get)]
    parent_pid: i32,
    /// The descriptors for the child.
    #[pyo3(get)]
    fds: Vec<RawFd>,
    request: Mutex<Option<Request>>,
    server: Py<ZygoteServer>,
}

impl ZygoteRequest {
    fn new(request: Request, server: Py<ZygoteServer>) -> Self {
        Self {
            token: request.token,
            parent_pid: request.parent,
            fds: request.fds.iter().map(AsRawFd::as_raw_fd).collect(),
            request: Mutex::new(Some(request)),
            server,
        }
    }

    fn take(&self) -> PyResult<Request> {
        lock(&self.request)
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("this request was answered already"))
    }
}

#[pymethods]
impl ZygoteRequest {
    /// In the zygote: give the request to the spare child. False: there is none, fork.
    fn hand_over(&self) -> PyResult<bool> {
        let request = self.take()?;
        let Some(server) = &mut *lock(&self.server.get().server) else {
            return Err(PyRuntimeError::new_err("this process is no zygote"));
        };
        let kept = request.hand_over(server).err();
        let handed = kept.is_none();
        *lock(&self.request) = kept;
        Ok(handed)
    }

    /// In the zygote: the child exists.
    fn forked(&self, pid: i32) -> PyResult<()> {
        let request = self.take()?;
        if let Some(server) = &mut *lock(&self.server.get().server) {
            request.forked(server, pid);
        }
        Ok(())
    }

    /// In the zygote: the fork failed.
    fn failed(&self, errno: i32) -> PyResult<()> {
        self.take()?.failed(errno);
        roll::abandon_reserved();
        Ok(())
    }

    /// In the child, first thing. False: leave at once.
    fn in_child(&self) -> PyResult<bool> {
        let request = self.take()?;
        let Some(server) = lock(&self.server.get().server).take() else {
            return Err(PyRuntimeError::new_err("this process is no zygote's child"));
        };
        let Some(fds) = request.in_child(server).map_err(raise)? else {
            return Ok(false);
        };
        for fd in fds {
            let _: RawFd = fd.into_raw_fd(); // the program's from now on, see `fds`
        }
        Ok(true)
    }
}

/// What `launch` raised, or the engine's error.
struct Raised(PyErr);

impl From<Error> for Raised {
    fn from(error: Error) -> Self {
        Self(raise(error))
    }
}

impl From<PyErr> for Raised {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn borrowed(fd: RawFd) -> PyResult<BorrowedFd<'static>> {
    check(fd)?;
    // SAFETY: open now; that it stays so while we use it is the Python caller's business, as with every descriptor number.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

fn owned(fd: RawFd) -> PyResult<OwnedFd> {
    check(fd)?;
    // SAFETY: open, and the Python caller hands it over.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(fd: RawFd) -> PyResult<()> {
    // SAFETY: fails on a number that is no descriptor.
    match unsafe { libc::fcntl(fd, libc::F_GETFD) } {
        -1 => Err(std::io::Error::last_os_error().into()),
        _ => Ok(()),
    }
}
