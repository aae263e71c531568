//! Bindings of the pool, parent side, for an executor: calls of any functions. One thread takes the results in order of
//! completion.

use super::core::{named, PoolCore};
use super::job::{pack_task, PoolJob};
use super::options;
use super::worker::Mode;
use crate::common::lock;
use crate::common::{deadline, wait};
use procession_core::pool::JobOptions;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::collections::HashMap;
use std::sync::Mutex;

/// Calls in progress, and their futures.
#[pyclass(frozen, module = "procession._procession")]
pub struct PoolStream {
    core: Py<PoolCore>,
    job: PoolJob,
    futures: Mutex<Futures>,
}

#[derive(Default)]
struct Futures {
    by_number: HashMap<u64, StreamCall>,
    closed: bool,
}

struct StreamCall {
    future: Py<PyAny>,
    func: Py<PyAny>,
    mode: Option<Mode>,
}

#[pymethods]
impl PoolStream {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        // A thread that holds the lock is using the object, so it is not garbage.
        if let Ok(futures) = self.futures.try_lock() {
            for call in futures.by_number.values() {
                visit.call(&call.future)?;
                visit.call(&call.func)?;
            }
        }
        self.job.__traverse__(visit)
    }

    fn __clear__(&self) {
        let calls = std::mem::take(&mut lock(&self.futures).by_number);
        drop(calls); // after the lock is released: releasing these may run Python code
        self.job.__clear__();
    }

    #[new]
    fn new(core: &Bound<'_, PoolCore>, timeout: Option<f64>, retries: u32, priority: u8) -> Self {
        let options = JobOptions {
            by_time: true,
            tasks: options(timeout, retries, priority),
        };
        Self {
            job: PoolCore::start(core, None, options, core.py().None().bind(core.py()), None),
            core: core.clone().unbind(),
            futures: Mutex::default(),
        }
    }

    /// Submit a call. Return the task's number, or None if the stream is closed. `own`: the call's timeout, retries,
    /// priority and name in errors, in place of the stream's.
    #[pyo3(signature = (future, func, args, kwds, own=None))]
    fn submit(
        &self,
        future: Py<PyAny>,
        func: &Bound<'_, PyAny>,
        args: &Bound<'_, PyAny>,
        kwds: &Bound<'_, PyAny>,
        own: Option<(Option<f64>, u32, u8, Option<String>)>,
    ) -> PyResult<Option<u64>> {
        let call = self.core.get().prepare(func, args, kwds)?;
        let task = pack_task(&call.task)?;
        let (func, own) = match own {
            None => (func.clone(), None),
            Some((timeout, retries, priority, name)) => {
                let own = options(timeout, retries, priority);
                (named(func, name.as_deref())?, Some(own))
            }
        };
        let (func, mode) = (func.unbind(), call.mode);
        // Held over both steps, so that no thread finds the result before its future. No Python code runs in between.
        let mut futures = lock(&self.futures);
        if futures.closed {
            return Ok(None);
        }
        let number = self.job.submit(call.function.as_deref(), own, task)?;
        futures.by_number.insert(number, StreamCall { future, func, mode });
        Ok(Some(number))
    }

    /// Wait for a result. Return up to `limit` of (future, success, value or exception); none if the stream is closed
    /// and all tasks have ended.
    fn take<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let batch = wait(py, || self.job.job.take_batch(limit.max(1), deadline(None)))?.unwrap_or_default();
        let results = PyList::empty(py);
        for (number, item) in batch {
            let Some(StreamCall { future, func, mode }) = lock(&self.futures).by_number.remove(&number) else {
                continue;
            };
            let (success, value) = self
                .job
                .open_call(func.bind(py), mode, number, item)
                .unwrap_or_else(|error| (false, error.into_value(py).into_bound(py).into_any()));
            results.append((future, success, value))?;
        }
        Ok(results)
    }

    /// Stop a task that has not begun, or with `running` one that has not ended. Return whether it is stopped.
    fn cancel(&self, number: u64, running: bool) -> bool {
        if !running {
            return self.job.job.cancel_one_pending(number);
        }
        let withdrawn = self.job.job.cancel_one(number);
        withdrawn.pending + withdrawn.running > 0
    }

    /// Stop the tasks that no worker has begun. Return their futures.
    fn cancel_pending(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let numbers = self.job.job.cancel_pending();
        let futures = lock(&self.futures);
        let calls = numbers.iter().filter_map(|number| futures.by_number.get(number));
        calls.map(|call| call.future.clone_ref(py)).collect()
    }

    fn is_running(&self, number: u64) -> bool {
        self.job.job.is_running(number)
    }

    /// Return the number of tasks whose results were not taken.
    fn pending(&self) -> usize {
        lock(&self.futures).by_number.len()
    }

    /// Declare that there are no more tasks.
    fn close(&self) {
        lock(&self.futures).closed = true;
        self.job.job.seal();
    }
}
