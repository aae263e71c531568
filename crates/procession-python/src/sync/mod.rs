//! Bindings of `Lock`, `RLock`, `Semaphore`, `Condition`, `Event` and `Barrier`.
//!
//! Each call is first tried with the interpreter's lock held, which is released only to wait. `acquire`, `release` and
//! the `with` statement come from `fast`. The classes of `procession.synchronize` inherit them unchanged, because a
//! method written in Python costs more than a lock does.

use crate::common::{lock_deadline, owner_died, raise, wait};
use crate::fast;
use crate::payload;
use procession_core::ids::Handle;
use procession_core::{family, sync, Deadline, Error, WaitError};
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::ffi::CStr;
use std::sync::OnceLock;

/// An engine object that is sent to other processes as a handle.
trait Shared: Sized {
    const NAME: &'static str;
    fn attach(handle: Handle) -> procession_core::Result<Self>;
    fn handle(&self) -> Handle;
}

macro_rules! shared {
    ($($class:ident)*) => {$(
        impl Shared for sync::$class {
            const NAME: &'static str = stringify!($class);
            fn attach(handle: Handle) -> procession_core::Result<Self> {
                Self::attach(handle)
            }
            fn handle(&self) -> Handle {
                self.handle()
            }
        }
    )*};
}
shared!(Lock RLock Semaphore Condition Event Barrier);

/// Defines a Python class around one engine object. It is created empty, filled by its `_create` or by `__setstate__`,
/// and pickled as a handle.
macro_rules! shared_class {
    ($(#[$doc:meta])* $class:ident { $($methods:tt)* }) => {
        $(#[$doc])*
        #[pyo3::pyclass(frozen, subclass, weakref, module = "procession._procession")]
        pub struct $class(pub(super) super::Engine<procession_core::sync::$class>);

        #[pyo3::pymethods]
        impl $class {
            #[new]
            #[pyo3(signature = (*_args, **_kwargs))]
            fn new(
                _args: &pyo3::Bound<'_, pyo3::types::PyTuple>,
                _kwargs: Option<&pyo3::Bound<'_, pyo3::types::PyDict>>,
            ) -> Self {
                Self(super::Engine::none())
            }

            fn _name(&self) -> pyo3::PyResult<Option<String>> {
                Ok(self.0.get()?.name())
            }

            fn __getstate__(&self) -> pyo3::PyResult<(u128, u64)> {
                self.0.state()
            }

            fn __setstate__(&self, state: (u128, u64)) -> pyo3::PyResult<()> {
                self.0.restore(state)
            }

            $($methods)*
        }
    };
}

/// Implements what `fast` needs for a class around one engine object that is acquired and released: by which methods it
/// is acquired, and by which at the beginning of a `with` statement, if those are others.
macro_rules! fast_path {
    ($class:ident, $attempt:ident, $release:literal, $give:path, $release_error:path) => {
        fast_path!(
            $class,
            $attempt,
            acquire,
            $attempt,
            acquire,
            $release,
            $give,
            $release_error
        );
    };
    ($class:ident, $attempt:ident, $acquire:ident, $try_enter:ident, $enter:ident, $release:literal, $give:path, $release_error:path) => {
        impl crate::fast::FastPath for $class {
            const ACQUIRE: &'static std::ffi::CStr = super::ACQUIRE;
            const RELEASE: &'static std::ffi::CStr = $release;

            #[inline]
            fn try_take(&self) -> bool {
                self.0
                     .0
                    .get()
                    .is_some_and(|inner| inner.$attempt().unwrap_or(false))
            }

            fn take(&self, py: pyo3::Python<'_>, block: bool, timeout: Option<f64>) -> pyo3::PyResult<bool> {
                let inner = self.0.get()?;
                super::acquire(py, block, timeout, |deadline| inner.$acquire(deadline))
            }

            #[inline]
            fn try_enter(&self) -> bool {
                self.0
                     .0
                    .get()
                    .is_some_and(|inner| inner.$try_enter().unwrap_or(false))
            }

            fn enter(&self, py: pyo3::Python<'_>) -> pyo3::PyResult<bool> {
                let inner = self.0.get()?;
                super::acquire(py, true, None, |deadline| inner.$enter(deadline))
            }

            #[inline]
            fn give(&self) -> bool {
                self.0 .0.get().is_some_and($give)
            }

            fn release_error(&self) -> pyo3::PyErr {
                self.0.get().map_or_else(|error| error, |_| $release_error())
            }
        }
    };
}

mod barrier;
mod condition;
mod event;
mod lock;
mod semaphore;

pub use barrier::Barrier;
pub use condition::Condition;
pub use event::Event;
pub use lock::{Lock, RLock};
pub use semaphore::Semaphore;

/// The engine object of a Python object: created by `_create`, or attached by `__setstate__`.
struct Engine<T>(OnceLock<T>);

impl<T: Shared> Engine<T> {
    fn none() -> Self {
        Self(OnceLock::new())
    }

    #[inline]
    fn get(&self) -> PyResult<&T> {
        self.0
            .get()
            .ok_or_else(|| PyRuntimeError::new_err(format!("{}.__init__() was not called", T::NAME)))
    }

    fn set(&self, made: procession_core::Result<T>) -> PyResult<()> {
        self.0
            .set(made.map_err(raise)?)
            .map_err(|_| PyRuntimeError::new_err(format!("the {} exists already", T::NAME)))
    }

    /// The pickled state: family and handle. The message being made keeps the object alive.
    fn state(&self) -> PyResult<(u128, u64)> {
        let handle = self.get()?.handle();
        payload::attach_handle(handle);
        Ok((family().map_err(raise)?.id(), handle.to_bits()))
    }

    fn restore(&self, (id, bits): (u128, u64)) -> PyResult<()> {
        if id != family().map_err(raise)?.id() {
            return Err(raise(Error::Foreign(T::NAME)));
        }
        let handle = Handle::from_bits(bits).ok_or_else(|| raise(Error::Stale(T::NAME)))?;
        self.set(T::attach(handle))
    }
}

/// `acquire` of every class that has it.
#[inline]
pub fn acquire(
    py: Python<'_>,
    block: bool,
    timeout: Option<f64>,
    take: impl Fn(Deadline) -> Result<(), WaitError> + Sync,
) -> PyResult<bool> {
    match take(Deadline::Now) {
        Ok(()) => return Ok(true),
        Err(WaitError::TimedOut | WaitError::Interrupted) => {}
        Err(WaitError::OwnerDied(death)) => return Err(owner_died(py, &death)),
        Err(WaitError::Other(error)) => return Err(raise(error)),
    }
    if !block {
        return Ok(false);
    }
    let deadline = lock_deadline(timeout)?;
    Ok(wait(py, || take(deadline))?.is_some())
}

#[cold]
pub fn released_too_often() -> PyErr {
    PyValueError::new_err("semaphore or lock released too many times")
}

#[cold]
fn not_the_owner() -> PyErr {
    PyAssertionError::new_err("attempt to release recursive lock not owned by thread")
}

const ACQUIRE: &CStr = c"acquire($self, /, block=True, timeout=None)\n--\n\nAcquire it; if `block`, wait for it for at most `timeout` seconds (None: no limit). Return True if acquired.";

/// Put the C methods into the classes.
pub fn install(py: Python<'_>) -> PyResult<()> {
    fast::install::<Lock>(py)?;
    fast::install::<RLock>(py)?;
    fast::install::<Semaphore>(py)?;
    fast::install::<Condition>(py)
}
