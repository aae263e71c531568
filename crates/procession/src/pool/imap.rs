//! The results of an `imap`, which arrive one by one, and how far ahead its items are consumed.

use super::results::{free_workers, open_each};
use crate::error::{wait, Ours};
use crate::{wire, Error, Result};
use procession_core::pool::{Cutter, Intake, Job, Withdrawn};
use procession_core::Deadline;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;

/// The results of an [`imap`](crate::Pool::imap).
///
/// Dropping it cancels what is not done, as [`cancel`](Self::cancel) does, and frees the workers.
///
/// ```
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
    /// Cancel the rest, as [`MapResult::cancel`](crate::MapResult::cancel) does. Items that are not done fail with [`Error::Cancelled`]; the
    /// iterator consumes no more items. Returns false if all that were begun are done.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let mut results = pool.imap(|n: u64| n * n, 0..)?;
    /// assert_eq!(results.next().unwrap()?, 0);
    /// results.cancel(); // of an endless number, the rest
    /// # Ok::<(), procession::Error>(())
    /// ```
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
