//! The return values of a pool's calls: results that arrive later, all together. Leaves those that arrive one by one to
//! `imap`.

use super::worker::Failure;
use super::workers::Workers;
use crate::error::Ours;
use crate::uninterrupted::uninterrupted;
#[cfg(feature = "async")]
use crate::waking::Completions;
use crate::{wire, Error, JoinError, Result};
use procession_core::channel::Message;
use procession_core::pool::{Cutter, Item, Job, Loss, Withdrawn};
use procession_core::Deadline;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
#[cfg(feature = "async")]
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{Context, Poll};
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
pub(super) fn open_each<R: DeserializeOwned>(item: &Item, count: usize) -> Vec<Result<R>> {
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
pub(super) fn free_workers(job: &Job) {
    if job.is_mine() && !job.is_complete() {
        job.cancel();
    }
}

/// The results of a [`map`](crate::Pool::map), available later.
///
/// Dropping it cancels what is not done, as [`cancel`](Self::cancel) does: no worker goes on for results that have no
/// taker. [`detach`](Self::detach) lets the tasks go on.
///
/// ```
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
    #[cfg(feature = "async")]
    completions: Arc<Completions>,
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
    pub(super) fn new(job: Job, workers: &Workers) -> Self {
        #[cfg(not(feature = "async"))]
        let _ = workers;
        Self {
            job,
            detached: false,
            #[cfg(feature = "async")]
            completions: Arc::clone(&workers.completions),
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

    /// Wake no task any more.
    #[cfg(feature = "async")]
    pub(crate) fn forget_task(&self) {
        if self.job.is_mine() {
            self.completions.forget(&self.job);
        }
    }

    /// Let the tasks go on without a taker of their results.
    ///
    /// ```
    /// let (pool, (to, from)) = (procession::Pool::new(1)?, procession::channel()?);
    /// let send = |to: procession::Sender<u8>| to.send(&1).unwrap();
    /// pool.map_async(send, [to.clone(), to])?.detach(); // dropped, it would be cancelled
    /// assert_eq!((from.recv()?, from.recv()?), (1, 1));
    /// # Ok::<(), procession::Error>(())
    /// ```
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
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = procession::Pool::new(1)?;
    /// let pending = pool.map_async(|n: u64| n * n, 0..3)?;
    /// while !pending.wait_timeout(Duration::from_millis(10)) {
    ///     println!("not yet");
    /// }
    /// pending.wait();
    /// assert!(pending.is_ready());
    /// assert_eq!(pending.get_timeout(Duration::from_secs(60))?, [0, 1, 4]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = Deadline::after(timeout);
        uninterrupted(|| self.job.wait(deadline)).is_ok()
    }

    /// Cancel the rest: tasks that have not begun are withdrawn, and the workers of running tasks are stopped and
    /// replaced. Cancelled items fail with [`Error::Cancelled`]. Returns false if all items were done.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// let hangs = pool.map_async(|(): ()| loop { std::thread::park() }, [(), ()])?;
    /// assert!(hangs.cancel());
    /// let end: procession::Result<Vec<()>> = hangs.get();
    /// assert!(matches!(end, Err(procession::Error::Cancelled)));
    /// assert_eq!(pool.apply(|n: u32| n + 1, 1)?, 2); // by another worker
    /// # Ok::<(), procession::Error>(())
    /// ```
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

    /// The results if all items are done. Otherwise wake the task once they are.
    #[cfg(feature = "async")]
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<Vec<R>>> {
        match uninterrupted(|| self.job.wait(Deadline::Now)) {
            Ok(()) => Poll::Ready(self.fetch(Deadline::Now)),
            Err(Error::TimedOut) => match self.completions.wake(&self.job, cx.waker()) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            Err(error) => Poll::Ready(Err(error)),
        }
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
/// ```
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
    #[cfg(feature = "async")]
    pub(crate) fn forget_task(&self) {
        self.0.forget_task();
    }

    /// Let the call go on without a taker of its result.
    ///
    /// ```
    /// let (pool, (to, from)) = (procession::Pool::new(1)?, procession::channel()?);
    /// pool.apply_async(|to: procession::Sender<u8>| to.send(&1).unwrap(), to)?.detach(); // dropped, it would be cancelled
    /// assert_eq!(from.recv()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
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
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = procession::Pool::new(1)?;
    /// let pending = pool.apply_async(|n: u64| n * n, 3)?;
    /// while !pending.wait_timeout(Duration::from_millis(10)) {
    ///     println!("not yet");
    /// }
    /// pending.wait();
    /// assert!(pending.is_ready());
    /// assert_eq!(pending.get_timeout(Duration::from_secs(60))?, 9);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.0.wait_timeout(timeout)
    }

    /// Withdraw the task, or stop the worker that runs it; the result is then [`Error::Cancelled`]. Returns false if
    /// the task was done.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// let hangs = pool.apply_async(|()| loop { std::thread::park() }, ())?;
    /// assert!(hangs.cancel());
    /// let end: procession::Result<()> = hangs.get();
    /// assert!(matches!(end, Err(procession::Error::Cancelled)));
    /// assert_eq!(pool.apply(|n: u32| n + 1, 1)?, 2); // by another worker
    /// # Ok::<(), procession::Error>(())
    /// ```
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

    #[cfg(feature = "async")]
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<R>> {
        self.0.poll(cx).map(|results| only(results?))
    }
}

fn only<R>(results: Vec<R>) -> Result<R> {
    results
        .into_iter()
        .next()
        .ok_or(Error::Invalid("the result was taken already"))
}
