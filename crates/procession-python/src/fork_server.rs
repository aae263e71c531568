//! Bindings of the fork server, the process that forks others on request: the client side and the server side.

use crate::birth::born;
use crate::common::{lock, raise, wait};
use crate::process::{borrowed, owned, Child};
use procession_core::process::fork_server::{self, Request, Server, ServerCommand, SpareSlot as CoreSpareSlot};
use procession_core::{liveness, Error};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::Mutex;
use std::time::Duration;

/// Request a child from this process's fork server. Return None if there is no living fork server.
#[pyfunction]
pub fn fork_server_request(py: Python<'_>, token: u64, fds: Vec<RawFd>) -> PyResult<Option<Child>> {
    let fds = fds.into_iter().map(borrowed).collect::<PyResult<Vec<_>>>()?;
    let Some(Some(pending)) = wait(py, || fork_server::request(token, &fds))? else {
        return Ok(None);
    };
    let child = wait(py, || pending.wait(procession_core::Deadline::Never))?.flatten();
    Ok(child.map(born))
}

/// Start a fork server. `launch(server_fd)` must return its `Child`.
#[pyfunction]
pub fn fork_server_start(launch: &Bound<'_, PyAny>) -> PyResult<()> {
    fork_server::start(|fd| {
        let launched = launch.call1((fd,))?;
        let child = launched.cast::<Child>().map_err(PyErr::from)?;
        Ok::<_, Raised>(child.get().pid)
    })
    .map_err(|raised| raised.0)
}

/// Return the descriptor of the channel to the fork server, and the fork server's pid.
#[pyfunction]
pub fn fork_server_channel() -> Option<(RawFd, i32)> {
    fork_server::channel()
}

/// Use a channel that a parent passed on. Takes ownership of the descriptor.
#[pyfunction]
pub fn attach_fork_server(fd: RawFd, pid: i32) -> PyResult<()> {
    fork_server::attach(owned(fd)?, pid).map_err(raise)
}

/// Return the pid of the fork server that the next request would go to.
#[pyfunction]
pub fn fork_server_pid() -> Option<i32> {
    fork_server::pid()
}

/// Close this process's channel to the fork server.
#[pyfunction]
pub fn fork_server_stop() {
    fork_server::forget();
}

/// The server side.
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
            None => Ok(ServerCommand::Quit),
        })?;
        let Some(ServerCommand::Fork(request)) = event else {
            return Ok(None);
        };
        Ok(Some(ForkRequest::new(request, this.clone().unbind())))
    }

    /// Return a slot for a spare child; None while there is one.
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

/// A slot for a child that is forked before it is requested.
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
    /// In the fork server: note that the spare child exists, and for how many seconds it waits for a request.
    fn taken(&self, pid: i32, seconds: f64) -> PyResult<()> {
        let waits = Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let spare_slot = self.take()?;
        if let Some(server) = &mut *lock(&self.server.get().server) {
            spare_slot.taken(server, pid, waits);
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
    /// The token of the mailbox with the child's instructions.
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
    /// In the fork server: pass the request to the spare child. False: there is none, so fork.
    fn hand_over(&self) -> PyResult<bool> {
        let request = self.take()?;
        let Some(server) = &mut *lock(&self.server.get().server) else {
            return Err(PyRuntimeError::new_err("this process is no fork server"));
        };
        let kept = request.hand_over(server).err();
        let passed = kept.is_none();
        *lock(&self.request) = kept;
        Ok(passed)
    }

    /// In the fork server: note that the child exists.
    fn forked(&self, pid: i32) -> PyResult<()> {
        let request = self.take()?;
        if let Some(server) = &mut *lock(&self.server.get().server) {
            request.forked(server, pid);
        }
        Ok(())
    }

    /// In the fork server: report that the fork failed.
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
