//! `Lock`, `RLock`, `Semaphore`, `Condition`, `Event` and `Barrier` for Python.
//!
//! Each call is tried once with the interpreter held, and gives it up only to wait. `acquire`, `release` and the `with` statement come from
//! `fast`; the classes of `procession.synchronize` inherit them as they are, because a method written in Python costs more than a lock does.

use crate::common::{deadline, owner_died, raise, wait};
use crate::fast::{self, Takes};
use crate::payload;
use procession_core::arena::Handle;
use procession_core::roll::{self, Owner};
use procession_core::sync::{self, Arrival, BarrierError, SEM_VALUE_MAX};
use procession_core::{family, Deadline, Error, WaitError};
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::ffi::CStr;
use std::sync::OnceLock;

/// An engine object that travels by its handle.
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

/// A Python object's engine object: made by `_create`, or found again by `__setstate__`.
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

    /// What is pickled: the family and the handle. The message being made keeps the object alive.
    fn state(&self) -> PyResult<(u128, u64)> {
        let handle = self.get()?.handle();
        payload::travelling(handle);
        Ok((family().map_err(raise)?.id(), handle.to_bits()))
    }

    fn restore(&self, (id, bits): (u128, u64)) -> PyResult<()> {
        if id != family().map_err(raise)?.id() {
            // A RuntimeError, as the standard library's when a lock is pickled where it cannot go.
            return Err(PyRuntimeError::new_err(Error::Foreign(T::NAME).to_string()));
        }
        let stale = || PyRuntimeError::new_err(Error::Stale(T::NAME).to_string());
        let handle = Handle::from_bits(bits).ok_or_else(stale)?;
        match T::attach(handle) {
            Err(Error::Stale(_)) => Err(stale()),
            made => self.set(made),
        }
    }
}

/// `acquire` of everything that has it.
#[inline]
fn acquire(
    py: Python<'_>,
    block: bool,
    timeout: Option<f64>,
    take: impl Fn(Deadline) -> Result<(), WaitError> + Sync,
) -> PyResult<bool> {
    match take(Deadline::Now) {
        Ok(()) => return Ok(true),
        Err(WaitError::TimedOut | WaitError::Interrupted) => {}
        Err(WaitError::OwnerDied(owner)) => return Err(owner_died(py, owner)),
        Err(WaitError::Other(error)) => return Err(raise(error)),
    }
    if !block {
        return Ok(false);
    }
    let deadline = deadline(timeout);
    Ok(wait(py, || take(deadline))?.is_some())
}

#[cold]
fn released_too_often() -> PyErr {
    PyValueError::new_err("semaphore or lock released too many times")
}

#[cold]
fn not_the_owner() -> PyErr {
    PyAssertionError::new_err("attempt to release recursive lock not owned by thread")
}

const ACQUIRE: &CStr = c"acquire($self, /, block=True, timeout=None)\n--\n\nTake it, waiting for it if `block`, for at most `timeout` seconds (None: for ever). Says whether it was taken.";

impl Takes for Lock {
    const ACQUIRE: &'static CStr = ACQUIRE;
    const RELEASE: &'static CStr = c"release($self, /)\n--\n\nGive the lock back. ValueError if nobody holds it.";

    #[inline]
    fn try_take(&self) -> bool {
        self.0 .0.get().is_some_and(|lock| lock.try_acquire().unwrap_or(false))
    }

    fn take(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let lock = self.0.get()?;
        acquire(py, block, timeout, |deadline| lock.acquire(deadline))
    }

    #[inline]
    fn give(&self) -> bool {
        self.0 .0.get().is_some_and(sync::Lock::release)
    }

    fn not_given(&self) -> PyErr {
        self.0.get().map_or_else(|error| error, |_| released_too_often())
    }
}

impl Takes for RLock {
    const ACQUIRE: &'static CStr = ACQUIRE;
    const RELEASE: &'static CStr =
        c"release($self, /)\n--\n\nRelease it once. AssertionError if the calling thread does not hold it.";

    #[inline]
    fn try_take(&self) -> bool {
        self.0 .0.get().is_some_and(|lock| lock.try_acquire().unwrap_or(false))
    }

    fn take(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let lock = self.0.get()?;
        acquire(py, block, timeout, |deadline| lock.acquire(deadline))
    }

    #[inline]
    fn give(&self) -> bool {
        self.0 .0.get().is_some_and(sync::RLock::release)
    }

    fn not_given(&self) -> PyErr {
        self.0.get().map_or_else(|error| error, |_| not_the_owner())
    }
}

impl Takes for Semaphore {
    const ACQUIRE: &'static CStr = ACQUIRE;
    const RELEASE: &'static CStr =
        c"release($self, /)\n--\n\nGive one. ValueError if the value is at its greatest already.";

    #[inline]
    fn try_take(&self) -> bool {
        self.0 .0.get().is_some_and(sync::Semaphore::try_acquire)
    }

    fn take(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let semaphore = self.0.get()?;
        acquire(py, block, timeout, |deadline| semaphore.acquire(deadline))
    }

    #[inline]
    fn give(&self) -> bool {
        self.0 .0.get().is_some_and(sync::Semaphore::release)
    }

    fn not_given(&self) -> PyErr {
        self.0.get().map_or_else(|error| error, |_| released_too_often())
    }
}

impl Takes for Condition {
    const ACQUIRE: &'static CStr = ACQUIRE;
    const RELEASE: &'static CStr = c"release($self, /)\n--\n\nRelease the lock.";

    #[inline]
    fn try_take(&self) -> bool {
        self.parts.get().is_some_and(|parts| parts.mutex.try_acquire())
    }

    fn take(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let mutex = &self.parts()?.mutex;
        acquire(py, block, timeout, |deadline| mutex.acquire(deadline))
    }

    #[inline]
    fn give(&self) -> bool {
        self.parts.get().is_some_and(|parts| parts.mutex.release())
    }

    fn not_given(&self) -> PyErr {
        match self.parts() {
            Ok(ConditionParts {
                mutex: Mutex::RLock(_), ..
            }) => not_the_owner(),
            Ok(_) => released_too_often(),
            Err(error) => error,
        }
    }
}

/// Put the C methods into the classes.
pub fn install(py: Python<'_>) -> PyResult<()> {
    fast::install::<Lock>(py)?;
    fast::install::<RLock>(py)?;
    fast::install::<Semaphore>(py)?;
    fast::install::<Condition>(py)
}

/// Who holds a lock, as far as `repr` says: 0 nobody, 1 this thread, 2 another thread of this process, 3 another process.
fn holder(owner: Option<Owner>, mine: bool) -> u8 {
    match owner {
        None => 0,
        Some(_) if mine => 1,
        Some(owner) if roll::me().is_ok_and(|me| me == owner) => 2,
        Some(_) => 3,
    }
}

/// A lock; any thread of any process may release it.
#[pyclass(frozen, subclass, weakref, module = "procession._procession")]
pub struct Lock(Engine<sync::Lock>);

#[pymethods]
impl Lock {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Engine::none())
    }

    fn _create(&self) -> PyResult<()> {
        self.0.set(sync::Lock::create())
    }

    /// Whether somebody holds it.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.0.get()?.owner().is_some())
    }

    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_mine())
    }

    fn _get_value(&self) -> PyResult<u32> {
        Ok(u32::from(self.0.get()?.owner().is_none()))
    }

    fn _count(&self) -> PyResult<u32> {
        Ok(u32::from(matches!(self.holder()?, 1 | 2)))
    }

    /// See [`holder`].
    #[pyo3(name = "_holder")]
    fn holder(&self) -> PyResult<u8> {
        let lock = self.0.get()?;
        Ok(holder(lock.owner(), lock.is_mine()))
    }

    fn __getstate__(&self) -> PyResult<(u128, u64)> {
        self.0.state()
    }

    fn __setstate__(&self, state: (u128, u64)) -> PyResult<()> {
        self.0.restore(state)
    }
}

/// A lock that its holder, a thread of a process, may take again; only the holder may release it.
#[pyclass(frozen, subclass, weakref, module = "procession._procession")]
pub struct RLock(Engine<sync::RLock>);

#[pymethods]
impl RLock {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Engine::none())
    }

    fn _create(&self) -> PyResult<()> {
        self.0.set(sync::RLock::create())
    }

    /// Whether somebody holds it.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.0.get()?.owner().is_some())
    }

    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_mine())
    }

    fn _get_value(&self) -> PyResult<u32> {
        Ok(u32::from(self.0.get()?.owner().is_none()))
    }

    fn _count(&self) -> PyResult<u32> {
        let held_here = matches!(self.holder()?, 1 | 2);
        Ok(if held_here { self.0.get()?.count() } else { 0 })
    }

    /// See [`holder`].
    #[pyo3(name = "_holder")]
    fn holder(&self) -> PyResult<u8> {
        let lock = self.0.get()?;
        Ok(holder(lock.owner(), lock.is_mine()))
    }

    fn __getstate__(&self) -> PyResult<(u128, u64)> {
        self.0.state()
    }

    fn __setstate__(&self, state: (u128, u64)) -> PyResult<()> {
        self.0.restore(state)
    }
}

/// A counter that waits at zero.
#[pyclass(frozen, subclass, weakref, module = "procession._procession")]
pub struct Semaphore(Engine<sync::Semaphore>);

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Engine::none())
    }

    /// Make it with this value, which it never exceeds if `bounded`.
    fn _create(&self, value: i64, bounded: bool) -> PyResult<()> {
        let value = u32::try_from(value)
            .ok()
            .filter(|&value| value <= SEM_VALUE_MAX)
            .ok_or_else(|| {
                PyValueError::new_err(format!(
                    "a semaphore's value is between 0 and {SEM_VALUE_MAX}, not {value}"
                ))
            })?;
        let bound = if bounded { value } else { SEM_VALUE_MAX };
        self.0.set(sync::Semaphore::create(value, bound))
    }

    /// The value.
    fn get_value(&self) -> PyResult<u32> {
        Ok(self.0.get()?.value())
    }

    /// Whether the value is zero.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.get_value()? == 0)
    }

    fn _get_value(&self) -> PyResult<u32> {
        self.get_value()
    }

    /// The value it never exceeds.
    #[getter]
    fn maxvalue(&self) -> PyResult<u32> {
        Ok(self.0.get()?.bound())
    }

    fn __getstate__(&self) -> PyResult<(u128, u64)> {
        self.0.state()
    }

    fn __setstate__(&self, state: (u128, u64)) -> PyResult<()> {
        self.0.restore(state)
    }
}

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
        Err(PyTypeError::new_err(format!(
            "a Condition needs a Lock or an RLock of this package, not {}",
            lock.repr()?
        )))
    }

    fn acquire(&self, deadline: Deadline) -> Result<(), WaitError> {
        match self {
            Self::Lock(lock) => lock.acquire(deadline),
            Self::RLock(lock) => lock.acquire(deadline),
        }
    }

    fn try_acquire(&self) -> bool {
        match self {
            Self::Lock(lock) => lock.try_acquire(),
            Self::RLock(lock) => lock.try_acquire(),
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

    /// Release it altogether; what [`restore`](Self::restore) needs to take it again.
    fn release_save(&self) -> u32 {
        match self {
            Self::Lock(lock) => lock.release().into(),
            Self::RLock(lock) => lock.release_save(),
        }
    }

    fn restore(&self, count: u32) -> Result<(), WaitError> {
        match self {
            Self::Lock(lock) => lock.acquire(Deadline::Never),
            Self::RLock(lock) => lock.acquire_restore(count, Deadline::Never),
        }
    }

    /// Take it again, whatever happens meanwhile: the first thing that did is returned, with the lock held.
    fn restore_surely(&self, py: Python<'_>, count: u32) -> PyResult<()> {
        let mut happened = Ok(());
        loop {
            let now = match py.detach(|| self.restore(count)) {
                Ok(()) => return happened,
                Err(WaitError::Other(error)) => return Err(raise(error)),
                Err(WaitError::OwnerDied(owner)) => Err(owner_died(py, owner)),
                Err(WaitError::Interrupted | WaitError::TimedOut) => py.check_signals(),
            };
            happened = happened.and(now);
        }
    }
}

/// What a condition is made of, once it is.
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
        // Set already: `engine` complains.
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
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            engine: Engine::none(),
            parts: OnceLock::new(),
        }
    }

    fn _create(&self, lock: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_lock(lock)?;
        self.engine.set(sync::Condition::create())
    }

    #[getter(_lock)]
    fn lock(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.parts()?.lock.clone_ref(py))
    }

    /// Release the lock, wait to be notified for at most `timeout` seconds (None: for ever) and take the lock again. Says whether it was notified.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let mutex = self.mine("must acquire() condition before using wait()")?;
        let mut waiter = self.engine.get()?.enqueue().map_err(raise)?;
        let count = mutex.release_save();
        let deadline = deadline(timeout);
        let notified = wait(py, || waiter.wait(deadline));
        // If a signal handler raised, a notification that has come meanwhile goes to the next in line.
        drop(waiter);
        let restored = mutex.restore_surely(py, count);
        let notified = notified?;
        restored?;
        Ok(notified.is_some())
    }

    /// Notify the `n` that wait longest. The calling thread must hold the lock.
    #[pyo3(signature = (n=1))]
    fn notify(&self, n: i128) -> PyResult<()> {
        self.mine("lock is not owned")?;
        let condition = self.engine.get()?;
        match u32::try_from(n.max(0)) {
            Ok(n) => condition.notify(n),
            Err(_) => condition.notify_all(),
        }
        Ok(())
    }

    /// Notify all who wait. The calling thread must hold the lock.
    fn notify_all(&self) -> PyResult<()> {
        self.mine("lock is not owned")?;
        self.engine.get()?.notify_all();
        Ok(())
    }

    fn _waiting(&self) -> PyResult<usize> {
        Ok(self.engine.get()?.waiting())
    }

    fn __getstate__(&self, py: Python<'_>) -> PyResult<((u128, u64), Py<PyAny>)> {
        Ok((self.engine.state()?, self.lock(py)?))
    }

    fn __setstate__(&self, state: ((u128, u64), Bound<'_, PyAny>)) -> PyResult<()> {
        self.set_lock(&state.1)?;
        self.engine.restore(state.0)
    }
}

/// A flag to wait for.
#[pyclass(frozen, subclass, weakref, module = "procession._procession")]
pub struct Event(Engine<sync::Event>);

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Engine::none())
    }

    fn _create(&self) -> PyResult<()> {
        self.0.set(sync::Event::create())
    }

    /// Whether it is set.
    fn is_set(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_set())
    }

    /// Set it: whoever waits goes on, even if it is cleared at once.
    fn set(&self) -> PyResult<()> {
        self.0.get()?.set();
        Ok(())
    }

    /// Clear it.
    fn clear(&self) -> PyResult<()> {
        self.0.get()?.clear();
        Ok(())
    }

    /// Wait until it is set, for at most `timeout` seconds (None: for ever). Says whether it was.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let event = self.0.get()?;
        let begun = event.begin();
        if event.is_set() {
            return Ok(true);
        }
        let deadline = deadline(timeout);
        Ok(wait(py, || event.wait(begun, deadline))?.is_some())
    }

    fn __getstate__(&self) -> PyResult<(u128, u64)> {
        self.0.state()
    }

    fn __setstate__(&self, state: (u128, u64)) -> PyResult<()> {
        self.0.restore(state)
    }
}

/// A number of parties wait until all are there.
#[pyclass(frozen, subclass, weakref, module = "procession._procession")]
pub struct Barrier(Engine<sync::Barrier>);

#[pymethods]
impl Barrier {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Engine::none())
    }

    fn _create(&self, parties: u32) -> PyResult<()> {
        self.0.set(sync::Barrier::create(parties))
    }

    /// Wait for the others, for at most `timeout` seconds (None: for ever); the last one calls `action` first. The order of arrival, from 0.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>, action: Option<Bound<'_, PyAny>>) -> PyResult<usize> {
        let barrier = self.0.get()?;
        let deadline = deadline(timeout);
        match meet(py, || barrier.arrive())? {
            Arrival::Last(last) => {
                if let Some(action) = action {
                    // If it raises, `last` is dropped, and the barrier breaks.
                    action.call0()?;
                }
                let index = last.index();
                last.release();
                Ok(index)
            }
            Arrival::Waits(mut participant) => {
                meet(py, || participant.wait(deadline))?;
                Ok(participant.index())
            }
        }
    }

    /// Break it, until it is reset.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        let barrier = self.0.get()?;
        wait(py, || barrier.abort()).map(drop)
    }

    /// Make it as new; whoever waits gets `BrokenBarrierError`.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let barrier = self.0.get()?;
        wait(py, || barrier.reset()).map(drop)
    }

    /// For how many it is.
    #[getter]
    fn parties(&self) -> PyResult<u32> {
        Ok(self.0.get()?.parties())
    }

    /// How many wait now.
    #[getter]
    fn n_waiting(&self) -> PyResult<usize> {
        Ok(self.0.get()?.waiting())
    }

    /// Whether it is broken.
    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_broken())
    }

    fn __getstate__(&self) -> PyResult<(u128, u64)> {
        self.0.state()
    }

    fn __setstate__(&self, state: (u128, u64)) -> PyResult<()> {
        self.0.restore(state)
    }
}

/// A wait at a barrier; `threading.BrokenBarrierError` if it broke.
fn meet<T: Send>(py: Python<'_>, mut attempt: impl FnMut() -> Result<T, BarrierError> + Send) -> PyResult<T> {
    let end = wait(py, || match attempt() {
        Ok(value) => Ok(Some(value)),
        Err(BarrierError::Broken) => Ok(None),
        Err(BarrierError::Wait(end)) => Err(end),
    })?;
    if let Some(Some(value)) = end {
        return Ok(value);
    }
    let class = py.import("threading")?.getattr("BrokenBarrierError")?;
    Err(PyErr::from_type(class.cast_into::<PyType>()?, ()))
}
