//! `put_many` and `get_many`.

use super::{exception, failed, is_true, Queue};
use crate::common::{lock_deadline, name, poll_deadline, wait};
use crate::payload;
use procession_core::channel::{Message, Queue as Engine};
use procession_core::{Deadline, WaitError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

/// Pickle all items, then put them. Of an exception that ends the puts, `put_count` is the number of items that were
/// put.
pub fn put(
    slf: &Bound<'_, Queue>,
    items: &Bound<'_, PyAny>,
    block: Option<&Bound<'_, PyAny>>,
    timeout: Option<f64>,
) -> PyResult<()> {
    let py = slf.py();
    let engine = Queue::open(slf)?;
    let later = if is_true(block)? {
        Some(lock_deadline(timeout)?)
    } else {
        None
    };
    let mut messages = items
        .try_iter()?
        .map(|item| payload::dumps(&item?)?.pack())
        .collect::<PyResult<VecDeque<Message>>>()?;
    slf.get().used.store(true, Relaxed);
    let count = messages.len();
    let put = match (engine.put_many(&mut messages, Deadline::Now), later) {
        (Ok(()), _) => Ok(Some(())),
        (Err(WaitError::TimedOut | WaitError::Interrupted), Some(deadline)) => {
            wait(py, || engine.put_many(&mut messages, deadline))
        }
        (Err(WaitError::TimedOut | WaitError::Interrupted), None) => Ok(None),
        (Err(error), _) => Err(failed(error)),
    };
    // Right after the return, a handler could not say what was put.
    let error = match put.and_then(|put| py.check_signals().map(|()| put)) {
        Ok(Some(())) => return Ok(()),
        Ok(None) => exception(py, "Full")?,
        Err(error) => error,
    };
    // An exception may refuse attributes. It is raised all the same.
    let _ = error.value(py).setattr(name!(py, "put_count"), count - messages.len());
    Err(error)
}

/// Take up to `most` items, waiting for the first. If an exception ends this, the next `get` returns what was taken.
pub fn get<'py>(
    slf: &Bound<'py, Queue>,
    most: i64,
    block: Option<&Bound<'py, PyAny>>,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyList>> {
    let py = slf.py();
    let engine = Queue::open(slf)?;
    let most = usize::try_from(most).ok().filter(|&most| most > 0);
    let most = most.ok_or_else(|| PyValueError::new_err("max must be at least 1"))?;
    let later = if is_true(block)? {
        Some(poll_deadline(timeout)?)
    } else {
        None
    };
    let items = PyList::empty(py);
    match fill(slf.get(), engine, &items, most, later) {
        Ok(()) if items.is_empty() => Err(exception(py, "Empty")?),
        Ok(()) => Ok(items),
        Err(error) => {
            slf.get().leftovers.put_before(&items);
            slf.get().announce_leftovers(engine);
            Err(error)
        }
    }
}

fn fill(
    queue: &Queue,
    engine: &Engine,
    items: &Bound<'_, PyList>,
    mut most: usize,
    later: Option<Deadline>,
) -> PyResult<()> {
    let py = items.py();
    let mut run = Vec::new();
    let mut limited = false;
    while items.len() < most {
        if let Some(leftover) = queue.pop_leftover(py) {
            items.append(leftover.load(py)?)?;
            continue;
        }
        let rest = most - items.len();
        let took = match (engine.get_many(rest, Deadline::Now, &mut run), later) {
            (Err(WaitError::TimedOut | WaitError::Interrupted), Some(deadline)) if items.is_empty() => {
                let over = || queue.leftovers.any();
                wait(py, || match engine.get_many_or(rest, deadline, &mut run, over) {
                    Err(WaitError::Interrupted) if over() => Ok(()),
                    took => took,
                })
                .map(|took| took.is_some())
            }
            (Err(WaitError::TimedOut | WaitError::Interrupted), _) => Ok(false),
            (took, _) => took.map(|()| true).map_err(failed),
        };
        if !run.is_empty() && !limited {
            // What producers put from now on is not for this call: it would not end as long as they are faster.
            limited = true;
            let there = usize::try_from(engine.extent()).unwrap_or(usize::MAX);
            most = most.min((items.len() + run.len()).saturating_add(there));
        }
        queue.update_readiness();
        let mut messages = run.drain(..);
        while let Some(message) = messages.next() {
            let added = payload::loads(py, message).and_then(|item| items.append(item));
            if let Err(error) = added {
                queue.leftovers.put_behind(py, messages);
                return Err(error);
            }
        }
        drop(messages);
        if !took? {
            break;
        }
        // A handler that ran right after the return would lose what was taken.
        py.check_signals()?;
    }
    // After the last run, and after leftovers.
    py.check_signals()
}
