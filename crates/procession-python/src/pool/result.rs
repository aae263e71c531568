//! The result of a call, the same object for every thread that gets it.
//!
//! The first thread that asks unpickles it. That runs the user's code, which may take long and may ask for this very
//! result, so no lock is held meanwhile. Other threads wait. The unpickling thread gets an error if it asks again,
//! because it would wait for itself.

use super::errors::helper;
use crate::common::lock;
use procession_core::Deadline;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// How long a waiter sleeps between two checks, which include signals.
const SLICE: Duration = Duration::from_millis(50);

/// Success, and the value or the exception.
type Opened<T> = (bool, T);

#[derive(Default)]
enum State {
    #[default]
    Unopened,
    /// A thread is unpickling it.
    Opening { thread: usize, awaited: bool },
    /// It is unpickled.
    Open(Opened<Py<PyAny>>),
}

#[derive(Default)]
pub struct JobResult {
    state: Mutex<State>,
    opened: Condvar,
}

impl JobResult {
    /// Return what `open` returned the first time. `None`: another thread was still unpickling at the deadline.
    pub fn get_or_open<'py>(
        &self,
        py: Python<'py>,
        deadline: Deadline,
        open: impl FnOnce() -> PyResult<Opened<Bound<'py, PyAny>>>,
    ) -> PyResult<Option<Opened<Bound<'py, PyAny>>>> {
        let me = this_thread();
        loop {
            match &mut *lock(&self.state) {
                State::Open((success, value)) => return Ok(Some((*success, value.bind(py).clone()))),
                State::Opening { thread, .. } if *thread == me => {
                    return Err(PyRuntimeError::new_err(
                        "this thread is about to unpickle the result that it asks for",
                    ))
                }
                State::Opening { awaited, .. } => *awaited = true,
                state @ State::Unopened => {
                    *state = State::Opening {
                        thread: me,
                        awaited: false,
                    };
                    break;
                }
            }
            if deadline.is_over() {
                return Ok(None);
            }
            py.detach(|| self.sleep(deadline.slice(SLICE)));
            py.check_signals()?;
        }
        let opened = open();
        let now = match &opened {
            Ok((success, value)) => State::Open((*success, value.clone().unbind())),
            // Parts of it were taken: for all that ask later, this is why there is no result.
            Err(error) => State::Open((false, undecodable(py, error))),
        };
        let before = std::mem::replace(&mut *lock(&self.state), now);
        if matches!(before, State::Opening { awaited: true, .. }) {
            self.opened.notify_all();
        }
        opened.map(Some)
    }

    fn sleep(&self, time: Duration) {
        let state = lock(&self.state);
        if matches!(*state, State::Opening { .. }) {
            // The caller checks again, whatever ended the wait.
            drop(self.opened.wait_timeout(state, time));
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A thread that holds the lock is using the object, so it is not garbage.
        match self.state.try_lock().as_deref() {
            Ok(State::Open((_, value))) => visit.call(value),
            _ => Ok(()),
        }
    }

    pub fn clear(&self) {
        let before = std::mem::take(&mut *lock(&self.state));
        drop(before); // after the lock is released: dropping it may run Python code
    }
}

fn undecodable(py: Python<'_>, error: &PyErr) -> Py<PyAny> {
    helper(py, "_undecodable")
        .and_then(|undecodable| undecodable.call1((error.value(py),)))
        .unwrap_or_else(|_| error.value(py).clone().into_any())
        .unbind()
}

/// A number that is unique among living threads.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}
