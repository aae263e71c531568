//! What a pool's calls return: results to come, in one piece or one by one.

use crate::error::wait;
use crate::patience::patiently;
use crate::{wire, Error, JoinError, Result};
use procession_core::pool::{Intake, Item, Job, Loss, Withdrawn};
use procession_core::Deadline;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// What became of a task's items.
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

/// Results of a [`map`](crate::Pool::map) to come.
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

    /// Whether all is done, well or not.
    pub fn is_ready(&self) -> bool {
        self.job.is_complete()
    }

    /// Wait until all is done.
    pub fn wait(&self) {
        // What could go wrong is told by `get`.
        let _ = patiently(|| self.job.wait(Deadline::Never));
    }

    /// Wait at most `timeout`; whether all is done.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = Deadline::after(timeout);
        patiently(|| self.job.wait(deadline)).is_ok()
    }

    /// Have no more done of it: tasks not begun are taken back, the workers of those that run are stopped and replaced. False if all was done.
    /// What was not fails with [`Error::Cancelled`].
    pub fn cancel(&self) -> bool {
        self.job.cancel() != Withdrawn::default()
    }
}

impl<R: DeserializeOwned> MapResult<R> {
    /// The results, in the order of the items, when all is done.
    pub fn get(self) -> Result<Vec<R>> {
        self.fetch(Deadline::Never)
    }

    /// As [`get`](Self::get), but [`Error::TimedOut`] after `timeout`: then it may be tried again.
    pub fn get_timeout(&self, timeout: Duration) -> Result<Vec<R>> {
        self.fetch(Deadline::after(timeout))
    }

    fn fetch(&self, deadline: Deadline) -> Result<Vec<R>> {
        patiently(|| self.job.wait(deadline))?;
        let take = |number| open(patiently(|| self.job.take(number, Deadline::Now))?);
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

/// The result of an [`apply_async`](crate::Pool::apply_async) to come.
#[derive(Debug)]
pub struct AsyncResult<R>(pub(crate) MapResult<R>);

impl<R> AsyncResult<R> {
    /// Whether the call has ended, well or not.
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    /// Wait until it has ended.
    pub fn wait(&self) {
        self.0.wait();
    }

    /// Wait at most `timeout`; whether it has ended.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.0.wait_timeout(timeout)
    }

    /// Take the task back, or stop the worker that is at it: the result is [`Error::Cancelled`]. False if it was done.
    pub fn cancel(&self) -> bool {
        self.0.cancel()
    }
}

impl<R: DeserializeOwned> AsyncResult<R> {
    /// The result, when it is there.
    pub fn get(self) -> Result<R> {
        only(self.0.get()?)
    }

    /// As [`get`](Self::get), but [`Error::TimedOut`] after `timeout`: then it may be tried again.
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
    /// How many tasks may be under way or done and not taken,
    ahead: u64,
    /// and for how many workers their arguments must suffice, however large these are.
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
    /// The results of a job of these items, `ahead` of which for each of so many workers are under way at most.
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
