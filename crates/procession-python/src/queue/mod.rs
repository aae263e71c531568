//! Bindings of the queue. The public classes in `procession.queues` choose which of its methods they show, and under
//! which names.

mod leftovers;
mod many;

use crate::common::{lock_deadline, name, poll_deadline, raise, wait, Cached};
use crate::label::Called;
use crate::payload;
use leftovers::{Leftover, Leftovers};
use procession_core::arena::Ref;
use procession_core::channel::{self, Message, Queue as Engine, Readiness};
use procession_core::ids::Handle;
use procession_core::{family, Deadline, Error, WaitError};
use pyo3::exceptions::{PyException, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple, PyType};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The standard library's value for "no limit".
const SEM_VALUE_MAX: u64 = i32::MAX as u64;

/// A queue of Python objects between the processes of a family. Empty until `_create` or `__setstate__` is called.
#[pyclass(frozen, subclass, weakref, module = "procession._procession", name = "Queue")]
pub struct Queue {
    engine: OnceLock<Ref<Engine>>,
    /// Whether `close` was called in this process.
    closed: AtomicBool,
    /// Whether `put` was called in this process.
    used: AtomicBool,
    /// Whether a descriptor was requested in this process.
    polled: AtomicBool,
    ready: Mutex<Option<Readiness>>,
    leftovers: Leftovers,
}

impl Queue {
    fn ready(&self) -> MutexGuard<'_, Option<Readiness>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Make the descriptor, if this process has requested one, agree with the queue. Called after each attempt to get
    /// an item.
    fn update_readiness(&self) {
        if self.polled.load(Relaxed) {
            if let Some(readiness) = &*self.ready() {
                readiness.resolve_or(|| self.leftovers.any());
            }
        }
    }

    /// Take the oldest leftover.
    fn pop_leftover(&self, py: Python<'_>) -> Option<Leftover> {
        let leftover = self.leftovers.pop(py)?;
        self.update_readiness();
        Some(leftover)
    }

    /// Tell threads that wait already, and the descriptor, about new leftovers.
    fn announce_leftovers(&self, engine: &Engine) {
        if self.leftovers.any() {
            engine.wake_consumers();
            self.update_readiness();
        }
    }

    /// Wait for an item of the queue or a leftover. `None` if there is none in time.
    fn wait_for_one(&self, py: Python<'_>, engine: &Engine, deadline: Deadline) -> PyResult<Option<Leftover>> {
        loop {
            if let Some(leftover) = self.pop_leftover(py) {
                return Ok(Some(leftover));
            }
            let over = || self.leftovers.any();
            let got = wait(py, || match engine.get_or(deadline, over) {
                Err(WaitError::Interrupted) if over() => Ok(None),
                got => got.map(Some),
            });
            match got? {
                Some(Some(message)) => return Ok(Some(Leftover::Message(message))),
                Some(None) => {}
                None => return Ok(None),
            }
        }
    }

    /// Raise the error of a closed end of a pipe, if this process has closed the queue.
    fn check_handle(&self) -> PyResult<()> {
        if self.closed.load(Relaxed) {
            return Err(PyOSError::new_err("handle is closed"));
        }
        Ok(())
    }

    fn engine(&self) -> PyResult<&Ref<Engine>> {
        self.engine
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("Queue.__init__() was not called"))
    }

    /// The engine's queue, unless this process has closed it.
    fn open<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a Ref<Engine>> {
        let this = slf.get();
        if this.closed.load(Relaxed) {
            return Err(PyValueError::new_err(format!("Queue {} is closed", slf.repr()?)));
        }
        this.engine()
    }

    /// Pickle an item into a message. `None` if that failed and the class has handled the error.
    fn pack(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<Option<Message>> {
        let py = slf.py();
        slf.get().used.store(true, Relaxed);
        match payload::dumps(obj) {
            Ok(pickled) => pickled.pack().map(Some),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                slf.call_method1(name!(py, "_put_failed"), (error.value(py), obj))?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn set(&self, engine: Ref<Engine>) -> PyResult<()> {
        self.engine
            .set(engine)
            .map_err(|_| PyRuntimeError::new_err("the queue exists already"))
    }
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self {
            engine: OnceLock::new(),
            closed: AtomicBool::new(false),
            used: AtomicBool::new(false),
            polled: AtomicBool::new(false),
            ready: Mutex::new(None),
            leftovers: Leftovers::default(),
        }
    }

    /// Create the queue; 0 = no limit. `used`: `empty` fails after `close`, even if nothing was put.
    #[pyo3(signature = (maxsize, used=false, name=None))]
    fn _create(&self, py: Python<'_>, maxsize: u64, used: bool, name: Option<&Bound<'_, PyString>>) -> PyResult<()> {
        self.used.store(used, Relaxed);
        let called = Called::here(py, name);
        self.set(Engine::labelled(maxsize, called.label()).map_err(raise)?)
    }

    fn _name(&self) -> PyResult<Option<String>> {
        Ok(self.engine()?.name())
    }

    /// Put obj into the queue.
    ///
    /// If block is true, wait for room for at most `timeout` seconds (None: no limit). Raise `Full` if there is no
    /// room.
    #[pyo3(signature = (obj, block=None, timeout=None), text_signature = "($self, obj, block=True, timeout=None)")]
    fn put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let py = slf.py();
        let engine = Self::open(slf)?;
        let mut message = Self::pack(slf, obj)?;
        match engine.put(&mut message, Deadline::Now) {
            Err(WaitError::TimedOut | WaitError::Interrupted) => {}
            result => return result.map_err(failed),
        }
        if is_true(block)? {
            let deadline = lock_deadline(timeout)?;
            if wait(py, || engine.put(&mut message, deadline))?.is_some() {
                return Ok(());
            }
        }
        Err(exception(py, "Full")?)
    }

    /// Remove and return the oldest item.
    ///
    /// If block is true, wait for one for at most `timeout` seconds (None: no limit). Raise `Empty` if there is none.
    #[pyo3(signature = (block=None, timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let engine = Self::open(slf)?;
        if timeout.is_some_and(f64::is_nan) && is_true(block)? {
            poll_deadline(timeout)?;
        }
        if let Some(leftover) = slf.get().pop_leftover(py) {
            return leftover.load(py);
        }
        let got = match engine.get(Deadline::Now) {
            Ok(incoming) => Some(Leftover::Message(incoming)),
            Err(WaitError::TimedOut | WaitError::Interrupted) if is_true(block)? => {
                slf.get().wait_for_one(py, engine, poll_deadline(timeout)?)?
            }
            Err(WaitError::TimedOut | WaitError::Interrupted) => None,
            Err(error) => return Err(failed(error)),
        };
        slf.get().update_readiness();
        match got {
            Some(got) => got.load(py),
            None => Err(exception(py, "Empty")?),
        }
    }

    /// Equivalent to `put(obj, False)`.
    fn put_nowait(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let engine = Self::open(slf)?;
        let mut message = Self::pack(slf, obj)?;
        match engine.put(&mut message, Deadline::Now) {
            Err(WaitError::TimedOut | WaitError::Interrupted) => Err(exception(slf.py(), "Full")?),
            result => result.map_err(failed),
        }
    }

    /// Equivalent to `get(False)`.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let engine = Self::open(slf)?;
        if let Some(leftover) = slf.get().pop_leftover(slf.py()) {
            return leftover.load(slf.py());
        }
        let result = engine.get(Deadline::Now);
        slf.get().update_readiness();
        match result {
            Ok(incoming) => payload::loads(slf.py(), incoming),
            Err(WaitError::TimedOut | WaitError::Interrupted) => Err(exception(slf.py(), "Empty")?),
            Err(error) => Err(failed(error)),
        }
    }

    /// Put all items into the queue, in order. Equivalent to a `put` of each, but faster.
    ///
    /// All are pickled before the first is put: if one cannot be pickled, none is put. If block is true, wait for room
    /// for at most `timeout` seconds in all (None: no limit). If there is no room for all, put as many as there is room
    /// for, then raise `Full`. Its `put_count` is their number. An exception of a signal handler that runs meanwhile has
    /// this attribute, too, if it accepts attributes.
    #[pyo3(signature = (items, block=None, timeout=None), text_signature = "($self, items, block=True, timeout=None)")]
    fn put_many(
        slf: &Bound<'_, Self>,
        items: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        many::put(slf, items, block, timeout)
    }

    /// Remove and return a list of the oldest items: at least one, at most `max`.
    ///
    /// Take those that are there at first. If there is none and block is true, wait for the first for at most `timeout`
    /// seconds (None: no limit). Raise `Empty` if there is none. If an item cannot be unpickled, or a signal handler
    /// raises meanwhile, the next `get` or `get_many` of this queue object in this process returns the other items that
    /// were taken.
    #[pyo3(signature = (max, block=None, timeout=None), text_signature = "($self, max, block=True, timeout=None)")]
    fn get_many<'py>(
        slf: &Bound<'py, Self>,
        max: i64,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        many::get(slf, max, block, timeout)
    }

    /// Put an item into the queue. Raise `OSError` if this process has closed the queue.
    fn _simple_put(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.get().check_handle()?;
        Self::put(slf, obj, None, None)
    }

    /// Remove and return the oldest item, waiting for one. Raise `OSError` if this process has closed the queue.
    fn _simple_get<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().check_handle()?;
        Self::get(slf, None, None)
    }

    /// Put all items into the queue, in order. Raise `OSError` if this process has closed the queue.
    ///
    /// All are pickled before the first is put: if one cannot be pickled, none is put.
    fn _simple_put_many(slf: &Bound<'_, Self>, items: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.get().check_handle()?;
        many::put(slf, items, None, None)
    }

    /// Remove and return a list of the oldest items: at least one, at most `max`. Wait for the first only. Raise
    /// `OSError` if this process has closed the queue.
    fn _simple_get_many<'py>(slf: &Bound<'py, Self>, max: i64) -> PyResult<Bound<'py, PyList>> {
        slf.get().check_handle()?;
        many::get(slf, max, None, None)
    }

    /// Return the number of items in the queue.
    fn qsize(&self, py: Python<'_>) -> PyResult<u64> {
        let there = self.engine()?.len().map_err(raise)?;
        Ok(there + self.leftovers.len(py) as u64)
    }

    /// Return True if the queue is empty. Raise `OSError` if this process has put an item and then closed the queue.
    fn empty(&self) -> PyResult<bool> {
        if self.used.load(Relaxed) {
            self.check_handle()?;
        }
        Ok(self.engine()?.is_empty().map_err(raise)? && !self.leftovers.any())
    }

    /// Return True if the queue is full.
    fn full(&self) -> PyResult<bool> {
        self.engine()?.is_full().map_err(raise)
    }

    /// Close the queue in this process, which can then neither put nor get.
    fn close(&self) {
        self.closed.store(true, Relaxed);
        self.ready().take();
    }

    /// Return a descriptor for poll(2) and similar calls that is readable while there are items.
    ///
    /// It stays the same while the queue is open in this process. The first call creates it, with a thread that watches
    /// the queue. It must not be read from.
    fn _readable_fd(&self) -> PyResult<RawFd> {
        self.check_handle()?;
        let mut ready = self.ready();
        self.polled.store(true, Relaxed);
        // A child of fork creates its own descriptor.
        let readiness = match ready.take().filter(Readiness::is_own) {
            Some(readiness) => readiness,
            None => Readiness::new(self.engine()?).map_err(raise)?,
        };
        // Another process may have taken the last item since the last check.
        readiness.resolve_or(|| self.leftovers.any());
        Ok(ready.insert(readiness).fd().as_raw_fd())
    }

    /// Return True if there is an item, waiting for one for at most `timeout` seconds (None: no limit). Does not take
    /// it.
    #[pyo3(signature = (timeout=None))]
    fn _wait_until_ready(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.check_handle()?;
        let engine = self.engine()?;
        let deadline = poll_deadline(timeout)?;
        let leftovers = || self.leftovers.any();
        Ok(wait(py, || engine.wait_until_ready_or(deadline, leftovers))?.is_some())
    }

    #[getter]
    fn _maxsize(&self) -> PyResult<u64> {
        Ok(match self.engine()?.maxsize() {
            0 => SEM_VALUE_MAX,
            maxsize => maxsize,
        })
    }

    #[getter]
    fn _closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Indicate that an item taken from the queue has been processed.
    fn _task_done(&self) -> PyResult<()> {
        if self.engine()?.task_done() {
            Ok(())
        } else {
            Err(PyValueError::new_err("task_done() called too many times"))
        }
    }

    /// Wait until all items that were put have been processed.
    fn _join(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.engine()?;
        wait(py, || engine.join(Deadline::Never)).map(drop)
    }

    fn __getstate__(&self) -> PyResult<(u128, u64)> {
        let handle = self.engine()?.handle();
        payload::attach_handle(handle);
        Ok((family().map_err(raise)?.id(), handle.to_bits()))
    }

    fn __setstate__(&self, state: (u128, u64)) -> PyResult<()> {
        let (id, bits) = state;
        if id != family().map_err(raise)?.id() {
            return Err(raise(Error::Foreign("queue")));
        }
        let handle = Handle::from_bits(bits).ok_or_else(|| raise(Error::Stale("queue")))?;
        self.set(Ref::attach(handle).map_err(raise)?)
    }
}

/// Wait, for at most a second, until processes that poll a queue have seen this process's items. Call it before
/// `os._exit()`; other exits do it by themselves.
#[pyfunction]
pub fn wait_until_noticed() {
    // The interpreter's lock stays held: whatever other threads of this process would do now is lost anyway.
    channel::wait_until_noticed();
}

fn is_true(block: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    block.map_or(Ok(true), PyAnyMethods::is_truthy)
}

/// The exception for an error of the engine that is neither a timeout nor a signal.
fn failed(error: WaitError) -> PyErr {
    match error {
        WaitError::Other(error) => raise(error),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// An instance of `queue.Empty` or `queue.Full`.
fn exception(py: Python<'_>, name: &str) -> PyResult<PyErr> {
    static CLASSES: Cached<(Py<PyType>, Py<PyType>)> = Cached::new();
    let (empty, full) = CLASSES.get_or_make(|| {
        let queue = py.import("queue")?;
        PyResult::Ok((
            queue.getattr("Empty")?.cast_into()?.unbind(),
            queue.getattr("Full")?.cast_into()?.unbind(),
        ))
    })?;
    let class = if name == "Full" { full } else { empty };
    Ok(PyErr::from_type(class.bind(py).clone(), ()))
}
