//! Bindings of the pool, parent side: jobs are fed with pickled tasks, and results are unpickled in the thread that
//! asks for them. The file is long because the methods of one class stand in one block.

use super::core::PoolCore;
use super::errors::{catchable, describe, helper, rebuild};
use super::result::JobResult;
use super::worker::Mode;
use crate::common::lock;
use crate::common::{deadline, raise, timed_out, wait};
use crate::payload;
use procession_core::channel::Message;
use procession_core::pool::{Cutter, Feed, Function, Intake, Item, Job, Loss, TaskOptions};
use pyo3::exceptions::PyStopIteration;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyTuple};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;

/// How the results of a job's tasks are fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One task. Its value is the job's.
    Call,
    /// In order: one by one or, if the values are lists, together as one list.
    InOrder,
    /// One by one, as they end.
    ByTime,
}

/// The tasks of one call of the pool.
#[pyclass(frozen, module = "procession._procession")]
pub struct PoolJob {
    pub job: Job,
    /// What the tasks call, named in errors. Also keeps alive what the function refers to while its pickle is in use.
    func: Py<PyAny>,
    /// How the function is applied to a task's arguments. `None`: the task contains the function.
    mode: Option<Mode>,
    shape: Shape,
    /// The result of the job, once it has been asked for.
    result: JobResult,
    /// Errors of tasks that could not be submitted, by task number.
    refused: Mutex<HashMap<u64, Py<PyAny>>>,
    cursor: AtomicU64,
    /// The number of items that `next` has taken.
    taken: AtomicU64,
    /// The number of items of each task, if they are counted.
    sizes: Mutex<Option<Vec<u32>>>,
    /// The number of workers that it is fed for; 0: no bound.
    workers: AtomicU64,
    /// How far it is fed ahead of the workers. Taken out while a thread waits for room.
    feed: Mutex<Option<Feed>>,
    /// The number of items of all tasks, if it is known and each item has its own outcome.
    length: AtomicU64,
    /// The number of the task whose error is that of the call itself: of its function or its iterable.
    failed_call: AtomicU64,
    /// Whether all its tasks were submitted, or are known to fail.
    is_whole: AtomicBool,
    /// The progress of `feed_map`.
    cutter: Mutex<Option<Cutter>>,
    /// The pool, which knows why it was terminated.
    core: Py<PoolCore>,
}

#[pymethods]
impl PoolJob {
    /// An error refers to the frames that it passed through, and these refer to the job.
    pub fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.func)?;
        self.result.traverse(&visit)?;
        // A thread that holds the lock is using the object, so it is not garbage.
        if let Ok(refused) = self.refused.try_lock() {
            for error in refused.values() {
                visit.call(error)?;
            }
        }
        Ok(())
    }

    pub fn __clear__(&self) {
        let refused = std::mem::take(&mut *lock(&self.refused));
        drop(refused);
        self.result.clear();
    }

    #[getter]
    fn key(&self) -> u32 {
        self.job.id()
    }

    /// Submit up to `limit` tasks of `chunksize` items each (0: items, not tuples), within the limit in bytes. Return
    /// False at the end of the iterator.
    fn feed(&self, iterator: &Bound<'_, PyIterator>, chunksize: usize, limit: usize) -> PyResult<bool> {
        self.feed_chunks(iterator, limit, || chunksize)
    }

    /// Like `feed`, in chunks of a size that suits the workers.
    fn feed_map(&self, iterator: &Bound<'_, PyIterator>, length: u64, workers: usize, limit: usize) -> PyResult<bool> {
        let py = iterator.py();
        let mut cutter = lock(&self.cutter)
            .take()
            .unwrap_or_else(|| Cutter::new(length, workers));
        let more = self.feed_chunks(iterator, limit, || py.detach(|| cutter.next(&self.job)) as usize);
        *lock(&self.cutter) = Some(cutter);
        more
    }

    /// Limit how far the job is fed ahead of this many workers: in bytes, and in tasks unless `ahead` is None. Call it
    /// before the job is fed.
    fn bound(&self, workers: u64, ahead: Option<u64>) {
        self.workers.store(workers, Relaxed);
        *lock(&self.feed) = Some(Feed::new(ahead));
    }

    /// Wait until the job may be fed. Return the number of tasks that it takes, 0 if it takes no more.
    fn room(&self, py: Python<'_>, workers: u64) -> PyResult<u64> {
        self.workers.store(workers, Relaxed);
        let mut feed = lock(&self.feed).take().unwrap_or(Feed::new(None));
        let room = loop {
            if let Some(room) = feed.ready(&self.job, workers) {
                break Ok(room);
            }
            if let Err(error) = wait(py, || feed.wait(&self.job, workers, deadline(None))) {
                break Err(error);
            }
        };
        *lock(&self.feed) = Some(feed);
        room
    }

    /// Return True if the job's unfinished tasks have as many bytes as its limit allows.
    fn is_full(&self) -> bool {
        self.job.intake(Some(self.workers.load(Relaxed))) == Intake::Full
    }

    /// Declare that there are no more tasks.
    pub fn seal(&self) {
        self.job.seal();
    }

    /// Stop all unfinished tasks. Return their number.
    fn cancel(&self) -> u64 {
        let grows = self.job.intake(None) != Intake::Over && !self.is_whole.load(Relaxed);
        let withdrawn = self.job.cancel();
        withdrawn.pending + withdrawn.running + u64::from(grows)
    }

    /// Stop the tasks that no worker has begun.
    fn cancel_pending(&self, py: Python<'_>) -> PyResult<()> {
        let is_fed = self.workers.load(Relaxed) > 0 && self.job.intake(None) != Intake::Over;
        self.job.cancel_pending();
        if is_fed {
            // The tasks that have not been submitted yet never will be.
            let (submitted, _) = self.job.progress();
            self.refuse_rest(helper(py, "_cancelled")?.call1((&self.func, submitted))?);
        }
        Ok(())
    }

    /// Make `error` the result of the next task, and declare that there are no more tasks.
    #[pyo3(name = "refuse")]
    pub fn refuse_rest(&self, error: Bound<'_, PyAny>) {
        self.refuse(error, true);
        self.is_whole.store(true, Relaxed);
        self.job.seal();
    }

    /// Have the pool's `next_completed` report the job.
    fn announce(&self) {
        self.job.announce();
    }

    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = deadline(timeout);
        Ok(match wait(py, || self.job.wait(deadline))? {
            Some(()) => true,
            None => timed_out::<()>(py, timeout)?.is_some(),
        })
    }

    fn is_complete(&self) -> bool {
        self.job.is_complete()
    }

    /// Return the numbers of submitted and of finished tasks.
    fn progress(&self) -> (u64, u64) {
        self.job.progress()
    }

    /// Return how many tasks' results `next` has taken, also if it raised afterwards.
    fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Declare how many items there are, for the `result` of a job in which each item has its own outcome.
    fn expect(&self, length: u64) {
        self.length.store(length, Relaxed);
    }

    /// Count items, for `items_finished`. Call it before the job is fed.
    fn count_items(&self) {
        *lock(&self.sizes) = Some(Vec::new());
    }

    /// Return the number of items in the finished tasks.
    fn items_finished(&self) -> u64 {
        let sizes = lock(&self.sizes);
        let sizes = sizes.as_deref().unwrap_or_default();
        let size = |number: u64| sizes.get(number as usize).copied().map_or(0, u64::from);
        self.job.weigh_finished(size)
    }

    /// Wait until the job is complete. Return success, and the value of a call, the list of a map or the first
    /// exception; None after `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn result<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<(bool, Bound<'py, PyAny>)>> {
        let deadline = deadline(timeout);
        // Usually it is complete, and the interpreter's lock need not be released.
        if !self.job.is_complete() && wait(py, || self.job.wait(deadline))?.is_none() {
            return timed_out(py, timeout);
        }
        self.result.get_or_open(py, deadline, || match self.shape {
            Shape::Call => self.open_ended(py, 0),
            _ => self.gather(py),
        })
    }

    /// Return success and the value or exception of the next task, in order or as they end; None after `timeout`
    /// seconds. Raise `StopIteration` at the end.
    #[pyo3(signature = (timeout=None))]
    fn next<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<(bool, Bound<'py, PyAny>)>> {
        let deadline = deadline(timeout);
        let found = if self.shape == Shape::ByTime {
            wait(py, || self.job.take_any(deadline))?
        } else {
            wait(py, || loop {
                let number = self.cursor.load(Relaxed);
                if let Some(item) = self.job.take(number, deadline)? {
                    self.cursor.fetch_max(number + 1, Relaxed);
                    return Ok(Some((number, item)));
                }
                // Another thread took it, or it does not exist.
                if self.job.is_complete() && number >= self.job.progress().0 {
                    return Ok(None);
                }
                self.cursor.fetch_max(number + 1, Relaxed);
            })?
        };
        match found {
            None => timed_out(py, timeout),
            Some(None) => match self.stop_of_rest(py)? {
                Some(error) => Ok(Some((false, error))),
                None => Err(PyStopIteration::new_err(())),
            },
            Some(Some((number, item))) => {
                self.taken.fetch_add(1, Relaxed);
                self.open(py, number, item).map(Some)
            }
        }
    }
}

impl PoolJob {
    pub fn new(job: Job, shape: Shape, func: Py<PyAny>, mode: Option<Mode>, core: Py<PoolCore>) -> Self {
        Self {
            job,
            func,
            mode,
            shape,
            result: JobResult::default(),
            refused: Mutex::default(),
            cursor: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            sizes: Mutex::new(mode.is_some_and(Mode::is_of_each).then(Vec::new)),
            length: AtomicU64::new(0),
            failed_call: AtomicU64::new(u64::MAX),
            workers: AtomicU64::new(0),
            feed: Mutex::default(),
            is_whole: AtomicBool::new(shape == Shape::Call),
            cutter: Mutex::default(),
            core,
        }
    }

    fn feed_chunks(
        &self,
        iterator: &Bound<'_, PyIterator>,
        limit: usize,
        size: impl FnMut() -> usize,
    ) -> PyResult<bool> {
        self.try_to_feed(iterator, limit, size).or_else(|error| {
            // This includes exits and interrupts: the tasks so far are not all.
            let py = iterator.py();
            self.refuse_rest(error.clone_ref(py).into_value(py).into_bound(py).into_any());
            catchable(py, error).map(|_| false)
        })
    }

    fn try_to_feed(
        &self,
        iterator: &Bound<'_, PyIterator>,
        limit: usize,
        mut size: impl FnMut() -> usize,
    ) -> PyResult<bool> {
        let mut iterator = iterator.clone();
        for _ in 0..limit {
            let workers = Some(self.workers.load(Relaxed)).filter(|&workers| workers > 0);
            match self.job.intake(workers) {
                Intake::Open => {}
                Intake::Full => return Ok(true),
                Intake::Over => return Ok(false),
            }
            let size = size();
            let Some(task) = next_task(&mut iterator, size)? else {
                self.is_whole.store(true, Relaxed);
                self.job.seal();
                return Ok(false);
            };
            let items = if size > 0 { task.len()? as u32 } else { 1 };
            match pack_task(&task)? {
                Err(_) if items > 1 && self.is_of_each() => {
                    for item in task.try_iter()? {
                        self.count(1);
                        self.submit(None, None, pack_task(PyTuple::new(task.py(), [item?])?.as_any())?)?;
                    }
                }
                packed => {
                    self.count(items);
                    self.submit(None, None, packed)?;
                }
            }
        }
        Ok(true)
    }

    /// Count the items of the next task, if items are counted.
    fn count(&self, items: u32) {
        if let Some(sizes) = &mut *lock(&self.sizes) {
            sizes.push(items);
        }
    }

    /// Whether each item has its own outcome: its result, or its exception.
    fn is_of_each(&self) -> bool {
        self.mode.is_some_and(Mode::is_of_each)
    }

    /// Submit a task, with its own function and options if they are given. Returns the task's number.
    pub fn submit(&self, function: Option<&Function>, own: Option<TaskOptions>, task: Packed<'_>) -> PyResult<u64> {
        match (task, own, function) {
            (Ok(message), Some(options), function) => self.job.submit_with(function, options, message).map_err(raise),
            (Ok(message), None, None) => self.job.submit(message).map_err(raise),
            (Ok(message), None, Some(function)) => self.job.submit_for(function, message).map_err(raise),
            (Err(error), ..) => Ok(self.refuse(error, false)),
        }
    }

    /// Make `error` the result of the next task. `of_call`: it is an error of the call itself and not of an item.
    fn refuse(&self, error: Bound<'_, PyAny>, of_call: bool) -> u64 {
        // Held over both steps, so that no thread finds the item before its error.
        let mut refused = lock(&self.refused);
        let number = self.job.refuse();
        refused.insert(number, error.unbind());
        if of_call {
            self.failed_call.store(number, Relaxed);
        }
        number
    }

    /// The list of all tasks' values, or the first failure.
    fn gather<'py>(&self, py: Python<'py>) -> PyResult<(bool, Bound<'py, PyAny>)> {
        let (submitted, _) = self.job.progress();
        if let Some(failed) = self.job.first_failure().filter(|_| !self.is_of_each()) {
            return self.open_ended(py, failed);
        }
        let list = PyList::empty(py);
        for number in 0..submitted {
            let (success, value) = self.open_ended(py, number)?;
            if !success {
                return Ok((false, value));
            }
            list.call_method1("extend", (value,))?;
        }
        let rest = match self.stop_of_rest(py)? {
            None if !self.is_whole.load(Relaxed) => Some(helper(py, "_cancelled")?.call1((&self.func, submitted))?),
            rest => rest,
        };
        match rest {
            None => Ok((true, list.into_any())),
            Some(error) if self.is_of_each() => {
                for _ in list.len()..self.length.load(Relaxed) as usize {
                    list.append(&error)?;
                }
                Ok((true, list.into_any()))
            }
            Some(error) => Ok((false, error)),
        }
    }

    /// The error of tasks that never will be submitted, because the pool was terminated. Returned once.
    fn stop_of_rest<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.core.get().why_terminated(py) {
            Some(error) if !self.is_whole.swap(true, Relaxed) => error.bind(py).call0().map(Some),
            _ => Ok(None),
        }
    }

    /// The result of a task that has ended.
    fn open_ended<'py>(&self, py: Python<'py>, number: u64) -> PyResult<(bool, Bound<'py, PyAny>)> {
        match self.job.take_now(number).map_err(raise)? {
            Some(item) => self.open(py, number, item),
            None => Ok((false, helper(py, "_already_taken")?.call0()?)),
        }
    }

    fn open<'py>(&self, py: Python<'py>, number: u64, item: Item) -> PyResult<(bool, Bound<'py, PyAny>)> {
        let (success, value) = self.open_call(self.func.bind(py), self.mode, number, item)?;
        if success || !self.is_of_each() || self.failed_call.load(Relaxed) == number {
            return Ok((success, value));
        }
        // The chunk as a whole has failed: each of its items has.
        let size = lock(&self.sizes)
            .as_ref()
            .and_then(|sizes| sizes.get(number as usize).copied());
        let errors = PyList::empty(py);
        for _ in 0..size.unwrap_or_default() {
            errors.append(&value)?;
        }
        Ok((true, errors.into_any()))
    }

    /// The result of task `number`, which called `func`.
    pub fn open_call<'py>(
        &self,
        func: &Bound<'py, PyAny>,
        mode: Option<Mode>,
        number: u64,
        item: Item,
    ) -> PyResult<(bool, Bound<'py, PyAny>)> {
        let py = func.py();
        let error = match item {
            Item::Done(message) => match payload::loads(py, message) {
                Ok(value) => return Ok((true, value)),
                Err(error) => helper(py, "_undecodable")?.call1((catchable(py, error)?,))?,
            },
            Item::Raised(message) => rebuild(py, message)?,
            Item::Lost(Loss::Died(death)) => describe(func, mode, number, None, *death)?,
            Item::Lost(Loss::TimedOut(after, death)) => describe(func, mode, number, Some(after), *death)?,
            Item::Lost(Loss::Cancelled) => helper(py, "_cancelled")?.call1((func, number))?,
            Item::Lost(Loss::Refused) => {
                let error = lock(&self.refused).remove(&number);
                match error {
                    Some(error) => error.into_bound(py),
                    None => helper(py, "_already_taken")?.call0()?,
                }
            }
            Item::Lost(Loss::Stopped) => match self.core.get().why_terminated(py) {
                Some(error) => error.bind(py).call0()?,
                None => helper(py, "_already_taken")?.call0()?,
            },
        };
        Ok((false, error))
    }
}

/// A task to submit, or the reason why it cannot be.
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
