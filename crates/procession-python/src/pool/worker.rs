//! Bindings of the pool, worker side: the loop that unpickles a task, calls its function and sends the result.

use super::errors::{catchable, helper};
use crate::common::{name, raise, wait, Cached};
use crate::payload;
use procession_core::channel::{Incoming, Message};
use procession_core::ids::Handle;
use procession_core::pool::{Task, Verdict, Worker};
use procession_core::sys::proc::own_memory;
use procession_core::trace;
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PySystemExit, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyModule, PyTuple};
use std::time::Instant;

/// How a function is applied to a task's arguments; `_pool/worker.py` uses those that are not timed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    /// To the task's one item.
    Item = 0,
    /// To each item of a tuple.
    Chunk = 1,
    /// To each item of a tuple, as its positional arguments.
    StarredChunk = 2,
    /// To the tuple, as its positional arguments.
    Call = 3,
    /// To a pair of positional and keyword arguments.
    CallWithKeywords = 4,
    /// Like [`Self::Chunk`], with a limit on the time of each item.
    TimedChunk = 5,
    /// Like [`Self::StarredChunk`], with a limit on the time of each item.
    TimedStarredChunk = 6,
    /// Like [`Self::TimedChunk`]. An item that raises has its exception as its result, and the others go on.
    EachOfChunk = 7,
    /// Like [`Self::TimedStarredChunk`] and [`Self::EachOfChunk`].
    EachOfStarredChunk = 8,
}

impl Mode {
    pub fn of(number: u8, timed: bool) -> PyResult<Self> {
        Ok(match (number, timed) {
            (0, _) => Self::Item,
            (1, false) => Self::Chunk,
            (2, false) => Self::StarredChunk,
            (3, _) => Self::Call,
            (4, _) => Self::CallWithKeywords,
            (1 | 5, _) => Self::TimedChunk,
            (2 | 6, _) => Self::TimedStarredChunk,
            (7, _) => Self::EachOfChunk,
            (8, _) => Self::EachOfStarredChunk,
            _ => return Err(PyValueError::new_err("not a way to apply a function")),
        })
    }

    /// Whether each item has its own outcome: its result, or its exception.
    pub fn is_of_each(self) -> bool {
        matches!(self, Self::EachOfChunk | Self::EachOfStarredChunk)
    }
}

/// A worker's end of a pool.
#[pyclass(frozen, module = "procession._procession")]
pub struct PoolWorker {
    worker: Worker,
    /// Whether an exit or interrupt that a task raises is its outcome, as in an executor, and does not end this worker.
    outlives_exits: bool,
}

#[pymethods]
impl PoolWorker {
    #[new]
    #[pyo3(signature = (handle, worker_index, outlives_exits=false))]
    fn new(handle: u64, worker_index: u32, outlives_exits: bool) -> PyResult<Self> {
        let handle = Handle::from_bits(handle).ok_or_else(|| PyValueError::new_err("not a pool's handle"))?;
        let worker = Worker::attach(handle, worker_index).map_err(raise)?;
        Ok(Self { worker, outlives_exits })
    }

    fn ready(&self) {
        self.worker.ready();
    }

    /// Report that the initializer raised `error`.
    fn fail(&self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.worker.fail(pack_exception(error)?);
        Ok(())
    }

    /// Report that the next item of a chunk begins, for a function that applies another to the items: a time limit is
    /// each item's.
    fn begin_item(&self) {
        self.worker.begin_item();
    }

    /// Run tasks until there are no more, or this worker has done `max_tasks` or uses more than `max_rss` bytes. Return
    /// the number of tasks done.
    #[pyo3(signature = (max_tasks=None, max_rss=None))]
    fn run(&self, py: Python<'_>, max_tasks: Option<u64>, max_rss: Option<u64>) -> PyResult<u64> {
        let mut functions = Functions::default();
        let mut done = 0;
        while max_tasks.is_none_or(|max| done < max) {
            let Some((task, arguments)) = wait(py, || self.worker.next())?.flatten() else {
                break;
            };
            let (verdict, message) = self.perform(py, &task, arguments, &mut functions)?;
            flush(py);
            if !self.worker.is_here() {
                // This is a child that the task forked and that returned from it.
                return Err(PySystemExit::new_err(0));
            }
            if !self.worker.finish(task, verdict, message).map_err(raise)? {
                break;
            }
            done += 1;
            if max_rss.is_some_and(|max| own_memory().is_some_and(|now| now > max)) {
                break;
            }
        }
        Ok(done)
    }
}

/// Tell a trace which function the task calls, if the family is traced. A callable without a name has its class's.
fn label(func: &Bound<'_, PyAny>) {
    if trace::is_on() {
        let name = func.getattr("__qualname__").and_then(|name| name.extract::<String>());
        let name = name.or_else(|_| func.get_type().qualname()?.extract());
        trace::label(&name.unwrap_or_default());
    }
}

impl PoolWorker {
    /// Run a task. An error ends the worker, and the task with it.
    fn perform(
        &self,
        py: Python<'_>,
        task: &Task,
        arguments: Incoming,
        functions: &mut Functions,
    ) -> PyResult<(Verdict, Message)> {
        let (value, of_each) = match self.call(py, task, arguments, functions) {
            Ok(called) => called,
            Err(error) if self.ends_with(py, &error) => {
                flush(py);
                return Err(error);
            }
            Err(error) => {
                let error = error.into_value(py).into_bound(py).into_any();
                return Ok((Verdict::Raised, pack_exception(&error)?));
            }
        };
        let packed = payload::dumps(&value).and_then(|pickled| pickled.pack());
        let packed = match packed {
            Err(error) if of_each => {
                catchable(py, error)?;
                pack_each(value.cast()?)
            }
            packed => packed,
        };
        match packed {
            Ok(message) => Ok((Verdict::Done, message)),
            Err(error) => {
                let error = helper(py, "_unencodable")?.call1((catchable(py, error)?, value))?;
                Ok((Verdict::Raised, pack_exception(&error)?))
            }
        }
    }

    fn call<'py>(
        &self,
        py: Python<'py>,
        task: &Task,
        arguments: Incoming,
        functions: &mut Functions,
    ) -> PyResult<(Bound<'py, PyAny>, bool)> {
        let Some(id) = task.function() else {
            let call = payload::loads(py, arguments)?;
            let (func, args, kwds): (Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>) = call.extract()?;
            drop(call);
            label(&func);
            self.worker.begin_item();
            let args = sequence(args)?;
            let value = match kwds.cast_into::<PyDict>() {
                Ok(kwds) if kwds.is_empty() => func.call1(args),
                Ok(kwds) => func.call(args, Some(&kwds)),
                Err(other) => {
                    let other = other.into_inner();
                    if !other.hasattr("keys")? {
                        let kind = other.get_type().name()?;
                        return Err(PyTypeError::new_err(format!(
                            "argument after ** must be a mapping, not {kind}"
                        )));
                    }
                    let kwds = PyDict::new(py);
                    kwds.call_method1("update", (other,))?;
                    func.call(args, Some(&kwds))
                }
            };
            return Ok((value?, false));
        };
        let (func, mode) = functions.get(py, &self.worker, task, id)?;
        label(&func);
        let arguments = payload::loads(py, arguments)?;
        self.worker.begin_item();
        let value = match mode {
            Mode::Item => func.call1((arguments,)),
            Mode::Call => func.call1(sequence(arguments)?),
            Mode::CallWithKeywords => {
                let (args, kwds): (Bound<'_, PyTuple>, Bound<'_, PyDict>) = arguments.extract()?;
                func.call(args, Some(&kwds))
            }
            _ => {
                let items = sequence(arguments)?;
                let begin = Instant::now();
                let results = self.call_each(&func, mode, &items)?;
                self.worker.measured(task, begin.elapsed() / items.len().max(1) as u32);
                Ok(results)
            }
        };
        Ok((value?, mode.is_of_each()))
    }

    /// The list of the function's results for the items of a chunk.
    fn call_each<'py>(
        &self,
        func: &Bound<'py, PyAny>,
        mode: Mode,
        items: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = func.py();
        if let Some(mapper) = mapper(py, mode)? {
            let results = mapper.call1((func, items))?;
            // SAFETY: a new list of what an iterator yields, or null with an exception set.
            let results = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PySequence_List(results.as_ptr()))? };
            return if results.len()? == items.len() {
                Ok(results)
            } else {
                Err(PyRuntimeError::new_err("the function raised StopIteration"))
            };
        }
        let results = PyList::empty(py);
        for item in items.iter_borrowed() {
            self.worker.begin_item();
            let result = if matches!(mode, Mode::TimedChunk | Mode::EachOfChunk) {
                func.call1((item,))
            } else {
                sequence(item.to_owned()).and_then(|items| func.call1(items))
            };
            results.append(match result {
                Err(error) if mode.is_of_each() && !self.ends_with(py, &error) => {
                    helper(py, "_failed_item")?.call1((error.into_value(py),))?
                }
                result => result?,
            })?;
        }
        Ok(results.into_any())
    }

    /// Whether the error ends the worker and not only the task.
    fn ends_with(&self, py: Python<'_>, error: &PyErr) -> bool {
        let exits = error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py);
        // A child that the task forked is no worker: its exit is its own.
        exits && !(self.outlives_exits && self.worker.is_here())
    }
}

/// The callable that applies a function to each item; `None` if each item must be timed.
fn mapper(py: Python<'_>, mode: Mode) -> PyResult<Option<Bound<'_, PyAny>>> {
    static MAP: Cached<Py<PyAny>> = Cached::new();
    static STARMAP: Cached<Py<PyAny>> = Cached::new();
    Ok(match mode {
        Mode::Chunk => Some(MAP.import(py, "builtins", "map")?.clone()),
        Mode::StarredChunk => Some(STARMAP.import(py, "itertools", "starmap")?.clone()),
        _ => None,
    })
}

/// Convert an iterable of positional arguments to a tuple.
fn sequence(items: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyTuple>> {
    match items.cast_into::<PyTuple>() {
        Ok(tuple) => Ok(tuple),
        Err(other) => {
            let other = other.into_inner();
            let items = other.try_iter()?.collect::<PyResult<Vec<_>>>()?;
            PyTuple::new(other.py(), items)
        }
    }
}

/// The functions of the jobs in progress, unpickled once.
#[derive(Default)]
struct Functions {
    known: Vec<((u32, u32), Py<PyAny>, Mode)>,
}

impl Functions {
    fn get<'py>(
        &mut self,
        py: Python<'py>,
        worker: &Worker,
        task: &Task,
        id: (u32, u32),
    ) -> PyResult<(Bound<'py, PyAny>, Mode)> {
        if let Some((_, func, mode)) = self.known.iter().find(|(known, ..)| *known == id) {
            return Ok((func.bind(py).clone(), *mode));
        }
        self.known.retain(|&(known, ..)| worker.is_current(known));
        let body = worker.function(task).map_err(raise)?;
        let loads = payload::c_pickle(py)?.getattr("loads")?;
        let (func, mode): (Bound<'py, PyAny>, u8) = loads.call1((PyBytes::new(py, &body),))?.extract()?;
        let mode = Mode::of(mode, false)?;
        self.known.push((id, func.clone().unbind(), mode));
        Ok((func, mode))
    }
}

/// Write a task's output before its result is sent, so that it survives whatever happens to the worker.
fn flush(py: Python<'_>) {
    static SYS: Cached<Py<PyModule>> = Cached::new();
    let Ok(sys) = SYS.get_or_make(|| py.import("sys").map(Bound::unbind)) else {
        return;
    };
    for name in [name!(py, "stdout"), name!(py, "stderr")] {
        // A stream that is closed, missing or broken has nothing to lose.
        let _ = sys
            .bind(py)
            .getattr(name)
            .and_then(|stream| stream.call_method0(name!(py, "flush")));
    }
}

/// Pack the results of a chunk that cannot be pickled, with an exception in place of each that cannot.
fn pack_each(results: &Bound<'_, PyList>) -> PyResult<Message> {
    let py = results.py();
    let kept = PyList::empty(py);
    for result in results {
        kept.append(match payload::dumps(&result).map(drop) {
            Ok(()) => result,
            Err(error) => {
                let error = helper(py, "_unencodable")?.call1((catchable(py, error)?, result))?;
                helper(py, "_failed_item")?.call1((error,))?
            }
        })?;
    }
    payload::dumps(&kept)?.pack()
}

/// Pack an exception in such a form that the receiver can always rebuild one from it.
fn pack_exception(error: &Bound<'_, PyAny>) -> PyResult<Message> {
    let parts = helper(error.py(), "_pack_exception")?.call1((error,))?;
    payload::dumps(&parts)?.pack()
}
