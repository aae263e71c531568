//! Bindings of `Condition`: an engine's condition and its lock.

use super::lock::{Lock, RLock};
use super::{acquire, not_the_owner, released_too_often, Engine, ACQUIRE};
use crate::common::{lock_deadline, name, owner_died, raise, wait};
use crate::fast::FastPath;
use crate::label::Called;
use procession_core::sync::wait::{surely, Interruptible};
use procession_core::{sync, Death};
use procession_core::{Deadline, WaitError};
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use std::ffi::CStr;
use std::sync::OnceLock;

/// The lock of a condition.
enum Mutex {
    Lock(sync::Lock),
    RLock(sync::RLock),
}

impl Mutex {
    fn of(lock: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(lock) = lock.cast::<Lock>() {
            return Ok(Self::Lock(lock.get().0.get()?.clone()));
        }
        if let Ok(lock) = lock.cast::<RLock>() {
            return Ok(Self::RLock(lock.get().0.get()?.clone()));
        }
        lock.getattr(name!(lock.py(), "acquire"))?;
        Err(PyTypeError::new_err(format!(
            "a Condition needs a Lock or an RLock of this package, not an object of type {}",
            lock.get_type().name()?
        )))
    }

    fn acquire(&self, deadline: Deadline) -> Result<(), WaitError> {
        match self {
            Self::Lock(lock) => lock.acquire(deadline),
            Self::RLock(lock) => lock.acquire(deadline),
        }
    }

    fn try_free(&self) -> bool {
        match self {
            Self::Lock(lock) => lock.try_free(),
            Self::RLock(lock) => lock.try_free(),
        }
        .unwrap_or(false)
    }

    /// As [`acquire`](Self::acquire), for a `with` statement.
    fn enter(&self, deadline: Deadline) -> Result<(), WaitError> {
        match self {
            Self::Lock(lock) => lock.enter(deadline),
            Self::RLock(lock) => lock.acquire(deadline),
        }
    }

    fn try_enter(&self) -> bool {
        match self {
            Self::Lock(lock) => lock.try_enter(),
            Self::RLock(lock) => lock.try_free(),
        }
        .unwrap_or(false)
    }

    fn release(&self) -> bool {
        match self {
            Self::Lock(lock) => lock.release(),
            Self::RLock(lock) => lock.release(),
        }
    }

    fn is_mine(&self) -> bool {
        match self {
            Self::Lock(lock) => lock.is_mine(),
            Self::RLock(lock) => lock.is_mine(),
        }
    }

    /// How often the calling thread, which holds the lock, has taken it.
    fn count(&self) -> u32 {
        match self {
            Self::Lock(_) => 1,
            Self::RLock(lock) => lock.count(),
        }
    }

    /// Release the lock fully. Returns what [`restore`](Self::restore) needs to take it again: how often it was taken; of
    /// a `Lock` 2 if a `with` statement did.
    fn release_save(&self) -> u32 {
        match self {
            Self::Lock(lock) => {
                let scoped = lock.is_scoped();
                u32::from(lock.release()) + u32::from(scoped)
            }
            Self::RLock(lock) => lock.release_save(),
        }
    }

    /// Take the lock again, even from a dead holder.
    fn restore(&self, count: u32) -> Result<Option<Box<Death>>, WaitError> {
        match self {
            Self::Lock(lock) if count > 1 => lock.inherit_scoped(Deadline::Never),
            Self::Lock(lock) => lock.inherit(Deadline::Never),
            Self::RLock(lock) => lock.inherit_restore(count, Deadline::Never),
        }
    }

    /// Take the lock again, whatever happens in the meantime. Returns the first error that occurred, with the lock
    /// held.
    fn restore_surely(&self, py: Python<'_>, count: u32) -> PyResult<()> {
        let (mut happened, mut interruptible) = (Ok(()), Interruptible::default());
        loop {
            match py.detach(|| interruptible.run(|| surely(|| self.restore(count)))) {
                Ok(None) => return happened,
                Ok(Some(death)) => return happened.and_then(|()| Err(owner_died(py, &death))),
                Err(WaitError::Other(error)) => return Err(raise(error)),
                Err(_) => happened = happened.and(py.check_signals()),
            }
        }
    }
}

/// The parts of a condition, set by `_create` or `__setstate__`.
struct ConditionParts {
    lock: Py<PyAny>,
    mutex: Mutex,
}

/// A condition variable.
#[pyclass(frozen, subclass, weakref, module = "procession._procession")]
pub struct Condition {
    engine: Engine<sync::Condition>,
    parts: OnceLock<ConditionParts>,
}

impl Condition {
    fn set_lock(&self, lock: &Bound<'_, PyAny>) -> PyResult<()> {
        let mutex = Mutex::of(lock)?;
        let lock = lock.clone().unbind();
        // If they were set already, `engine` reports the error.
        let _ = self.parts.set(ConditionParts { lock, mutex });
        Ok(())
    }

    fn parts(&self) -> PyResult<&ConditionParts> {
        self.parts
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("Condition.__init__() was not called"))
    }

    fn mine(&self, otherwise: &'static str) -> PyResult<&Mutex> {
        let mutex = &self.parts()?.mutex;
        if mutex.is_mine() {
            Ok(mutex)
        } else {
            Err(PyAssertionError::new_err(otherwise))
        }
    }
}

#[pymethods]
impl Condition {
    /// The lock may be of a class with arbitrary attributes. A cycle is broken there.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.parts.get().map_or(Ok(()), |parts| visit.call(&parts.lock))
    }

    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            engine: Engine::none(),
            parts: OnceLock::new(),
        }
    }

    #[pyo3(signature = (lock, name=None))]
    fn _create(&self, lock: &Bound<'_, PyAny>, name: Option<&Bound<'_, PyString>>) -> PyResult<()> {
        self.set_lock(lock)?;
        let called = Called::here(lock.py(), name);
        self.engine.set(sync::Condition::labelled(called.label()))
    }

    fn _name(&self) -> PyResult<Option<String>> {
        Ok(self.engine.get()?.name())
    }

    #[getter(_lock)]
    fn lock(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.parts()?.lock.clone_ref(py))
    }

    /// Wait until notified or until a timeout occurs.
    ///
    /// Release the lock, wait for a notification for at most `timeout` seconds (None: no limit), and take the lock
    /// again. Return True if notified, False on timeout.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let mutex = self.mine("must acquire() condition before using wait()")?;
        let deadline = lock_deadline(timeout)?;
        let mut waiter = self.engine.get()?.enqueue().map_err(raise)?;
        let count = mutex.release_save();
        let notified = wait(py, || waiter.wait(deadline));
        // If a signal handler raised, a notification that arrived in the meantime goes to the next waiter.
        drop(waiter);
        let restored = mutex.restore_surely(py, count);
        let notified = notified?;
        restored?;
        Ok(notified.is_some())
    }

    /// Wait like `wait`, but by the lock's methods `release` and `acquire`, which a subclass may override.
    #[pyo3(signature = (timeout=None))]
    fn _wait_by_methods(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let mutex = self.mine("must acquire() condition before using wait()")?;
        let deadline = lock_deadline(timeout)?;
        let lock = self.parts()?.lock.bind(py);
        let mut waiter = self.engine.get()?.enqueue().map_err(raise)?;
        let count = mutex.count();
        for _ in 0..count {
            lock.call_method0(name!(py, "release"))?;
        }
        let notified = wait(py, || waiter.wait(deadline));
        drop(waiter);
        for _ in 0..count {
            surely(|| lock.call_method0(name!(py, "acquire")))?;
        }
        Ok(notified?.is_some())
    }

    /// Wake the `n` waiters that have waited longest. The calling thread must hold the lock.
    #[pyo3(signature = (n=1))]
    fn notify(&self, n: i128) -> PyResult<()> {
        self.mine("lock is not owned")?;
        let condition = self.engine.get()?;
        match u32::try_from(n.max(0)) {
            Ok(n) => condition.notify(n),
            Err(_) => condition.notify_all(),
        }
        .map_err(raise)
    }

    /// Wake all waiters. The calling thread must hold the lock.
    fn notify_all(&self) -> PyResult<()> {
        self.mine("lock is not owned")?;
        self.engine.get()?.notify_all().map_err(raise)
    }

    fn _waiting(&self) -> PyResult<usize> {
        self.engine.get()?.waiting().map_err(raise)
    }

    fn __getstate__(&self, py: Python<'_>) -> PyResult<((u128, u64), Py<PyAny>)> {
        Ok((self.engine.state()?, self.lock(py)?))
    }

    fn __setstate__(&self, state: ((u128, u64), Bound<'_, PyAny>)) -> PyResult<()> {
        self.set_lock(&state.1)?;
        self.engine.restore(state.0)
    }
}

impl FastPath for Condition {
    const ACQUIRE: &'static CStr = ACQUIRE;
    const RELEASE: &'static CStr = c"release($self, /)\n--\n\nRelease the lock.";

    #[inline]
    fn try_take(&self) -> bool {
        self.parts.get().is_some_and(|parts| parts.mutex.try_free())
    }

    fn take(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let mutex = &self.parts()?.mutex;
        acquire(py, block, timeout, |deadline| mutex.acquire(deadline))
    }

    #[inline]
    fn try_enter(&self) -> bool {
        self.parts.get().is_some_and(|parts| parts.mutex.try_enter())
    }

    fn enter(&self, py: Python<'_>) -> PyResult<bool> {
        let mutex = &self.parts()?.mutex;
        acquire(py, true, None, |deadline| mutex.enter(deadline))
    }

    #[inline]
    fn give(&self) -> bool {
        self.parts.get().is_some_and(|parts| parts.mutex.release())
    }

    fn release_error(&self) -> PyErr {
        match self.parts() {
            Ok(ConditionParts {
                mutex: Mutex::RLock(_), ..
            }) => not_the_owner(),
            Ok(_) => released_too_often(),
            Err(error) => error,
        }
    }
}
