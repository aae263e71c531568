//! A pool of worker processes: what a program calls. Leaves the workers to `workers`.

mod imap;
mod results;
mod stats;
mod worker;
mod workers;

pub use imap::Imap;
pub use results::{AsyncResult, MapResult};
pub use stats::{PoolStats, WorkerStats};

use crate::error::Ours;
use crate::label::label;
use crate::{wire, Builder, Error, Portable, Result};
use procession_core::pool::{Cutter, Job, JobOptions, Pool as Core};
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;
use worker::{function, Fails};
use workers::{lock, Start, WorkerSet, Workers};

/// Worker processes that apply functions to values.
///
/// Functions are plain `fn`s, as for [`spawn`](crate::spawn()). If a task's function panics, or its worker dies, only
/// that task fails; the worker is replaced. Dropping the pool stops its workers at once, like
/// [`terminate`](Self::terminate).
///
/// ```
/// fn square(n: u64) -> u64 {
///     n * n
/// }
/// let pool = procession::Pool::new(procession::cpu_count())?;
/// assert_eq!(pool.map(square, 0..4)?, [0, 1, 4, 9]);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Pool {
    workers: Arc<Workers>,
    watch: Mutex<Option<thread::JoinHandle<()>>>,
    options: JobOptions,
}

impl Pool {
    /// Create a pool of `size` workers, at least one.
    #[track_caller]
    pub fn new(size: usize) -> Result<Self> {
        Self::with(size, Builder::new())
    }

    /// Create a pool. `builder` starts the workers: its start method applies, and its name becomes the prefix of
    /// theirs, and what the `procession` command calls the pool.
    ///
    /// ```
    /// use procession::{Builder, Pool, StartMethod};
    ///
    /// let pool = Pool::with(2, Builder::new().name("Squarer").start_method(StartMethod::Spawn))?;
    /// let name = pool.apply(|()| procession::current().name().to_owned(), ())?;
    /// assert!(name.starts_with("Squarer-"));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[track_caller]
    pub fn with(size: usize, builder: Builder) -> Result<Self> {
        let start = |builder: Builder, pool, worker_index| builder.spawn(worker::work, (pool, worker_index));
        Self::started(size, builder, Box::new(start))
    }

    /// Create a pool each of whose workers calls `init(context)` before its first task: what takes time to set up, or to
    /// send, is there for all of its tasks. Workers that replace others do the same. The function keeps what the tasks
    /// need in a static, or in a thread-local variable: a worker has one thread.
    ///
    /// A worker in which `init` panics ends, and is replaced; after 20 in a row the pool terminates.
    ///
    /// ```
    /// use procession::{Builder, Pool, Shared};
    /// use std::sync::OnceLock;
    ///
    /// static TABLE: OnceLock<Shared<[f64]>> = OnceLock::new();
    ///
    /// fn keep(table: Shared<[f64]>) {
    ///     TABLE.set(table).unwrap();
    /// }
    /// fn look_up(at: usize) -> f64 {
    ///     TABLE.get().unwrap()[at]
    /// }
    /// let table = Shared::from_fn(1000, |n| n as f64 / 2.0)?;
    /// let pool = Pool::with_initializer(2, Builder::new(), keep, table)?;
    /// assert_eq!(pool.map(look_up, [1, 999])?, [0.5, 499.5]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn with_initializer<C>(size: usize, builder: Builder, init: fn(C), context: C) -> Result<Self>
    where
        C: Portable + Send + Sync + 'static,
    {
        Self::started(size, builder, worker::prepared(init, context)?)
    }

    fn started(size: usize, builder: Builder, start: Start) -> Result<Self> {
        if size == 0 {
            return Err(Error::Invalid("number of processes must be at least 1"));
        }
        let core = Core::labelled(label(builder.given_name())).ours()?;
        let workers = Arc::new(Workers {
            #[cfg(feature = "async")]
            completions: Arc::new(crate::waking::Completions::new(core.clone())),
            core,
            builder,
            start,
            set: Mutex::new(WorkerSet {
                size,
                ..WorkerSet::default()
            }),
        });
        let pool = Self {
            workers: Arc::clone(&workers),
            watch: Mutex::default(),
            options: JobOptions::default(),
        };
        workers.populate(&mut workers.lock(), &workers.builder)?;
        let watch = thread::Builder::new().name("pool-watch".into());
        let watch = watch
            .spawn(move || workers.watch())
            .map_err(|e| procession_core::Error::os("clone", e))
            .ours()?;
        *lock(&pool.watch) = Some(watch);
        Ok(pool)
    }

    /// Set the time limit of each item submitted from now on. An item that runs for longer than `limit` fails with
    /// [`Error::TaskTimedOut`]; its worker is stopped and replaced.
    ///
    /// ```
    /// # use std::time::Duration;
    /// fn sleep(seconds: u64) {
    ///     std::thread::sleep(Duration::from_secs(seconds));
    /// }
    /// let pool = procession::Pool::new(2)?.task_timeout(Duration::from_millis(100));
    /// assert!(matches!(pool.apply(sleep, 60), Err(procession::Error::TaskTimedOut { .. })));
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[must_use]
    pub fn task_timeout(mut self, limit: Duration) -> Self {
        self.options.tasks.timeout = Some(limit);
        self
    }

    /// Set how often each item submitted from now on is retried after the death of its worker, before it fails with
    /// [`Error::WorkerDied`].
    ///
    /// ```
    /// use std::sync::atomic::Ordering::SeqCst;
    /// use procession::sync::atomic::AtomicU32;
    ///
    /// fn fail_once(calls: AtomicU32) -> u32 {
    ///     if calls.fetch_add(1, SeqCst) == 0 {
    ///         std::process::abort();
    ///     }
    ///     calls.load(SeqCst)
    /// }
    /// let pool = procession::Pool::new(1)?.retries(1);
    /// assert_eq!(pool.apply(fail_once, AtomicU32::new(0)?)?, 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[must_use]
    pub fn retries(mut self, times: u32) -> Self {
        self.options.tasks.retries = times;
        self
    }

    /// Change the number of workers. Excess workers leave after their task, idle ones first.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// pool.resize(3)?;
    /// assert_eq!(pool.stats().workers.len(), 3);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn resize(&self, size: usize) -> Result<()> {
        if size == 0 {
            return Err(Error::Invalid("number of processes must be at least 1"));
        }
        let mut set = self.running()?;
        set.size = size;
        set.all
            .sort_by_key(|record| self.workers.core.is_busy(record.worker_index));
        let staying = set.all.iter().filter(|record| !record.leaving).count();
        for record in set
            .all
            .iter_mut()
            .filter(|record| !record.leaving)
            .take(staying.saturating_sub(size))
        {
            record.leaving = true;
            self.workers.core.dismiss(record.worker_index);
        }
        self.workers
            .populate(&mut set, &self.workers.builder.clone().without_fork())?;
        // The watch thread must see the new workers.
        self.workers.core.notice().set();
        Ok(())
    }

    /// Statistics of the pool: its tasks and its workers.
    pub fn stats(&self) -> PoolStats {
        let set = self.workers.lock();
        let stats = self.workers.core.stats();
        let pid = |worker_index| {
            set.all
                .iter()
                .find(|record| record.worker_index == worker_index)
                .map(|record| record.handle.pid())
        };
        let workers = stats.workers.into_iter().filter_map(|worker| {
            Some(WorkerStats {
                pid: pid(worker.worker_index)?,
                running: worker.running,
                tasks: worker.tasks,
                busy: worker.busy,
                idle: worker.idle,
            })
        });
        PoolStats {
            done: stats.done,
            queued: stats.queued,
            running: stats.running,
            workers: workers.collect(),
        }
    }

    fn running(&self) -> Result<MutexGuard<'_, WorkerSet>> {
        if !self.workers.core.is_mine() {
            return Err(Error::Invalid(
                "this pool belongs to another process: make one of your own",
            ));
        }
        let set = self.workers.lock();
        if set.closed || set.terminated {
            return Err(Error::Invalid("Pool not running"));
        }
        Ok(set)
    }

    fn job<A, R>(&self, f: fn(A) -> R, fails: Fails) -> Result<Job>
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        let _set = self.running()?;
        let function = self.workers.core.function(function(f, fails)?).ours()?;
        Ok(self.workers.core.job(Some(&function), self.options))
    }

    /// Call `f(argument)` in a worker and return the result.
    pub fn apply<A, R>(&self, f: fn(A) -> R, argument: A) -> Result<R>
    where
        A: Portable,
        R: Portable,
    {
        self.apply_async(f, argument)?.get()
    }

    /// Call `f(argument)` in a worker; the result is fetched later.
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// let pending = pool.apply_async(|n: u64| n * n, 7)?;
    /// // something else meanwhile
    /// assert_eq!(pending.get()?, 49);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn apply_async<A, R>(&self, f: fn(A) -> R, argument: A) -> Result<AsyncResult<R>>
    where
        A: Portable,
        R: Portable,
    {
        let pending = MapResult::new(self.job(f, Fails::All)?, &self.workers);
        pending.submit(wire::pack(&[argument].as_slice())?)?;
        pending.seal();
        Ok(AsyncResult(pending))
    }

    /// Return the results of `f` for all items, in order. If any failed, returns the first failure once all are done.
    pub fn map<A, R>(&self, f: fn(A) -> R, items: impl IntoIterator<Item = A>) -> Result<Vec<R>>
    where
        A: Portable,
        R: Portable,
    {
        self.map_async(f, items)?.get()
    }

    /// Like [`map`](Self::map), but the results are fetched later. All items are consumed before it returns.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let pending = pool.map_async(|n: u64| n * n, 0..3)?;
    /// assert_eq!(pending.get()?, [0, 1, 4]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn map_async<A, R>(&self, f: fn(A) -> R, items: impl IntoIterator<Item = A>) -> Result<MapResult<R>>
    where
        A: Portable,
        R: Portable,
    {
        let items: Vec<A> = items.into_iter().collect();
        // First: if an item cannot be sent, the tasks before it are cancelled with this.
        let pending = MapResult::new(self.job(f, Fails::All)?, &self.workers);
        let mut cutter = Cutter::new(items.len() as u64, self.workers.lock().size);
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            let size = if self.alone() { 1 } else { pending.cut(&mut cutter) };
            let size = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
            let (task, behind) = rest.split_at(size);
            pending.submit(wire::pack(&task)?)?;
            rest = behind;
        }
        pending.seal();
        Ok(pending)
    }

    /// Return the result or the error of `f` for each item, in order: what fails, even by the death of its worker,
    /// loses no other. So each item is a task of its own, which costs some microseconds.
    ///
    /// ```
    /// fn half(n: u32) -> u32 {
    ///     assert!(n % 2 == 0, "{n} is odd");
    ///     n / 2
    /// }
    /// let pool = procession::Pool::new(2)?;
    /// let halves = pool.try_map(half, [2, 3, 4])?;
    /// assert_eq!(halves[0].as_ref().ok(), Some(&1));
    /// assert!(halves[1].is_err());
    /// assert_eq!(halves[2].as_ref().ok(), Some(&2));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_map<A, R>(&self, f: fn(A) -> R, items: impl IntoIterator<Item = A>) -> Result<Vec<Result<R>>>
    where
        A: Portable,
        R: Portable,
    {
        let pending = MapResult::<R>::new(self.job(f, Fails::Own)?, &self.workers);
        let mut count = 0;
        for item in items {
            pending.submit(wire::pack(&[item].as_slice())?)?;
            count += 1;
        }
        pending.seal();
        pending.get_each(count)
    }

    /// Whether each item is a task of its own, because an item may be stopped or retried, which must not affect others.
    fn alone(&self) -> bool {
        self.options.tasks.timeout.is_some() || self.options.tasks.retries > 0
    }

    /// Return an iterator over the results of `f`, in the order of the items, each as soon as it is available. The
    /// items may be endless: they are consumed as results are requested, a bounded number ahead, and no more large ones
    /// than keep the workers busy. Items that take no more than some microseconds travel together; a panic fails its
    /// own item, the death of a worker all that travelled with it.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let squares = pool.imap(|n: u64| n * n, 0..)?; // of all numbers, as they are taken
    /// assert_eq!(squares.take(3).collect::<procession::Result<Vec<_>>>()?, [0, 1, 4]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn imap<A, R, I>(&self, f: fn(A) -> R, items: I) -> Result<Imap<I::IntoIter, R>>
    where
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
    {
        let job = self.job(f, Fails::Own)?;
        let workers = self.workers.lock().size as u64;
        Imap::new(job, items.into_iter(), workers, self.alone())
    }

    /// Accept no more tasks; the workers exit once all tasks are done.
    pub fn close(&self) {
        self.workers.lock().closed = true;
        self.workers.core.close();
    }

    /// Stop the workers at once. Unfinished tasks fail with [`Error::Terminated`].
    ///
    /// ```
    /// let pool = procession::Pool::new(1)?;
    /// let hangs = pool.apply_async(|()| loop { std::thread::park() }, ())?;
    /// pool.terminate();
    /// let end: procession::Result<()> = hangs.get();
    /// assert!(matches!(end, Err(procession::Error::Terminated)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn terminate(&self) {
        let mut set = self.workers.lock();
        if std::mem::replace(&mut set.terminated, true) {
            return;
        }
        self.workers.core.terminate();
        for record in &set.all {
            let _ = record.handle.terminate();
        }
    }

    /// Wait for the workers to exit. Call [`close`](Self::close) or [`terminate`](Self::terminate) first.
    ///
    /// ```
    /// let pool = procession::Pool::new(2)?;
    /// let pending = pool.map_async(|n: u64| n * n, 0..3)?;
    /// pool.close(); // no more calls
    /// pool.join()?; // all are done, and the workers have ended
    /// assert!(pending.is_ready());
    /// assert!(pool.apply(|n: u64| n, 1).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join(&self) -> Result<()> {
        let set = self.workers.lock();
        if !set.closed && !set.terminated {
            return Err(Error::Invalid("the pool is still running"));
        }
        drop(set);
        let watch = lock(&self.watch).take();
        watch.map_or(Ok(()), |watch| {
            watch
                .join()
                .map_err(|_| Error::Invalid("the pool's watch thread panicked"))
        })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.workers.lock().size;
        f.debug_struct("Pool").field("size", &size).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.workers.core.is_mine() {
            self.terminate();
            let _ = self.join();
        }
    }
}
