//! A pool of worker processes.

use crate::error::wait;
use crate::patience::patiently;
use crate::pool_worker::{function, work};
use crate::{wire, Builder, Error, JoinError, JoinHandle, Result};
use procession_core::pool::{Cutter, Death, Item, Job, Loss, Pool as Core, Terms};
use procession_core::Deadline;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Results of [`imap`](Pool::imap) that may be under way, for each worker.
const AHEAD: u64 = 64;
/// How long workers have to follow SIGTERM when the pool is terminated.
const GRACE: Duration = Duration::from_secs(1);
/// Workers in a row that end before they are ready: then it is no use to start more.
const FAILURES: u32 = 20;

/// Worker processes that apply functions to values.
///
/// Functions are plain `fn`s, as for [`spawn`](crate::spawn). A task whose function panics, or whose worker dies, fails alone; the worker is
/// replaced. Dropping the pool ends its workers at once, like [`terminate`](Self::terminate).
///
/// ```no_run
/// fn square(n: u64) -> u64 {
///     n * n
/// }
/// let pool = procession::Pool::new(procession::cpu_count())?;
/// assert_eq!(pool.map(square, 0..4)?, [0, 1, 4, 9]);
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Pool {
    crew: Arc<Crew>,
    watch: Mutex<Option<thread::JoinHandle<()>>>,
}

/// What the pool and the thread that watches its workers share.
struct Crew {
    core: Core,
    size: usize,
    builder: Builder,
    hands: Mutex<Hands>,
}

#[derive(Default)]
struct Hands {
    all: Vec<Hand>,
    /// Workers started so far: their numbers.
    started: u32,
    /// Workers in a row that ended before they were ready.
    failures: u32,
    closed: bool,
    terminated: bool,
}

struct Hand {
    place: u32,
    handle: JoinHandle<()>,
}

impl Pool {
    /// A pool of `size` workers, at least one.
    pub fn new(size: usize) -> Result<Self> {
        Self::with(size, Builder::new())
    }

    /// A pool whose workers are started as `builder` says: its start method counts, its name is the prefix of theirs.
    pub fn with(size: usize, builder: Builder) -> Result<Self> {
        if size == 0 {
            return Err(Error::Invalid("number of processes must be at least 1"));
        }
        let crew = Arc::new(Crew {
            core: Core::new()?,
            size,
            builder,
            hands: Mutex::default(),
        });
        let pool = Self {
            crew: Arc::clone(&crew),
            watch: Mutex::default(),
        };
        crew.populate(&mut crew.lock())?;
        let watch = thread::Builder::new().name("pool-watch".into());
        let watch = watch
            .spawn(move || crew.watch())
            .map_err(|e| procession_core::Error::os("clone", e))?;
        *lock(&pool.watch) = Some(watch);
        Ok(pool)
    }

    fn job<A, R>(&self, f: fn(A) -> R) -> Result<Job>
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        if !self.crew.core.is_mine() {
            return Err(Error::Invalid(
                "this pool belongs to another process: make one of your own",
            ));
        }
        let hands = self.crew.lock();
        if hands.closed || hands.terminated {
            return Err(Error::Invalid("Pool not running"));
        }
        let function = self.crew.core.function(function(f)?)?;
        Ok(self.crew.core.job(Some(&function), Terms::default()))
    }

    /// `f(argument)`, called in a worker.
    pub fn apply<A, R>(&self, f: fn(A) -> R, argument: A) -> Result<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.apply_async(f, argument)?.get()
    }

    /// Have `f(argument)` called in a worker; the result is fetched later.
    pub fn apply_async<A, R>(&self, f: fn(A) -> R, argument: A) -> Result<AsyncResult<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let job = self.job(f)?;
        job.submit(wire::pack(&[argument].as_slice())?)?;
        job.seal();
        Ok(AsyncResult(MapResult::new(job)))
    }

    /// The results of `f` for all items, in their order. Fails with what failed first, when all is done.
    pub fn map<A, R>(&self, f: fn(A) -> R, items: impl IntoIterator<Item = A>) -> Result<Vec<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.map_async(f, items)?.get()
    }

    /// As [`map`](Self::map), the results being fetched later. All items are taken before it returns.
    pub fn map_async<A, R>(&self, f: fn(A) -> R, items: impl IntoIterator<Item = A>) -> Result<MapResult<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let job = self.job(f)?;
        let items: Vec<A> = items.into_iter().collect();
        let mut cutter = Cutter::new(items.len() as u64, self.crew.size);
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            let size = usize::try_from(cutter.next(&job)).unwrap_or(usize::MAX).min(rest.len());
            let (task, behind) = rest.split_at(size);
            job.submit(wire::pack(&task)?)?;
            rest = behind;
        }
        job.seal();
        Ok(MapResult::new(job))
    }

    /// An iterator over the results of `f`, in the order of the items, each as soon as it is there. Items are taken as results are asked
    /// for, a bounded number ahead: they may be endless.
    pub fn imap<A, R, I>(&self, f: fn(A) -> R, items: I) -> Result<Imap<I::IntoIter, R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        let mut imap = Imap {
            job: self.job(f)?,
            items: Some(items.into_iter()),
            ahead: AHEAD * self.crew.size as u64,
            taken: 0,
            result: PhantomData,
        };
        imap.feed()?;
        Ok(imap)
    }

    /// Take no more work; workers end when all is done.
    pub fn close(&self) {
        self.crew.lock().closed = true;
        self.crew.core.close();
    }

    /// End the workers at once. What is unfinished fails with [`Error::Terminated`].
    pub fn terminate(&self) {
        let mut hands = self.crew.lock();
        if std::mem::replace(&mut hands.terminated, true) {
            return;
        }
        self.crew.core.terminate();
        for hand in &hands.all {
            let _ = hand.handle.terminate();
        }
    }

    /// Wait for the workers to end, after [`close`](Self::close) or [`terminate`](Self::terminate).
    pub fn join(&self) -> Result<()> {
        let hands = self.crew.lock();
        if !hands.closed && !hands.terminated {
            return Err(Error::Invalid("the pool is still running"));
        }
        drop(hands);
        let watch = lock(&self.watch).take();
        watch.map_or(Ok(()), |watch| {
            watch.join().map_err(|_| Error::Invalid("the pool's watch panicked"))
        })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.crew.size;
        f.debug_struct("Pool").field("size", &size).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.crew.core.is_mine() {
            self.terminate();
            let _ = self.join();
        }
    }
}

impl Crew {
    fn lock(&self) -> MutexGuard<'_, Hands> {
        lock(&self.hands)
    }

    /// Bring the number of workers up to the pool's size.
    fn populate(&self, hands: &mut Hands) -> Result<()> {
        while hands.all.len() < self.size {
            let place = self.core.enlist()?;
            hands.started += 1;
            let name = format!("{}-{}", self.builder.name_or("PoolWorker"), hands.started);
            let builder = self.builder.clone().name(name).daemon(true);
            match builder.spawn(work, (self.core.handle().to_bits(), place)) {
                Ok(handle) => hands.all.push(Hand { place, handle }),
                Err(error) => {
                    self.core.bury(place, Death::default())?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Replace the workers that end, until the pool has ended.
    fn watch(&self) {
        loop {
            let mut hands = self.lock();
            self.bury(&mut hands);
            let over = hands.terminated || !self.core.needs_workers();
            if over && hands.all.is_empty() {
                return;
            }
            if !over && (hands.failures >= FAILURES || self.populate(&mut hands).is_err()) && hands.all.is_empty() {
                // Nobody is left to do the work.
                hands.terminated = true;
                self.core.terminate();
                return;
            }
            let sentinels: Vec<_> = hands
                .all
                .iter()
                .filter_map(|hand| hand.handle.sentinel().try_clone_to_owned().ok())
                .collect();
            let terminated = hands.terminated;
            drop(hands);
            if !self.core.notice().wait(&sentinels, terminated.then_some(GRACE)) && terminated {
                for hand in &self.lock().all {
                    let _ = hand.handle.kill();
                }
            }
        }
    }

    fn bury(&self, hands: &mut Hands) {
        let (ended, all) = std::mem::take(&mut hands.all)
            .into_iter()
            .partition(|hand| hand.handle.is_finished());
        hands.all = all;
        let ended: Vec<Hand> = ended;
        for Hand { place, handle } in ended {
            let ready = self.core.is_ready(place);
            hands.failures = if ready { 0 } else { hands.failures + 1 };
            let pid = handle.pid();
            let exitcode = match handle.join() {
                Ok(()) => 0,
                Err(JoinError::Signaled(signal)) => -signal,
                Err(JoinError::Exited(code)) => code,
                Err(_) => 101,
            };
            let death = Death {
                pid,
                exitcode,
                ..Death::default()
            };
            let _ = self.core.bury(place, death);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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
        Some(Item::Lost(_)) => Err(Error::Terminated),
        None => Err(Error::Invalid("the result was taken already")),
    }
}

/// Results of a [`map`](Pool::map) to come.
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
    fn new(job: Job) -> Self {
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

/// The result of an [`apply_async`](Pool::apply_async) to come.
#[derive(Debug)]
pub struct AsyncResult<R>(MapResult<R>);

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

/// The results of an [`imap`](Pool::imap).
pub struct Imap<I, R> {
    job: Job,
    items: Option<I>,
    ahead: u64,
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
    fn feed(&mut self) -> Result<()> {
        while let Some(items) = self
            .items
            .as_mut()
            .filter(|_| self.job.progress().0 < self.taken + self.ahead)
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
