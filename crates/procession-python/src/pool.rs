//! Bindings of the pool room, parent side: jobs are fed with pickled tasks, outcomes are unpickled where they are asked for. What calls
//! these objects, and what an error looks like, is `pool.py`'s business; the worker's loop is in `pool_worker`.
//!
//! ```text
//! class PoolCore:
//!     def __init__(self) -> None: ...
//!     handle: int                                     # for PoolWorker
//!     def enlist(self) -> int: ...                    # a worker's place
//!     def is_ready(self, place: int) -> bool: ...
//!     def bury(self, place: int, pid: int, exitcode: int) -> tuple[bool, BaseException | None]: ...
//!         # the process of the worker in that place has ended: whether it had been ready, and why it could not
//!     def call(self, func, args, kwds) -> PoolJob: ...          # one task
//!     def job(self, func, mode: int, by_time: bool) -> PoolJob: ...   # tasks of one function: feed them
//!     def close(self) -> None: ...
//!     def terminate(self, error: Callable[[], BaseException]) -> None: ...   # what is unfinished fails with error()
//!     def is_idle(self) -> bool: ...                  # nothing to do, and nothing can come
//!     def needs_workers(self) -> bool: ...            # workers that left must be replaced
//!     def next_completed(self) -> int | None: ...     # key of a job to be announced; None: there will be none
//! class PoolJob:
//!     key: int
//!     def feed(self, iterator, chunksize: int, limit: int) -> bool: ...   # up to `limit` tasks; False: that was all. 0: items, not tuples
//!     def feed_map(self, iterator, length: int, workers: int, limit: int) -> bool: ...    # the same, in chunks that suit the workers
//!     def refuse(self, error: BaseException) -> None: ...     # this is what became of the next task, and there are no more
//!     def seal(self) -> None: ...                     # there are no more tasks
//!     def announce(self) -> None: ...                 # next_completed shall tell
//!     def wait(self, timeout: float | None) -> bool: ...
//!     def is_complete(self) -> bool: ...
//!     def outcome(self) -> tuple[bool, object]: ...   # of a call: success, value or exception. Once, when complete
//!     def gather(self) -> tuple[bool, object]: ...    # of a map: success, list or the first exception. Once, when complete
//!     def next(self, timeout: float | None) -> tuple[bool, object] | None: ...
//!         # in order, or by time; StopIteration at the end; None: timed out
//! ```

use crate::common::{deadline, raise, wait};
use crate::payload;
use procession_core::channel::{Incoming, Message, Outgoing};
use procession_core::pool::{Cutter, Item, Job, Loss, Pool, Remains};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyException, PyStopIteration};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyIterator, PyList, PyTuple};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A function of `procession.pool`, which knows what errors look like.
pub fn helper<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("procession.pool").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Errors that a caller may catch are outcomes; anything else (an interrupt, an exit) goes on its way.
pub fn catchable(py: Python<'_>, error: PyErr) -> PyResult<Bound<'_, PyAny>> {
    if error.is_instance_of::<PyException>(py) {
        Ok(error.into_value(py).into_bound(py).into_any())
    } else {
        Err(error)
    }
}

/// A pool, as its maker sees it.
#[pyclass(frozen, module = "procession._procession")]
pub struct PoolCore {
    pool: Pool,
    /// Why it was terminated.
    error: Arc<Mutex<Option<Py<PyAny>>>>,
}

#[pymethods]
impl PoolCore {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self {
            pool: Pool::new().map_err(raise)?,
            error: Arc::default(),
        })
    }

    #[getter]
    fn handle(&self) -> u64 {
        self.pool.handle().to_bits()
    }

    fn enlist(&self) -> PyResult<u32> {
        self.pool.enlist().map_err(raise)
    }

    fn is_ready(&self, place: u32) -> bool {
        self.pool.is_ready(place)
    }

    fn bury(&self, py: Python<'_>, place: u32, pid: i32, exitcode: i32) -> PyResult<(bool, Option<Py<PyAny>>)> {
        Ok(match self.pool.bury(place, pid, exitcode).map_err(raise)? {
            Remains::Worked { .. } => (true, None),
            Remains::Unready => (false, None),
            Remains::Failed(why) => (false, Some(rebuild(py, why)?.unbind())),
        })
    }

    fn call(&self, func: &Bound<'_, PyAny>, args: &Bound<'_, PyAny>, kwds: &Bound<'_, PyAny>) -> PyResult<PoolJob> {
        let py = func.py();
        let job = self.start(None, false, func)?;
        let task = PyTuple::new(py, [func, args, kwds])?;
        job.submit(task.as_any())?;
        job.job.seal();
        Ok(job)
    }

    fn job(&self, func: &Bound<'_, PyAny>, mode: u8, by_time: bool) -> PyResult<PoolJob> {
        let py = func.py();
        match dump_function(func, mode) {
            Ok(message) => self.start(Some(message), by_time, func),
            Err(error) => {
                let error = catchable(py, error)?;
                let job = self.start(None, by_time, func)?;
                job.refuse_rest(error);
                Ok(job)
            }
        }
    }

    fn close(&self) {
        self.pool.close();
    }

    fn terminate(&self, error: Py<PyAny>) {
        lock(&self.error).get_or_insert(error);
        self.pool.terminate();
    }

    fn is_idle(&self) -> bool {
        self.pool.is_idle()
    }

    fn needs_workers(&self) -> bool {
        self.pool.needs_workers()
    }

    fn next_completed(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        Ok(wait(py, || self.pool.next_completed(deadline(None)))?.flatten())
    }
}

impl PoolCore {
    pub fn start(&self, function: Option<Message>, by_time: bool, func: &Bound<'_, PyAny>) -> PyResult<PoolJob> {
        Ok(PoolJob {
            job: self.pool.job(function, by_time).map_err(raise)?,
            func: func.clone().unbind(),
            by_time,
            refused: Mutex::default(),
            cursor: AtomicU64::new(0),
            cutter: Mutex::default(),
            stopped: Arc::clone(&self.error),
        })
    }
}

/// One call's tasks.
#[pyclass(frozen, module = "procession._procession")]
pub struct PoolJob {
    pub job: Job,
    /// What the tasks call, to be named in errors. Also keeps alive what the function refers to while its pickle is in use.
    func: Py<PyAny>,
    by_time: bool,
    /// Errors of tasks that never came to be.
    refused: Mutex<HashMap<u64, Py<PyAny>>>,
    cursor: AtomicU64,
    /// What `feed_map` has come to.
    cutter: Mutex<Option<Cutter>>,
    stopped: Arc<Mutex<Option<Py<PyAny>>>>,
}

#[pymethods]
impl PoolJob {
    #[getter]
    fn key(&self) -> u32 {
        self.job.id()
    }

    fn feed(&self, iterator: &Bound<'_, PyIterator>, chunksize: usize, limit: usize) -> PyResult<bool> {
        self.feed_chunks(iterator, limit, || chunksize)
    }

    fn feed_map(&self, iterator: &Bound<'_, PyIterator>, length: u64, workers: usize, limit: usize) -> PyResult<bool> {
        let py = iterator.py();
        let mut cutter = lock(&self.cutter)
            .take()
            .unwrap_or_else(|| Cutter::new(length, workers));
        let more = self.feed_chunks(iterator, limit, || py.detach(|| cutter.next(&self.job)) as usize);
        *lock(&self.cutter) = Some(cutter);
        more
    }

    #[pyo3(name = "refuse")]
    fn refuse_rest(&self, error: Bound<'_, PyAny>) {
        self.refuse(error);
        self.job.seal();
    }

    fn seal(&self) {
        self.job.seal();
    }

    fn announce(&self) {
        self.job.announce();
    }

    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = deadline(timeout);
        Ok(wait(py, || self.job.wait(deadline))?.is_some())
    }

    fn is_complete(&self) -> bool {
        self.job.is_complete()
    }

    fn outcome<'py>(&self, py: Python<'py>) -> PyResult<(bool, Bound<'py, PyAny>)> {
        let item = self.job.take(0, deadline(Some(0.0)));
        match item.ok().flatten() {
            Some(item) => self.open(py, 0, item),
            None => Ok((false, helper(py, "_already_taken")?.call0()?)),
        }
    }

    fn gather<'py>(&self, py: Python<'py>) -> PyResult<(bool, Bound<'py, PyAny>)> {
        let (submitted, _) = self.job.progress();
        let list = PyList::empty(py);
        let order = self
            .job
            .first_failure()
            .map_or(0..submitted, |failed| failed..failed + 1);
        for number in order {
            let Some(item) = self.job.take(number, deadline(Some(0.0))).ok().flatten() else {
                return Ok((false, helper(py, "_already_taken")?.call0()?));
            };
            let (success, value) = self.open(py, number, item)?;
            if !success {
                return Ok((false, value));
            }
            list.call_method1("extend", (value,))?;
        }
        Ok((true, list.into_any()))
    }

    #[pyo3(signature = (timeout=None))]
    fn next<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<(bool, Bound<'py, PyAny>)>> {
        let deadline = deadline(timeout);
        let found = if self.by_time {
            wait(py, || self.job.take_any(deadline))?
        } else {
            wait(py, || loop {
                let number = self.cursor.load(Relaxed);
                if let Some(item) = self.job.take(number, deadline)? {
                    self.cursor.fetch_max(number + 1, Relaxed);
                    return Ok(Some((number, item)));
                }
                // Another thread took it, or there is none.
                if self.job.is_complete() && number >= self.job.progress().0 {
                    return Ok(None);
                }
                self.cursor.fetch_max(number + 1, Relaxed);
            })?
        };
        match found {
            None => Ok(None),
            Some(None) => Err(PyStopIteration::new_err(())),
            Some(Some((number, item))) => self.open(py, number, item).map(Some),
        }
    }
}

impl PoolJob {
    fn feed_chunks(
        &self,
        iterator: &Bound<'_, PyIterator>,
        limit: usize,
        mut size: impl FnMut() -> usize,
    ) -> PyResult<bool> {
        let mut iterator = iterator.clone();
        for _ in 0..limit {
            if self.job.is_sealed() {
                return Ok(false);
            }
            match next_task(&mut iterator, size()) {
                Ok(Some(task)) => self.submit(&task)?,
                Ok(None) => {
                    self.job.seal();
                    return Ok(false);
                }
                Err(error) => {
                    let error = catchable(iterator.py(), error);
                    if let Ok(error) = &error {
                        self.refuse(error.clone());
                    }
                    self.job.seal();
                    return error.map(|_| false);
                }
            }
        }
        Ok(true)
    }

    fn submit(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        self.submit_packed(pack_task(task)?).map(drop)
    }

    pub fn submit_packed(&self, task: Packed<'_>) -> PyResult<u64> {
        match task {
            Ok(message) => self.job.submit(message).map_err(raise),
            Err(error) => Ok(self.refuse(error)),
        }
    }

    /// The next task's outcome is `error`.
    fn refuse(&self, error: Bound<'_, PyAny>) -> u64 {
        // Held across both, so that nobody finds the item before its error.
        let mut refused = lock(&self.refused);
        let number = self.job.refuse();
        refused.insert(number, error.unbind());
        number
    }

    fn open<'py>(&self, py: Python<'py>, number: u64, item: Item) -> PyResult<(bool, Bound<'py, PyAny>)> {
        self.open_call(py, self.func.bind(py), number, item)
    }

    /// What became of task `number`, which called `func`.
    pub fn open_call<'py>(
        &self,
        py: Python<'py>,
        func: &Bound<'py, PyAny>,
        number: u64,
        item: Item,
    ) -> PyResult<(bool, Bound<'py, PyAny>)> {
        let error = match item {
            Item::Done(message) => match payload::loads(py, message) {
                Ok(value) => return Ok((true, value)),
                Err(error) => helper(py, "_undecodable")?.call1((catchable(py, error)?,))?,
            },
            Item::Raised(message) => rebuild(py, message)?,
            Item::Lost(Loss::Died { pid, exitcode }) => {
                helper(py, "_worker_died")?.call1((func, number, pid, exitcode))?
            }
            Item::Lost(Loss::Refused) => match lock(&self.refused).remove(&number) {
                Some(error) => error.into_bound(py),
                None => helper(py, "_already_taken")?.call0()?,
            },
            Item::Lost(Loss::Stopped) => {
                let error = lock(&self.stopped).as_ref().map(|error| error.clone_ref(py));
                match error {
                    Some(error) => error.bind(py).call0()?,
                    None => helper(py, "_already_taken")?.call0()?,
                }
            }
        };
        Ok((false, error))
    }
}

/// A task to be submitted, or why it cannot be.
pub type Packed<'py> = Result<Message, Bound<'py, PyAny>>;

pub fn pack_task<'py>(task: &Bound<'py, PyAny>) -> PyResult<Packed<'py>> {
    match payload::dumps(task).and_then(|pickled| pickled.pack()) {
        Ok(message) => Ok(Ok(message)),
        Err(error) => catchable(task.py(), error).map(Err),
    }
}

/// The next task's arguments: an item (`chunksize` 0) or a tuple of up to `chunksize` items.
fn next_task<'py>(iterator: &mut Bound<'py, PyIterator>, chunksize: usize) -> PyResult<Option<Bound<'py, PyAny>>> {
    if chunksize == 0 {
        return iterator.next().transpose();
    }
    let items = iterator.by_ref().take(chunksize).collect::<PyResult<Vec<_>>>()?;
    if items.is_empty() {
        return Ok(None);
    }
    Ok(Some(PyTuple::new(iterator.py(), items)?.into_any()))
}

/// A job's function, with all it refers to inside the pickle: many workers read it, so no part of it can become one's own.
fn dump_function(func: &Bound<'_, PyAny>, mode: u8) -> PyResult<Message> {
    let pair = (func, mode).into_pyobject(func.py())?;
    let pickled = payload::dumps(pair.as_any())?;
    if !pickled.has_buffers() {
        return pickled.pack();
    }
    let forking = func.py().import("procession.reduction")?.getattr("ForkingPickler")?;
    let body = PyBuffer::<u8>::get(&forking.call_method1("dumps", (pair,))?)?.to_vec(func.py())?;
    let out = Outgoing {
        body: &body,
        ..Outgoing::default()
    };
    Message::pack(out).map_err(raise)
}

/// The exception that a worker sent.
fn rebuild(py: Python<'_>, message: Incoming) -> PyResult<Bound<'_, PyAny>> {
    match payload::loads(py, message) {
        Ok(parts) => helper(py, "_unpack_exception")?.call1((parts,)),
        Err(error) => helper(py, "_undecodable")?.call1((catchable(py, error)?,)),
    }
}
