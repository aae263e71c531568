//! The pool and its workers, in the parent. Leaves jobs to `job` and the worker's loop to `worker`.

use super::errors::{catchable, helper, rebuild};
use super::job::{pack_task, PoolJob, Shape};
use super::options;
use super::worker::Mode;
use crate::common::{deadline, lock, raise, wait};
use crate::label::Called;
use crate::payload;
use procession_core::channel::Message;
use procession_core::pool::{Function, Job, JobOptions, Pool, WorkerDeath, WorkerEnd};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyFunction, PyModule, PyString, PyTuple};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex};

/// The number of functions of single calls that the pool keeps, the most recently used last.
const KEPT: usize = 16;

/// A pool in the process that made it.
#[pyclass(frozen, module = "procession._procession")]
pub struct PoolCore {
    pool: Pool,
    /// The process that made it.
    pid: u32,
    /// Makes the error of unfinished tasks, if the pool was terminated.
    error: Mutex<Option<Py<PyAny>>>,
    kept: Mutex<Vec<Kept>>,
}

/// A function that several calls have in common. It is found by its name, so it is sent once.
struct Kept {
    func: Py<PyAny>,
    mode: Mode,
    function: Arc<Function>,
}

/// A call in the form in which it is sent.
pub struct Call<'py> {
    pub function: Option<Arc<Function>>,
    /// How the function is applied. `None`: the task contains the function.
    pub mode: Option<Mode>,
    pub task: Bound<'py, PyAny>,
}

type WorkerFigures = (u32, bool, u32, f64, f64, u64, u64);

#[pymethods]
impl PoolCore {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A thread that holds a lock is using the object, so it is not garbage.
        if let Ok(error) = self.error.try_lock() {
            visit.call(&*error)?;
        }
        if let Ok(kept) = self.kept.try_lock() {
            for one in &*kept {
                visit.call(&one.func)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let (error, kept) = (lock(&self.error).take(), std::mem::take(&mut *lock(&self.kept)));
        drop((error, kept)); // after the locks are released: releasing these may run Python code
    }

    #[new]
    #[pyo3(signature = (name=None))]
    fn new(py: Python<'_>, name: Option<&Bound<'_, PyString>>) -> PyResult<Self> {
        Ok(Self {
            pool: Pool::labelled(Called::here(py, name).label()).map_err(raise)?,
            pid: std::process::id(),
            error: Mutex::default(),
            kept: Mutex::default(),
        })
    }

    #[getter]
    fn handle(&self) -> u64 {
        self.pool.handle().to_bits()
    }

    /// The descriptor that is readable when the workers must be checked: see `overdue` and `needs_workers`.
    #[getter]
    fn notice(&self) -> i32 {
        self.pool.notice().as_fd().as_raw_fd()
    }

    /// Reserve a slot for a worker. Return the worker's index.
    fn enlist(&self) -> PyResult<u32> {
        self.pool.enlist().map_err(raise)
    }

    fn is_ready(&self, worker_index: u32) -> bool {
        self.pool.is_ready(worker_index)
    }

    fn is_busy(&self, worker_index: u32) -> bool {
        self.pool.is_busy(worker_index)
    }

    /// Tell the worker to exit after its current task.
    fn dismiss(&self, worker_index: u32) {
        self.pool.dismiss(worker_index);
    }

    /// Record that the worker's process has ended. Return whether its initializer had begun, whether the worker was
    /// ready, and the reason why it was not.
    #[pyo3(signature = (worker_index, pid, exitcode, out_of_memory=false, stack=None))]
    fn reap(
        &self,
        py: Python<'_>,
        worker_index: u32,
        pid: i32,
        exitcode: i32,
        out_of_memory: bool,
        stack: Option<String>,
    ) -> PyResult<(bool, bool, Option<Py<PyAny>>)> {
        let death = WorkerDeath {
            pid,
            exitcode,
            out_of_memory,
            stack,
            arguments: None,
        };
        Ok(match self.pool.reap(worker_index, death).map_err(raise)? {
            WorkerEnd::Worked { .. } => (true, true, None),
            WorkerEnd::Unready { begun } => (begun, false, None),
            WorkerEnd::Failed(why) => (true, false, Some(rebuild(py, why)?.unbind())),
        })
    }

    /// Return the indexes of the workers that must be stopped, and the number of seconds after which to ask again.
    fn overdue(&self) -> (Vec<u32>, Option<f64>) {
        let overdue = self.pool.overdue();
        (overdue.worker_indexes, overdue.again.map(|time| time.as_secs_f64()))
    }

    /// Return the numbers of done, queued and running tasks, and the figures of each worker.
    fn stats(&self) -> (u64, u64, u64, Vec<WorkerFigures>) {
        let stats = self.pool.stats();
        let workers = stats.workers.iter().map(|one| {
            let (busy, idle) = (one.busy.as_secs_f64(), one.idle.as_secs_f64());
            (
                one.worker_index,
                one.running,
                one.tasks,
                busy,
                idle,
                one.received,
                one.sent,
            )
        });
        (stats.done, stats.queued, stats.running, workers.collect())
    }

    /// Submit one call. `timeout` is in seconds for each task (in chunks: each item), after which its worker is
    /// stopped; `retries` counts further tries after the death of a worker. Raise `ValueError` outside the process that
    /// made the pool. `priority`: 0 to 2, the highest first. `name`: the function's in errors.
    #[pyo3(signature = (func, args, kwds, timeout=None, retries=0, priority=1, name=None))]
    #[allow(clippy::too_many_arguments)] // the call, and its options
    fn call(
        slf: &Bound<'_, Self>,
        func: &Bound<'_, PyAny>,
        args: &Bound<'_, PyAny>,
        kwds: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        retries: u32,
        priority: u8,
        name: Option<&str>,
    ) -> PyResult<PoolJob> {
        let this = slf.get();
        if !this.pool.is_mine() {
            return Err(PyErr::from_value(helper(func.py(), "_foreign")?.call1((this.pid,))?));
        }
        let call = this.prepare(func, args, kwds)?;
        let function = call.function.as_deref();
        let options = JobOptions::of(options(timeout, retries, priority));
        let func = &named(func, name)?;
        let refused = match pack_task(&call.task)? {
            Ok(task) => {
                let job = this.pool.call(function, options, task).map_err(raise)?;
                return Ok(Self::wrap(slf, job, Shape::Call, func, call.mode));
            }
            Err(error) => error,
        };
        let job = Self::wrap(slf, this.pool.job(function, options), Shape::Call, func, call.mode);
        job.refuse_rest(refused);
        Ok(job)
    }

    /// Create a job: tasks of one function, to be fed to it.
    #[pyo3(signature = (func, mode, by_time, timeout=None, retries=0, priority=1, name=None))]
    #[allow(clippy::too_many_arguments)] // as above
    fn job(
        slf: &Bound<'_, Self>,
        func: &Bound<'_, PyAny>,
        mode: u8,
        by_time: bool,
        timeout: Option<f64>,
        retries: u32,
        priority: u8,
        name: Option<&str>,
    ) -> PyResult<PoolJob> {
        let tasks = options(timeout, retries, priority);
        let (options, mode) = (JobOptions { by_time, tasks }, Mode::of(mode, timeout.is_some())?);
        let function =
            dump_function(func, mode).and_then(|(message, _)| slf.get().pool.function(message).map_err(raise));
        let func = &named(func, name)?;
        match function {
            Ok(function) => Ok(Self::start(slf, Some(&function), options, func, Some(mode))),
            Err(error) => {
                let error = catchable(func.py(), error)?;
                let job = Self::start(slf, None, options, func, Some(mode));
                job.refuse_rest(error);
                Ok(job)
            }
        }
    }

    fn close(&self) {
        self.pool.close();
    }

    /// Terminate the pool. Unfinished tasks fail with `error()`.
    fn terminate(&self, error: Py<PyAny>) {
        let mut first = lock(&self.error);
        let later = if first.is_some() {
            Some(error)
        } else {
            first.replace(error)
        };
        drop(first);
        drop(later); // after the lock is released: releasing it may run Python code
        self.pool.terminate();
    }

    /// Return True if no task is unfinished and none can come.
    fn is_idle(&self) -> bool {
        self.pool.is_idle()
    }

    /// Return True if workers that exited must be replaced.
    fn needs_workers(&self) -> bool {
        self.pool.needs_workers()
    }

    /// Wait for the next complete job of those to be announced. Return its key, or None if there will be none.
    fn next_completed(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        Ok(wait(py, || self.pool.next_completed(deadline(None)))?.flatten())
    }
}

impl PoolCore {
    pub fn start(
        slf: &Bound<'_, Self>,
        function: Option<&Function>,
        options: JobOptions,
        func: &Bound<'_, PyAny>,
        mode: Option<Mode>,
    ) -> PoolJob {
        let shape = if options.by_time { Shape::ByTime } else { Shape::InOrder };
        Self::wrap(slf, slf.get().pool.job(function, options), shape, func, mode)
    }

    fn wrap(slf: &Bound<'_, Self>, job: Job, shape: Shape, func: &Bound<'_, PyAny>, mode: Option<Mode>) -> PoolJob {
        PoolJob::new(job, shape, func.clone().unbind(), mode, slf.clone().unbind())
    }

    /// The callable that makes the error of tasks that were unfinished at termination.
    pub fn why_terminated(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.error).as_ref().map(|error| error.clone_ref(py))
    }

    /// What a call sends: only the arguments if the pool keeps the function, otherwise both.
    pub fn prepare<'py>(
        &self,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyAny>,
        kwds: &Bound<'py, PyAny>,
    ) -> PyResult<Call<'py>> {
        let py = func.py();
        if args.is_exact_instance_of::<PyTuple>() {
            if let Ok(keywords) = kwds.cast_exact::<PyDict>() {
                let mode = if keywords.is_empty() {
                    Mode::Call
                } else {
                    Mode::CallWithKeywords
                };
                if let Some(function) = self.keep(func, mode)? {
                    let task = match mode {
                        Mode::Call => args.clone(),
                        _ => PyTuple::new(py, [args, kwds])?.into_any(),
                    };
                    let (function, mode) = (Some(function), Some(mode));
                    return Ok(Call { function, mode, task });
                }
            }
        }
        let task = PyTuple::new(py, [func, args, kwds])?.into_any();
        let (function, mode) = (None, None);
        Ok(Call { function, mode, task })
    }

    /// The function as the pool keeps it. `None` for one that may differ the next time it is pickled.
    fn keep(&self, func: &Bound<'_, PyAny>, mode: Mode) -> PyResult<Option<Arc<Function>>> {
        {
            let mut kept = lock(&self.kept);
            if let Some(at) = kept.iter().rposition(|one| one.mode == mode && one.func.is(func)) {
                let last = kept.len() - 1;
                kept.swap(at, last);
                return Ok(Some(Arc::clone(&kept[last].function)));
            }
        }
        if !is_constant(func)? {
            return Ok(None);
        }
        let message = match dump_function(func, mode) {
            Ok((message, true)) => message,
            Ok((_, false)) => return Ok(None),
            // The call reports this error, because it pickles the function again. Only an interrupt or an exit is
            // passed on here.
            Err(error) => return catchable(func.py(), error).map(|_| None),
        };
        let one = Kept {
            func: func.clone().unbind(),
            mode,
            function: Arc::new(self.pool.function(message).map_err(raise)?),
        };
        let function = Arc::clone(&one.function);
        let mut kept = lock(&self.kept);
        let oldest = (kept.len() >= KEPT).then(|| kept.remove(0));
        kept.push(one);
        drop(kept);
        drop(oldest);
        Ok(Some(function))
    }
}

/// The function as errors are to name it. It keeps the function itself alive.
pub fn named<'py>(func: &Bound<'py, PyAny>, name: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
    match name {
        Some(name) => helper(func.py(), "_named")?.call1((func, name)),
        None => Ok(func.clone()),
    }
}

/// Whether this is a function of a module, without its own state.
fn is_constant(func: &Bound<'_, PyAny>) -> PyResult<bool> {
    let of_module = match func.cast_exact::<PyCFunction>() {
        Ok(builtin) => builtin.getattr("__self__")?.is_instance_of::<PyModule>(),
        Err(_) => func.is_exact_instance_of::<PyFunction>(),
    };
    Ok(of_module && !payload::has_reducer(&func.get_type())?)
}

/// Pickle a function with all its buffers in the pickle: many workers read the message, so none may take a part of it
/// over. Also returns whether the function is found by its name.
fn dump_function(func: &Bound<'_, PyAny>, mode: Mode) -> PyResult<(Message, bool)> {
    let pair = (func, mode as u8).into_pyobject(func.py())?;
    let pickled = payload::dumps_in_band(pair.as_any())?;
    Ok((pickled.pack()?, pickled.is_by_name()))
}
