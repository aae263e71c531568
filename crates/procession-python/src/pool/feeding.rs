//! A job that is fed as its results are taken.
//!
//! A thread that finds another one feeding relies on it to look again, and a thread that waits for a result relies on
//! the one that takes the result before to have the next task queued. So no signal handler may end either half way.
//! Between calls of Python code none runs here, and what such a call raises is raised when all is done.

use crate::common::name;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// How often a call may raise before feeding is left to the next caller: more often than signals come, and not for ever
/// if something is broken.
const TRIES: u32 = 100;

/// How far a job is fed. The job and what feeds it belong to the caller: an iterable may refer to its own results.
#[pyclass(frozen, module = "procession._procession")]
pub struct Feeding {
    /// The number of tasks that may be queued, running, or done and not taken.
    ahead: u64,
    /// The number of threads that wait for a result, or are about to.
    waiting: AtomicU64,
    /// Whether a thread is feeding: perhaps the calling one, from within the iterable.
    is_busy: AtomicBool,
    is_over: AtomicBool,
}

#[pymethods]
impl Feeding {
    #[new]
    fn new(ahead: u64) -> Self {
        Self {
            ahead,
            waiting: AtomicU64::new(0),
            is_busy: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }

    /// Whether there are no more tasks.
    #[getter]
    fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    /// Queue the tasks that are missing. `feed` queues the given number of them and returns False when there are no
    /// more.
    fn refill(&self, job: &Bound<'_, PyAny>, feed: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut raised = None;
        for _ in 0..TRIES {
            match self.refill_once(job, feed) {
                Ok(()) => break,
                Err(error) => raised.get_or_insert(error),
            };
        }
        raised.map_or(Ok(()), Err)
    }

    /// Return what `job.next` returns or raises, and have other threads' tasks queued.
    fn take<'py>(
        &self,
        job: &Bound<'py, PyAny>,
        feed: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.waiting.fetch_add(1, SeqCst);
        let refilled = self.refill(job, feed);
        let taken = refilled.and_then(|()| job.call_method1(name!(job.py(), "next"), (timeout,)));
        // Threads that began to wait before this result was taken did not queue a task.
        if self.waiting.fetch_sub(1, SeqCst) > 1 {
            self.refill(job, feed)?;
        }
        taken
    }
}

impl Feeding {
    fn refill_once(&self, job: &Bound<'_, PyAny>, feed: &Bound<'_, PyAny>) -> PyResult<()> {
        // SYNC: a thread that is not let in has seen `is_busy`, so the one that feeds looks again after it.
        while !self.is_over() && self.missing(job)? > 0 && !self.is_busy.swap(true, SeqCst) {
            let more = self.missing(job).and_then(|missing| match missing {
                0 => Ok(true),
                _ => feed.call1((missing,))?.is_truthy(),
            });
            if let Ok(false) = more {
                self.is_over.store(true, SeqCst);
            }
            self.is_busy.store(false, SeqCst);
            more?;
        }
        Ok(())
    }

    /// The number of tasks to queue now.
    fn missing(&self, job: &Bound<'_, PyAny>) -> PyResult<u64> {
        let py = job.py();
        let taken: u64 = job.call_method0(name!(py, "taken"))?.extract()?;
        let (submitted, _): (u64, u64) = job.call_method0(name!(py, "progress"))?.extract()?;
        Ok((taken + self.ahead).saturating_sub(submitted))
    }
}
