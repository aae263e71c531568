//! Helpers shared by all bindings: exceptions for errors, deadlines from timeouts, waits that let Python run its signal
//! handlers.

use crate::imports::import_whole;
use once_cell::race::OnceBox;
use procession_core::sync::wait::Interruptible;
use procession_core::Death;
use procession_core::{Deadline, Error, WaitError};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A value that is made at first use and kept. Several threads, a signal handler that interrupts one, or a child forked
/// meanwhile may each make one: the first is kept. A cell that made the others wait would make them wait for Python
/// code, or for a thread that exists only in another process.
pub struct Cached<T>(OnceBox<T>);

impl<T> Cached<T> {
    pub const fn new() -> Self {
        Self(OnceBox::new())
    }

    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    #[inline]
    pub fn get_or_make<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        self.0.get_or_try_init(|| make().map(Box::new))
    }
}

impl Cached<Py<PyAny>> {
    /// Import a module's attribute, once.
    pub fn import<'py>(&self, py: Python<'py>, module: &str, name: &str) -> PyResult<&Bound<'py, PyAny>> {
        let import = || import_whole(&PyString::new(py, module))?.getattr(name);
        let found = self.get_or_make(|| PyResult::Ok(import()?.unbind()));
        Ok(found?.bind(py))
    }
}

/// An attribute's name as a Python string, made once.
macro_rules! name {
    ($py:expr, $text:literal) => {{
        static NAME: $crate::common::Cached<pyo3::Py<pyo3::types::PyString>> = $crate::common::Cached::new();
        let made = NAME.get_or_make(|| Ok(pyo3::types::PyString::intern($py, $text).unbind()));
        let Ok::<_, std::convert::Infallible>(made) = made;
        made.bind($py)
    }};
}
pub(crate) use name;

/// The exception for an error of the engine.
pub fn raise(error: Error) -> PyErr {
    match error {
        Error::Exhausted { .. } => PyMemoryError::new_err(error.to_string()),
        Error::Os { call, source } => match source.raw_os_error() {
            // OSError selects its subclass by the errno.
            Some(code) => PyOSError::new_err((code, format!("{source} (in {call})"))),
            None => PyOSError::new_err(format!("{call}: {source}")),
        },
        // The errno of the kernel when it cannot start another process.
        Error::ProcessTableFull(_) => PyOSError::new_err((libc::EAGAIN, error.to_string())),
        Error::Stale(_) | Error::Foreign(_) | Error::Inherited(_) => PyValueError::new_err(error.to_string()),
        Error::Corrupt(_) => PyRuntimeError::new_err(error.to_string()),
        Error::Sealed(_) => Python::attach(|py| of_our_own(py, "Sealed", (error.to_string(),))),
        Error::Deadlock(_) => Python::attach(|py| of_our_own(py, "DeadlockError", (error.to_string(),))),
        Error::Abandoned => Python::attach(|py| of_our_own(py, "Abandoned", (error.to_string(),))),
    }
}

/// An exception class of this package, raised.
#[cold]
fn of_our_own<'py>(py: Python<'py>, name: &str, arguments: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    let error = py
        .import("procession._errors")
        .and_then(|errors| errors.getattr(name)?.call1(arguments));
    error.map_or_else(|error| error, PyErr::from_value)
}

/// Run a wait of the engine with the interpreter's lock released; `None` when it timed out. After each interruption
/// Python's signal handlers run; if one raises, the wait ends with its exception. The wait itself must keep its
/// deadline.
pub fn wait<T: Send>(py: Python<'_>, mut wait: impl FnMut() -> Result<T, WaitError> + Send) -> PyResult<Option<T>> {
    let mut interruptible = Interruptible::default();
    loop {
        match py.detach(|| interruptible.run(&mut wait)) {
            Ok(value) => return Ok(Some(value)),
            Err(WaitError::TimedOut) => return Ok(None),
            Err(WaitError::Interrupted) => py.check_signals()?,
            Err(WaitError::OwnerDied(death)) => return Err(owner_died(py, &death)),
            Err(WaitError::Other(error)) => return Err(raise(error)),
        }
    }
}

/// `procession.OwnerDied` for a holder that died: names it and the object that it held.
#[cold]
pub fn owner_died(py: Python<'_>, death: &Death) -> PyErr {
    let text = format!("{death}; what it protects may be half changed");
    let made = death.made.as_ref().map(ToString::to_string);
    let arguments = (text, death.pid, &death.name, death.object, made, "", &death.object_name);
    of_our_own(py, "OwnerDied", arguments)
}

/// The position in `known` of the requested way to treat the death of a holder, if one is requested.
pub fn recovers(recover: Option<&str>, known: &[&str]) -> PyResult<Option<usize>> {
    let Some(recover) = recover else { return Ok(None) };
    let found = known.iter().position(|&one| one == recover).ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|one| format!("{one:?}")).collect();
        PyValueError::new_err(format!("recover is {}, not {recover:?}", known.join(" or ")))
    });
    found.map(Some)
}

/// A deadline from a timeout in seconds. `None` and values too large for the clock never expire; negative values have
/// expired.
pub fn deadline(timeout: Option<f64>) -> Deadline {
    timeout.map_or(Deadline::Never, |seconds| {
        Duration::try_from_secs_f64(seconds.max(0.0)).map_or(Deadline::Never, Deadline::after)
    })
}

/// Like [`deadline`], for a wait on a lock or another primitive. NaN is the error of the kernel's semaphores, which the
/// standard library uses.
pub fn lock_deadline(timeout: Option<f64>) -> PyResult<Deadline> {
    if timeout.is_some_and(f64::is_nan) {
        return Err(PyOSError::new_err((libc::EINVAL, "Invalid argument")));
    }
    Ok(deadline(timeout))
}

/// Like [`deadline`], where the standard library polls a descriptor. NaN is the error of the conversion to
/// milliseconds.
pub fn poll_deadline(timeout: Option<f64>) -> PyResult<Deadline> {
    if timeout.is_some_and(f64::is_nan) {
        return Err(PyValueError::new_err("cannot convert float NaN to integer"));
    }
    Ok(deadline(timeout))
}

/// The end of a wait with this timeout, where the standard library waits for a condition of threads. From Python 3.14
/// on, NaN is an error there.
#[cold]
pub fn timed_out<T>(py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<T>> {
    if timeout.is_some_and(f64::is_nan) && py.version_info() >= (3, 14) {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    Ok(None)
}

/// Lock a mutex. What a panicking thread left behind is used as it is.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
