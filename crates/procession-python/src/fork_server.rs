//! Bindings of the fork_server, the process that forks others on request: the side that requests, and the fork_server's own.
//!
//! ```text
//! # fork_server, client side
//! def fork_server_request(token: int, fds: list[int]) -> Child | None: ...
//!         # asks this process's fork_server to fork a child for the mailbox `token`, which gets duplicates of fds (at other numbers: see
//!         # ForkRequest.fds, same order). Returns when the child exists. None: this process has no living fork_server, start one
//! def fork_server_start(launch: Callable[[int], Child]) -> None: ...
//!         # makes a socket pair, calls launch(server_fd), which must start the fork_server with it, e.g.
//!         #   spawn_exec(exe, [exe, "-c", f"... main(arena_fd={a}, server_fd={server_fd})"], [a, server_fd]);
//!         # afterwards fork_server_request() works in this process and in all children forked or made by that fork_server from now on
//! def fork_server_channel() -> tuple[int, int] | None: ...   # (descriptor, fork_server's pid): to be passed to a spawned child (pass_fds), so
//! def attach_fork_server(fd: int, pid: int) -> None: ...     # that it says this and shares the fork_server. Optional: without, it starts its own
//! def fork_server_pid() -> int | None: ...                   # of the fork_server this process would use, if it lives
//! def fork_server_stop() -> None: ...                        # forget it: it leaves once no other process and no child of it holds the channel
//!
//! # fork_server, server side (in the process launched by fork_server_start; single-threaded; ignores SIGINT by its own signal.signal)
//! class ForkServer:
//!     def __init__(self, server_fd: int) -> None: ...    # takes over the descriptor
//!     def next(self) -> ForkRequest | None: ...        # None: nobody is left, leave. Reaps children meanwhile. GIL released, handlers run
//!     def spare_slot(self) -> SpareSlot | None: ...           # a place for a child forked ahead of its request; None while one waits
//! class SpareSlot:
//!     def taken(self, pid: int) -> None: ...             # in the fork_server, after os.fork()
//!     def wait(self) -> ForkRequest | None: ...        # in the child: the request, which in_child() then enters. None: leave
//! class ForkRequest:
//!     token: int
//!     parent_pid: int                         # who asked (os.getppid() would be the fork_server)
//!     fds: list[int]                          # the descriptors passed, at their numbers here; the child owns them after in_child()
//!     def hand_over(self) -> bool: ...        # in the fork_server: the spare child takes it. False: there is none, fork
//!     def forked(self, pid: int) -> None: ... # in the fork_server, after os.fork(): tells the asker, closes fds
//!     def failed(self, errno: int) -> None: ...          # in the fork_server, when os.fork() failed: the asker gets that OSError
//!     def in_child(self) -> bool: ...         # in the child, first thing: signal mask as before the server, the server's descriptors closed,
//!                                             # the fork_server channel attached. False: nobody waits for this child any more: os._exit(0) at once
//! ```

use crate::birth::born;
use crate::common::{raise, wait};
use crate::process::{borrowed, lock, owned, Child};
use procession_core::process::fork_server::{self, Event, Request, Server, SpareSlot as CoreSpareSlot};
use procession_core::{liveness, Error};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::Mutex;

/// Request a child from this process's fork_server. Return None if there is no living fork_server.
#[pyfunction]
pub fn fork_server_request(py: Python<'_>, token: u64, fds: Vec<RawFd>) -> PyResult<Option<Child>> {
    let fds = fds.into_iter().map(borrowed).collect::<PyResult<Vec<_>>>()?;
    let Some(Some(pending)) = wait(py, || fork_server::request(token, &fds))? else {
        return Ok(None);
    };
    let child = wait(py, || pending.wait(procession_core::Deadline::Never))?.flatten();
    Ok(child.map(born))
}

/// Start a fork_server. `launch(server_fd)` must return its `Child`.
#[pyfunction]
pub fn fork_server_start(launch: &Bound<'_, PyAny>) -> PyResult<()> {
    fork_server::start(|fd| {
        let launched = launch.call1((fd,))?;
        let child = launched.cast::<Child>().map_err(PyErr::from)?;
        Ok::<_, Raised>(child.get().pid)
    })
    .map_err(|raised| raised.0)
}

/// Return the descriptor of the channel to the fork_server, and the fork_server's pid.
#[pyfunction]
pub fn fork_server_channel() -> Option<(RawFd, i32)> {
    fork_server::channel()
}

/// Use a channel that a parent passed on. FastPath ownership of the descriptor.
#[pyfunction]
pub fn attach_fork_server(fd: RawFd, pid: i32) -> PyResult<()> {
    fork_server::attach(owned(fd)?, pid).map_err(raise)
}

/// Return the pid of the fork_server that the next request would go to.
#[pyfunction]
pub fn fork_server_pid() -> Option<i32> {
    fork_server::pid()
}

/// Close this process's channel to the fork_server.
#[pyfunction]
pub fn fork_server_stop() {
    fork_server::forget();
}

/// The fork_server's own side.
#[pyclass(frozen, module = "procession._procession")]
pub struct ForkServer {
    server: Mutex<Option<Server>>,
}

#[pymethods]
impl ForkServer {
    #[new]
    fn new(server_fd: RawFd) -> PyResult<Self> {
        let server = Server::new(owned(server_fd)?).map_err(raise)?;
        Ok(Self {
            server: Mutex::new(Some(server)),
        })
    }

    /// Wait for the next request. None: exit.
    fn next(this: &Bound<'_, Self>) -> PyResult<Option<ForkRequest>> {
        let server = &this.get().server;
        let event = wait(this.py(), || match &mut *lock(server) {
            Some(server) => server.next(),
            None => Ok(Event::Quit),
        })?;
        let Some(Event::Fork(request)) = event else {
            return Ok(None);
        };
        Ok(Some(ForkRequest::new(request, this.clone().unbind())))
    }

    /// Return a spare_slot for a spare child; None while there is one.
    fn spare_slot(this: &Bound<'_, Self>) -> PyResult<Option<SpareSlot>> {
        let spare_slot = match &*lock(&this.get().server) {
            Some(server) => server.spare_slot().map_err(raise)?,
            None => None,
        };
        Ok(spare_slot.map(|spare_slot| SpareSlot {
            spare_slot: Mutex::new(Some(spare_slot)),
            server: this.clone().unbind(),
        }))
    }
}

/// A place for a child that is forked before it is requested.
#[pyclass(frozen, module = "procession._procession")]
pub struct SpareSlot {
    spare_slot: Mutex<Option<CoreSpareSlot>>,
    server: Py<ForkServer>,
}

impl SpareSlot {
    fn take(&self) -> PyResult<CoreSpareSlot> {
        lock(&self.spare_slot)
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("this slot for a spare child was used already"))
    }
}

#[pymethods]
impl SpareSlot {
    /// In the fork_server: note that the spare child exists.
    fn taken(&self, pid: i32) -> PyResult<()> {
        let spare_slot = self.take()?;
        if let Some(server) = &mut *lock(&self.server.get().server) {
            spare_slot.taken(server, pid);
        }
        Ok(())
    }

    /// In the child: wait for a request. None: exit.
    fn wait(&self, py: Python<'_>) -> PyResult<Option<ForkRequest>> {
        let spare_slot = self.take()?;
        let request = py.detach(|| spare_slot.wait()).map_err(raise)?;
        Ok(request.map(|request| ForkRequest::new(request, self.server.clone_ref(py))))
    }
}

/// A request to fork.
#[pyclass(frozen, module = "procession._procession")]
pub struct ForkRequest {
    /// The mailbox that tells what the child must do.
    #[pyo3(get)]
    token: u64,
    /// The process that sent the request.
    #[pyo3(get)]
    parent_pid: i32,
    /// The descriptors for the child.
    #[pyo3(get)]
    fds: Vec<RawFd>,
    request: Mutex<Option<Request>>,
    server: Py<ForkServer>,
}

impl ForkRequest {
    fn new(request: Request, server: Py<ForkServer>) -> Self {
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
impl ForkRequest {
    /// In the fork_server: pass the request to the spare child. False: there is none, so fork.
    fn hand_over(&self) -> PyResult<bool> {
        let request = self.take()?;
        let Some(server) = &mut *lock(&self.server.get().server) else {
            return Err(PyRuntimeError::new_err("this process is no fork server"));
        };
        let kept = request.hand_over(server).err();
        let handed = kept.is_none();
        *lock(&self.request) = kept;
        Ok(handed)
    }

    /// In the fork_server: note that the child exists.
    fn forked(&self, pid: i32) -> PyResult<()> {
        let request = self.take()?;
        if let Some(server) = &mut *lock(&self.server.get().server) {
            request.forked(server, pid);
        }
        Ok(())
    }

    /// In the fork_server: report that the fork failed.
    fn failed(&self, errno: i32) -> PyResult<()> {
        self.take()?.failed(errno);
        liveness::abandon_reserved();
        Ok(())
    }

    /// In the child, before anything else. False: exit at once.
    fn in_child(&self) -> PyResult<bool> {
        let request = self.take()?;
        let Some(server) = lock(&self.server.get().server).take() else {
            return Err(PyRuntimeError::new_err("this process is no child of a fork server"));
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
