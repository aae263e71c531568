//! The return values of a pool's calls: results that arrive later, all together or one by one.

use super::worker::Failure;
use crate::error::{wait, Ours};
use crate::uninterrupted::uninterrupted;
use crate::{wire, Error, JoinError, Result};
use procession_core::channel::Message;
use procession_core::pool::{Cutter, Intake, Item, Job, Loss, Withdrawn};
use procession_core::Deadline;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// The results of a task's items, or the error of the task.
fn open<R: DeserializeOwned>(item: Option<Item>) -> Result<Vec<R>> {
    match item {
        Some(Item::Done(message)) => wire::unpack(&message),
        Some(lost) => Err(reason(&lost)),
        None => Err(Error::Invalid("the result was taken already")),
    }
}

/// The results of a task of `count` items, each of which fails on its own.
fn open_each<R: DeserializeOwned>(item: &Item, count: usize) -> Vec<Result<R>> {
    let results = match item {
        Item::Done(message) => wire::unpack::<Vec<Result<R, Failure>>>(message),
        _ => return (0..count).map(|_| Err(reason(item))).collect(),
    };
    match results {
        Ok(results) => results.into_iter().map(|result| result.map_err(failed)).collect(),
        Err(error) => {
            let text = error.to_string();
            let lost = || Error::Join(JoinError::Lost(text.clone()));
            (0..count).map(|_| Err(lost())).collect()
        }
    }
}

fn failed(failure: Failure) -> Error {
    Error::Join(match failure {
        Ok((message, location, backtrace)) => JoinError::Panicked {
            message,
            location,
            backtrace,
        },
        Err(lost) => JoinError::Lost(lost),
    })
}

/// Why a task has no results.
fn reason(item: &Item) -> Error {
    match item {
        Item::Done(_) => Error::Invalid("the task has results"),
        Item::Raised(message) => wire::unpack(message).map_or_else(|error| error, failed),
        Item::Lost(Loss::Died(death)) => Error::WorkerDied {
            pid: death.pid,
            how: if death.exitcode < 0 {
                JoinError::Signaled {
                    signal: -death.exitcode,
                }
            } else {
                JoinError::Exited { code: death.exitcode }
            },
        },
        Item::Lost(Loss::TimedOut(limit, death)) => Error::TaskTimedOut {
            limit: *limit,
            pid: death.pid,
        },
        Item::Lost(Loss::Cancelled) => Error::Cancelled,
        Item::Lost(Loss::Refused | Loss::Stopped) => Error::Terminated,
    }
}

/// Stop what is left of a job: its results have no taker.
fn free_workers(job: &Job) {
    if job.is_mine() && !job.is_complete() {
        job.cancel();
    }
}

/// The results of a [`map`](crate::Pool::map), available later.
///
/// Dropping it cancels what is not done, as [`cancel`](Self::cancel) does: no worker goes on for results that have no
/// taker. [`detach`](Self::detach) lets the tasks go on.
///
/// ```no_run
/// # fn square(n: u64) -> u64 { n * n }
/// let pool = procession::Pool::new(2)?;
/// let pending = pool.map_async(square, 0..3)?;
/// assert_eq!(pending.get()?, [0, 1, 4]);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "the tasks are cancelled if it is dropped"]
pub struct MapResult<R> {
    job: Job,
    detached: bool,
    result: PhantomData<fn() -> R>,
}

impl<R> Drop for MapResult<R> {
    fn drop(&mut self) {
        if !self.detached {
            free_workers(&self.job);
        }
    }
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
            detached: false,
            result: PhantomData,
        }
    }

    pub(crate) fn submit(&self, task: Message) -> Result<()> {
        self.job.submit(task).ours()?;
        Ok(())
    }

    /// How many items the next task is to have.
    pub(crate) fn cut(&self, cutter: &mut Cutter) -> u64 {
        cutter.next(&self.job)
    }

    pub(crate) fn seal(&self) {
        self.job.seal();
    }

    /// Let the tasks go on without a taker of their results.
    pub fn detach(mut self) {
        self.detached = true;
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

    /// Wait until all items are done and return the result of each, in order.
    pub(crate) fn get_each(self, count: u64) -> Result<Vec<Result<R>>> {
        let mut results = Vec::new();
        for number in 0..count {
            let item = uninterrupted(|| self.job.take(number, Deadline::Never))?;
            results.append(&mut open_each(&item.ok_or(Error::Terminated)?, 1));
        }
        Ok(results)
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
///
/// Dropping it cancels the call if it is not done: no worker goes on for a result that has no taker.
/// [`detach`](Self::detach) lets it go on.
///
/// ```no_run
/// # fn square(n: u64) -> u64 { n * n }
/// let pool = procession::Pool::new(2)?;
/// let pending = pool.apply_async(square, 3)?;
/// assert_eq!(pending.get()?, 9);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "the call is cancelled if it is dropped"]
pub struct AsyncResult<R>(pub(crate) MapResult<R>);

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncResult").field(&self.0).finish()
    }
}

impl<R> AsyncResult<R> {
    /// Let the call go on without a taker of its result.
    pub fn detach(self) {
        self.0.detach();
    }

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
///
/// Dropping it cancels what is not done, as [`cancel`](Self::cancel) does, and frees the workers.
///
/// ```no_run
/// # fn square(n: u64) -> u64 { n * n }
/// let pool = procession::Pool::new(2)?;
/// for result in pool.imap(square, 0..)?.take(3) {
///     println!("{}", result?);
/// }
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "results are computed as they are taken, and the rest is cancelled if it is dropped"]
pub struct Imap<I, R> {
    job: Job,
    items: Option<I>,
    cutter: Cutter,
    /// The size of the next task, once it is known.
    size: Option<u64>,
    /// Whether each item is a task.
    alone: bool,
    /// The bytes of an item, as of the last task.
    weight: usize,
    /// The sizes of the tasks that are in progress, or done and not yet taken; their sum.
    sizes: VecDeque<u64>,
    ahead: u64,
    /// The number of workers that the queued arguments must keep busy, however large the arguments are.
    workers: u64,
    taken: u64,
    /// Results of the last task taken.
    ready: VecDeque<Result<R>>,
}

/// The limit on items in progress, for each worker.
const AHEAD: u64 = 64;
/// The limit on items of a task: each worker has some tasks waiting.
const TOGETHER: u64 = AHEAD / 4;
/// The limit on bytes of a task of several items.
const TASK_BYTES: usize = 64 * 1024;

impl<I, R> fmt::Debug for Imap<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

impl<I, R> Drop for Imap<I, R> {
    fn drop(&mut self) {
        free_workers(&self.job);
    }
}

impl<I, R> Imap<I, R> {
    /// Cancel the rest, as [`MapResult::cancel`] does. Items that are not done fail with [`Error::Cancelled`]; the
    /// iterator consumes no more items. Returns false if all that were begun are done.
    pub fn cancel(&mut self) -> bool {
        self.items = None;
        self.job.cancel() != Withdrawn::default()
    }
}

impl<A: Serialize, I: Iterator<Item = A>, R> Imap<I, R> {
    /// The results of a job over these items.
    pub(crate) fn new(job: Job, items: I, workers: u64, alone: bool) -> Result<Self> {
        let length = items.size_hint().1.map_or(u64::MAX, |most| most as u64);
        let mut imap = Self {
            job,
            items: Some(items),
            cutter: Cutter::new(length, workers as usize),
            size: None,
            alone,
            weight: 0,
            sizes: VecDeque::new(),
            ahead: 0,
            workers,
            taken: 0,
            ready: VecDeque::new(),
        };
        imap.feed()?;
        Ok(imap)
    }

    /// The number of items in the next task, if there is room for it.
    fn room(&mut self) -> Option<u64> {
        let size = match self.size {
            Some(size) => size,
            None if self.alone => 1,
            None => {
                let light = (TASK_BYTES / self.weight.max(1)) as u64;
                self.cutter.next(&self.job).min(TOGETHER).min(light).max(1)
            }
        };
        self.size = Some(size);
        let fits = self.ahead + size <= AHEAD * self.workers;
        (fits && self.job.intake(Some(self.workers)) != Intake::Full).then_some(size)
    }

    fn feed(&mut self) -> Result<()> {
        while self.items.is_some() {
            let Some(size) = self.room() else { break };
            let Some(items) = &mut self.items else { break };
            let task: Vec<A> = items.take(size as usize).collect();
            let count = task.len() as u64;
            if count > 0 {
                let message = wire::pack(&task)?;
                self.weight = message.size() / task.len();
                self.job.submit(message).ours()?;
                self.sizes.push_back(count);
                self.ahead += count;
                self.size = None;
            }
            if count < size {
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
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        if let Err(error) = self.feed() {
            self.items = None;
            self.job.seal();
            return Some(Err(error));
        }
        let number = self.taken;
        let item = match wait(|| self.job.take(number, Deadline::Never)) {
            Ok(item) => item?,
            Err(error) => return Some(Err(Error::engine(error))),
        };
        self.taken += 1;
        let count = self.sizes.pop_front().unwrap_or(1);
        self.ahead -= count;
        self.ready.extend(open_each(&item, count as usize));
        self.ready.pop_front()
    }
}
