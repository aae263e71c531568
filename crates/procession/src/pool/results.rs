//! The return values of a pool's calls: results that arrive later, all together or one by one.

use crate::error::wait;
use crate::uninterrupted::uninterrupted;
use crate::{wire, Error, JoinError, Result};
use procession_core::pool::{Intake, Item, Job, Loss, Withdrawn};
use procession_core::Deadline;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// The results of a task's items, or the error of the task.
fn open<R: DeserializeOwned>(item: Option<Item>) -> Result<Vec<R>> {
    match item {
        Some(Item::Done(message)) => wire::unpack(&message),
        Some(Item::Raised(message)) => Err(match wire::unpack(&message)? {
            Ok((message, location, backtrace)) => Error::Join(JoinError::Panicked {
                message,
                location,
                backtrace,
            }),
            Err(lost) => Error::Join(JoinError::Lost(lost)),
        }),
        Some(Item::Lost(Loss::Died(death))) => Err(Error::WorkerDied {
            pid: death.pid,
            how: if death.exitcode < 0 {
                JoinError::Signaled(-death.exitcode)
            } else {
                JoinError::Exited(death.exitcode)
            },
        }),
        Some(Item::Lost(Loss::TimedOut(limit, death))) => Err(Error::TaskTimedOut { limit, pid: death.pid }),
        Some(Item::Lost(Loss::Cancelled)) => Err(Error::Cancelled),
        Some(Item::Lost(Loss::Refused | Loss::Stopped)) => Err(Error::Terminated),
        None => Err(Error::Invalid("the result was taken already")),
    }
}

/// The results of a [`map`](crate::Pool::map), available later.
pub struct MapResult<R> {
    job: Job,
    result: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for MapResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = self.is_ready();
        f.debug_struct("MapResult")
            .field("ready", &ready)
            .finish_non_exhaustive()
    }
}

impl<R> MapResult<R> {
    pub(crate) fn new(job: Job) -> Self {
        Self {
            job,
            result: PhantomData,
        }
    }

    /// Whether all items are done, successfully or not.
    pub fn is_ready(&self) -> bool {
        self.job.is_complete()
    }

    /// Wait until all items are done.
    pub fn wait(&self) {
        // `get` reports any error.
        let _ = uninterrupted(|| self.job.wait(Deadline::Never));
    }

    /// Wait at most `timeout`. Returns whether all items are done.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = Deadline::after(timeout);
        uninterrupted(|| self.job.wait(deadline)).is_ok()
    }

    /// Cancel the rest: tasks that have not begun are withdrawn, and the workers of running tasks are stopped and
    /// replaced. Cancelled items fail with [`Error::Cancelled`]. Returns false if all items were done.
    pub fn cancel(&self) -> bool {
        self.job.cancel() != Withdrawn::default()
    }
}

impl<R: DeserializeOwned> MapResult<R> {
    /// Wait until all items are done and return the results, in the order of the items.
    pub fn get(self) -> Result<Vec<R>> {
        self.fetch(Deadline::Never)
    }

    /// Like [`get`](Self::get), but fail with [`Error::TimedOut`] after `timeout`; the call may then be repeated.
    pub fn get_timeout(&self, timeout: Duration) -> Result<Vec<R>> {
        self.fetch(Deadline::after(timeout))
    }

    fn fetch(&self, deadline: Deadline) -> Result<Vec<R>> {
        uninterrupted(|| self.job.wait(deadline))?;
        let take = |number| open(uninterrupted(|| self.job.take(number, Deadline::Now))?);
        if let Some(failed) = self.job.first_failure() {
            return take(failed);
        }
        let mut results = Vec::new();
        for number in 0..self.job.progress().0 {
            results.append(&mut take(number)?);
        }
        Ok(results)
    }
}

/// The result of an [`apply_async`](crate::Pool::apply_async), available later.
#[derive(Debug)]
pub struct AsyncResult<R>(pub(crate) MapResult<R>);

impl<R> AsyncResult<R> {
    /// Whether the call has completed, successfully or not.
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    /// Wait until the call has completed.
    pub fn wait(&self) {
        self.0.wait();
    }

    /// Wait at most `timeout`. Returns whether the call has completed.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.0.wait_timeout(timeout)
    }

    /// Withdraw the task, or stop the worker that runs it; the result is then [`Error::Cancelled`]. Returns false if
    /// the task was done.
    pub fn cancel(&self) -> bool {
        self.0.cancel()
    }
}

impl<R: DeserializeOwned> AsyncResult<R> {
    /// Wait for the result and return it.
    pub fn get(self) -> Result<R> {
        only(self.0.get()?)
    }

    /// Like [`get`](Self::get), but fail with [`Error::TimedOut`] after `timeout`; the call may then be repeated.
    pub fn get_timeout(&self, timeout: Duration) -> Result<R> {
        only(self.0.get_timeout(timeout)?)
    }
}

fn only<R>(results: Vec<R>) -> Result<R> {
    results
        .into_iter()
        .next()
        .ok_or(Error::Invalid("the result was taken already"))
}

/// The results of an [`imap`](crate::Pool::imap).
pub struct Imap<I, R> {
    job: Job,
    items: Option<I>,
    /// The limit on tasks that are in progress, or done and not yet taken.
    ahead: u64,
    /// The number of workers that the queued arguments must keep busy, however large the arguments are.
    workers: u64,
    taken: u64,
    result: PhantomData<fn() -> R>,
}

impl<I, R> fmt::Debug for Imap<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

impl<A: Serialize, I: Iterator<Item = A>, R> Imap<I, R> {
    /// The results of a job over these items. At most `ahead` items for each of `workers` are in progress.
    pub(crate) fn new(job: Job, items: I, ahead: u64, workers: u64) -> Result<Self> {
        let mut imap = Self {
            job,
            items: Some(items),
            ahead: ahead * workers,
            workers,
            taken: 0,
            result: PhantomData,
        };
        imap.feed()?;
        Ok(imap)
    }

    fn feed(&mut self) -> Result<()> {
        while let Some(items) = self
            .items
            .as_mut()
            .filter(|_| self.job.progress().0 < self.taken + self.ahead)
            .filter(|_| self.job.intake(Some(self.workers)) != Intake::Full)
        {
            if let Some(item) = items.next() {
                self.job.submit(wire::pack(&[item].as_slice())?)?;
            } else {
                self.items = None;
                self.job.seal();
            }
        }
        Ok(())
    }
}

impl<A: Serialize, I: Iterator<Item = A>, R: DeserializeOwned> Iterator for Imap<I, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        if let Err(error) = self.feed() {
            self.items = None;
            self.job.seal();
            return Some(Err(error));
        }
        let number = self.taken;
        let item = match wait(|| self.job.take(number, Deadline::Never)) {
            Ok(item) => item?,
            Err(error) => return Some(Err(error.into())),
        };
        self.taken += 1;
        Some(open(Some(item)).and_then(only))
    }
}
