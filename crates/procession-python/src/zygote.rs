//! Bindings of the zygote, the process that forks others on request: the side that requests, and the zygote's own.
//!
//! ```text
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

use crate::birth::born;
use crate::common::{raise, wait};
use crate::process::{borrowed, lock, owned, Child};
use procession_core::process::zygote::{self, Event, Request, Seat, Server};
use procession_core::{roll, Error};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::Mutex;

/// Request a child from this process's zygote. Return None if there is no living zygote.
#[pyfunction]
pub fn zygote_request(py: Python<'_>, token: u64, fds: Vec<RawFd>) -> PyResult<Option<Child>> {
    let fds = fds.into_iter().map(borrowed).collect::<PyResult<Vec<_>>>()?;
    let Some(Some(pending)) = wait(py, || zygote::request(token, &fds))? else {
        return Ok(None);
    };
    let child = wait(py, || pending.wait(procession_core::Deadline::Never))?.flatten();
    Ok(child.map(born))
}

/// Start a zygote. `launch(server_fd)` must return its `Child`.
#[pyfunction]
pub fn zygote_start(launch: &Bound<'_, PyAny>) -> PyResult<()> {
    zygote::start(|fd| {
        let launched = launch.call1((fd,))?;
        let child = launched.cast::<Child>().map_err(PyErr::from)?;
        Ok::<_, Raised>(child.get().pid)
    })
    .map_err(|raised| raised.0)
}

/// Return the descriptor of the channel to the zygote, and the zygote's pid.
#[pyfunction]
pub fn zygote_channel() -> Option<(RawFd, i32)> {
    zygote::channel()
}

/// Use a channel that a parent passed on. Takes ownership of the descriptor.
#[pyfunction]
pub fn attach_zygote(fd: RawFd, pid: i32) -> PyResult<()> {
    zygote::attach(owned(fd)?, pid).map_err(raise)
}

/// Return the pid of the zygote that the next request would go to.
#[pyfunction]
pub fn zygote_pid() -> Option<i32> {
    zygote::pid()
}

/// Close this process's channel to the zygote.
#[pyfunction]
pub fn zygote_stop() {
    zygote::forget();
}

/// The zygote's own side.
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

    /// Wait for the next request. None: exit.
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

    /// Return a seat for a spare child; None while there is one.
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

/// A place for a child that is forked before it is requested.
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
    /// In the zygote: note that the spare child exists.
    fn taken(&self, pid: i32) -> PyResult<()> {
        let seat = self.take()?;
        if let Some(server) = &mut *lock(&self.server.get().server) {
            seat.taken(server, pid);
        }
        Ok(())
    }

    /// In the child: wait for a request. None: exit.
    fn wait(&self, py: Python<'_>) -> PyResult<Option<ZygoteRequest>> {
        let seat = self.take()?;
        let request = py.detach(|| seat.wait()).map_err(raise)?;
        Ok(request.map(|request| ZygoteRequest::new(request, self.server.clone_ref(py))))
    }
}

/// A request to fork.
#[pyclass(frozen, module = "procession._procession")]
pub struct ZygoteRequest {
    /// The parcel that tells what the child must do.
    #[pyo3(get)]
    token: u64,
    /// The process that sent the request.
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
    /// In the zygote: pass the request to the spare child. False: there is none, so fork.
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

    /// In the zygote: note that the child exists.
    fn forked(&self, pid: i32) -> PyResult<()> {
        let request = self.take()?;
        if let Some(server) = &mut *lock(&self.server.get().server) {
            request.forked(server, pid);
        }
        Ok(())
    }

    /// In the zygote: report that the fork failed.
    fn failed(&self, errno: i32) -> PyResult<()> {
        self.take()?.failed(errno);
        roll::abandon_reserved();
        Ok(())
    }

    /// In the child, before anything else. False: exit at once.
    fn in_child(&self) -> PyResult<bool> {
        let request = self.take()?;
        let Some(server) = lock(&self.server.get().server).take() else {
            return Err(PyRuntimeError::new_err("this process is no zygote's child"));
        };
        let Some(fds) = request.in_child(server).map_err(raise)? else {
            return Ok(false);
        };
        for fd in fds {
            let _: RawFd = fd.into_raw_fd(); // owned by the program from now on, see `fds`
        }
        Ok(true)
    }
}

/// The exception of `launch`, or the engine's error.
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
