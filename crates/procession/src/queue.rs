//! A queue of values between processes.

use crate::error::Ours;
use crate::label::label;
use crate::uninterrupted::uninterrupted;
use crate::wire;
use crate::{Error, Result};
use procession_core::arena::Ref;
use procession_core::ids::Handle;
use procession_core::{channel, Deadline, WaitError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A first-in first-out queue that any process of the family can put items into and get items from.
///
/// It has what `multiprocessing.Queue` has. A [`channel`](crate::channel()) also knows when the other side is gone.
///
/// It has no thread and no pipe: when [`put`](Self::put) returns, the item is in shared memory and outlives the process
/// that put it. A clone, or a copy sent to another process as an argument or inside an item, is the same queue.
///
/// ```
/// let queue = procession::Queue::new()?;
/// queue.put(&(1, "one".to_string()))?;
/// assert!(!queue.is_empty()?);
/// assert_eq!(queue.get()?, (1, "one".to_string()));
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Queue<T> {
    inner: Ref<channel::Queue>,
    items: PhantomData<fn(T) -> T>,
}

impl wire::SharedObject for Ref<channel::Queue> {
    const NAME: &'static str = "queue";
    fn handle(&self) -> Handle {
        Ref::handle(self)
    }
    fn attach(handle: Handle) -> procession_core::Result<Self> {
        Ref::attach(handle)
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            items: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.inner.len().ok();
        f.debug_struct("Queue").field("len", &len).finish_non_exhaustive()
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        wire::serialize(&self.inner, to)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        wire::deserialize(from).map(|inner| Self {
            inner,
            items: PhantomData,
        })
    }
}

impl<T> Queue<T> {
    /// Create a queue that grows as long as memory lasts.
    #[track_caller]
    pub fn new() -> Result<Self> {
        Self::create(0, None)
    }

    /// As [`new`](Self::new), with a name of at most 64 bytes, which the `procession` command shows.
    ///
    /// ```
    /// let orders = procession::Queue::named("orders")?;
    /// orders.put(&1)?;
    /// assert_eq!(orders.name().as_deref(), Some("orders"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    ///
    /// ```
    /// let jobs = procession::Queue::<u32>::named("jobs")?;
    /// assert_eq!(jobs.name().as_deref(), Some("jobs"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn named(name: &str) -> Result<Self> {
        Self::create(0, Some(name))
    }

    /// As [`bounded`](Self::bounded), with a name, as [`named`](Self::named).
    ///
    /// ```
    /// let jobs = procession::Queue::<u32>::bounded_named("jobs", 8)?;
    /// assert_eq!(jobs.name().as_deref(), Some("jobs"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn bounded_named(name: &str, capacity: u64) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::Invalid("a bounded queue needs a capacity of at least 1"));
        }
        Self::create(capacity, Some(name))
    }

    /// The name that it was made with.
    pub fn name(&self) -> Option<String> {
        self.inner.name()
    }

    /// Create a queue for at most `capacity` items; `put` waits while it is full.
    ///
    /// ```
    /// let queue = procession::Queue::bounded(1)?;
    /// queue.put(&'a')?;
    /// assert!(queue.is_full()? && queue.len()? == 1);
    /// assert!(matches!(queue.try_put(&'b'), Err(procession::Error::TimedOut)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn bounded(capacity: u64) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::Invalid("a bounded queue needs a capacity of at least 1"));
        }
        Self::create(capacity, None)
    }

    #[track_caller]
    fn create(maxsize: u64, name: Option<&str>) -> Result<Self> {
        let inner = channel::Queue::labelled(maxsize, label(name)).ours()?;
        Ok(Self {
            inner,
            items: PhantomData,
        })
    }

    /// The number of items in the queue.
    pub fn len(&self) -> Result<u64> {
        self.inner.len().ours()
    }

    /// Whether the queue is empty. The answer is exact, even right after another process's `put`.
    pub fn is_empty(&self) -> Result<bool> {
        self.inner.is_empty().ours()
    }

    /// Whether a `put` would have to wait.
    pub fn is_full(&self) -> Result<bool> {
        self.inner.is_full().ours()
    }

    /// Indicate that an item taken from the queue has been processed; see [`join`](Self::join).
    pub fn task_done(&self) -> Result<()> {
        if self.inner.task_done() {
            Ok(())
        } else {
            Err(Error::Invalid("task_done() called too many times"))
        }
    }

    /// Wait until `task_done` has been called for every item that was put.
    ///
    /// ```
    /// use procession::Queue;
    ///
    /// fn work(jobs: Queue<u32>) {
    ///     while let Ok(job) = jobs.get() {
    ///         println!("doing {job}");
    ///         jobs.task_done().unwrap();
    ///     }
    /// }
    /// let jobs = Queue::new()?;
    /// procession::Builder::new().daemon(true).spawn(work, jobs.clone())?;
    /// jobs.put_many(&[1, 2, 3])?;
    /// jobs.join()?; // all three are done
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join(&self) -> Result<()> {
        uninterrupted(|| self.inner.join(Deadline::Never))
    }
}

impl<T: Serialize> Queue<T> {
    /// Put an item, waiting while the queue is full.
    pub fn put(&self, item: &T) -> Result<()> {
        self.put_until(item, Deadline::Never)
    }

    /// Put an item if there is room. [`Error::TimedOut`] if the queue is full.
    pub fn try_put(&self, item: &T) -> Result<()> {
        self.put_until(item, Deadline::Now)
    }

    /// Put an item, waiting no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let queue = procession::Queue::bounded(1)?;
    /// queue.put(&1)?;
    /// assert!(queue.put_timeout(&2, Duration::from_millis(1)).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_timeout(&self, item: &T, timeout: Duration) -> Result<()> {
        self.put_until(item, Deadline::after(timeout))
    }

    /// Put all items, in order, waiting while the queue is full. Faster than a [`put`](Self::put) of each.
    ///
    /// All are serialized before the first is put: if one cannot be, none is put. Items of other processes may come to
    /// lie between them.
    ///
    /// ```
    /// let queue = procession::Queue::new()?;
    /// queue.put_many(&[1, 2, 3])?;
    /// assert_eq!(queue.get_many(2)?, [1, 2]);
    /// assert_eq!(queue.get_many(2)?, [3]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many<'a>(&self, items: impl IntoIterator<Item = &'a T>) -> Result<()>
    where
        T: 'a,
    {
        self.put_many_until(items, Deadline::Never).map(drop)
    }

    /// Put the first of these items, as many as there is room for, and return their number.
    ///
    /// ```
    /// let queue = procession::Queue::bounded(2)?;
    /// assert_eq!(queue.try_put_many(&[1, 2, 3])?, 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_put_many<'a>(&self, items: impl IntoIterator<Item = &'a T>) -> Result<usize>
    where
        T: 'a,
    {
        self.put_many_until(items, Deadline::Now)
    }

    /// Put all items, in order, waiting no longer than `timeout` in all. Returns the number of those that were put.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let queue = procession::Queue::bounded(2)?;
    /// assert_eq!(queue.put_many_timeout(&[1, 2, 3], Duration::from_millis(1))?, 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn put_many_timeout<'a>(&self, items: impl IntoIterator<Item = &'a T>, timeout: Duration) -> Result<usize>
    where
        T: 'a,
    {
        self.put_many_until(items, Deadline::after(timeout))
    }

    fn put_many_until<'a>(&self, items: impl IntoIterator<Item = &'a T>, deadline: Deadline) -> Result<usize>
    where
        T: 'a,
    {
        let mut messages = items.into_iter().map(wire::pack).collect::<Result<VecDeque<_>>>()?;
        let count = messages.len();
        match uninterrupted(|| self.inner.put_many(&mut messages, deadline)) {
            Ok(()) | Err(Error::TimedOut) => Ok(count - messages.len()),
            Err(error) => Err(error),
        }
    }

    fn put_until(&self, item: &T, deadline: Deadline) -> Result<()> {
        let mut message = Some(wire::pack(item)?);
        uninterrupted(|| self.inner.put(&mut message, deadline))
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Take the oldest item, waiting until there is one.
    pub fn get(&self) -> Result<T> {
        self.get_until(Deadline::Never)
    }

    /// Take the oldest item, waiting no longer than `timeout`. [`Error::TimedOut`] if there was none.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let queue = procession::Queue::<u8>::new()?;
    /// let got = queue.get_timeout(Duration::from_millis(1));
    /// assert!(matches!(got, Err(procession::Error::TimedOut)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        self.get_until(Deadline::after(timeout))
    }

    /// Take the oldest item if there is one.
    ///
    /// ```
    /// let queue = procession::Queue::new()?;
    /// queue.put(&1)?;
    /// assert_eq!((queue.try_get()?, queue.try_get()?), (Some(1), None));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get(&self) -> Result<Option<T>> {
        match self.inner.get(Deadline::Now) {
            Ok(incoming) => wire::unpack(&incoming).map(Some),
            Err(WaitError::TimedOut) => Ok(None),
            Err(error) => Err(Error::wait(error)),
        }
    }

    /// Take the oldest items: at least one, at most `max`. Waits for the first only.
    ///
    /// If one of them is no `T`, returns that error, and all items that it had taken are gone.
    pub fn get_many(&self, max: usize) -> Result<Vec<T>> {
        self.get_many_until(max, Deadline::Never)
    }

    /// As [`get_many`](Self::get_many), but waits no longer than `timeout`. [`Error::TimedOut`] if there was no item.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let queue = procession::Queue::<u8>::new()?;
    /// assert!(queue.get_many_timeout(10, Duration::from_millis(1)).is_err());
    /// queue.put(&1)?;
    /// assert_eq!(queue.get_many_timeout(10, Duration::from_millis(1))?, [1]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_many_timeout(&self, max: usize, timeout: Duration) -> Result<Vec<T>> {
        self.get_many_until(max, Deadline::after(timeout))
    }

    /// As [`get_many`](Self::get_many), but does not wait: without an item, returns an empty vector.
    ///
    /// ```
    /// let queue = procession::Queue::new()?;
    /// queue.put_many(&[1, 2])?;
    /// assert_eq!(queue.try_get_many(10)?, [1, 2]);
    /// assert!(queue.try_get_many(10)?.is_empty());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_get_many(&self, max: usize) -> Result<Vec<T>> {
        match self.get_many_until(max, Deadline::Now) {
            Err(Error::TimedOut) => Ok(Vec::new()),
            result => result,
        }
    }

    fn get_many_until(&self, max: usize, deadline: Deadline) -> Result<Vec<T>> {
        if max == 0 {
            return Err(Error::Invalid("get_many needs a maximum of at least 1"));
        }
        let mut run = Vec::new();
        uninterrupted(|| self.inner.get_many(max, deadline, &mut run))?;
        // What producers put from now on is not for this call: it would not end as long as they are faster.
        let there = usize::try_from(self.inner.extent()).unwrap_or(usize::MAX);
        let most = max.min(run.len().saturating_add(there));
        let mut items = Vec::with_capacity(run.len());
        loop {
            for incoming in run.drain(..) {
                items.push(wire::unpack(&incoming)?);
            }
            if items.len() == most {
                return Ok(items);
            }
            match self.inner.get_many(most - items.len(), Deadline::Now, &mut run) {
                Ok(()) => {}
                Err(WaitError::TimedOut) => return Ok(items),
                Err(error) => return Err(Error::wait(error)),
            }
        }
    }

    fn get_until(&self, deadline: Deadline) -> Result<T> {
        wire::unpack(&uninterrupted(|| self.inner.get(deadline))?)
    }
}
