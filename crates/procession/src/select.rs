//! Waiting for several things at once: the first of several channels, events and children.

use crate::children::Running;
use crate::waking::{ends, numbers};
use crate::{Event, JoinHandle, Receiver, Result, Sender};
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// A wait for the first of several things: values of channels or room in them, events, and ends of children. Each is
/// known by the number that the method which added it returned: 0 for the first.
///
/// [`ready`](Self::ready) says which of them is ready, and takes nothing: the value is then received with `try_recv`,
/// which finds none if another receiver was faster. A channel whose senders are gone is ready too: its `try_recv`
/// returns [`RecvError::Disconnected`](crate::RecvError::Disconnected). The interface is that of `Select` in the crate
/// crossbeam-channel.
///
/// Each receiver, sender or event that was waited for in this way has a thread of its own until it is dropped. All
/// children have one thread together. While such threads run, [`StartMethod::Fork`](crate::StartMethod::Fork) is refused, as beside any
/// other threads. For children alone, [`wait_any`](crate::wait_any) needs no thread.
///
/// ```
/// use procession::{channel, spawn, Select, Sender};
///
/// let (to, numbers) = channel()?;
/// let child = spawn(|to: Sender<u32>| to.send(&7).unwrap(), to)?;
/// let (_quiet, words) = channel::<String>()?;
///
/// let mut select = Select::new();
/// let first = select.recv(&numbers);
/// let second = select.recv(&words);
/// assert_eq!((first, second), (0, 1));
/// assert_eq!(select.ready()?, first);
/// assert_eq!(numbers.try_recv()?, 7);
///
/// let mut select = Select::new();
/// let end = select.join(&child);
/// select.recv(&words);
/// assert_eq!(select.ready()?, end);
/// drop(select);
/// child.join()?;
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Default)]
pub struct Select<'a> {
    sources: Vec<Box<dyn Source + 'a>>,
    /// The source that is looked at first: each is, in turn.
    next: usize,
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.sources.len();
        f.debug_struct("Select")
            .field("sources", &sources)
            .finish_non_exhaustive()
    }
}

/// What is waited for.
trait Source {
    fn is_ready(&self) -> bool;

    /// Wake the thread once it is ready, also if it is so already.
    fn wake(&self, number: u64, waker: &Waker) -> Result<()>;

    /// Wake the thread no more. Returns the error if it was woken because the wait failed.
    fn forget(&self, number: u64) -> Option<crate::Error>;
}

impl<T> Source for &Receiver<T> {
    fn is_ready(&self) -> bool {
        Receiver::is_ready(self)
    }

    fn wake(&self, number: u64, waker: &Waker) -> Result<()> {
        self.wake_on_arrival(number, waker)
    }

    fn forget(&self, number: u64) -> Option<crate::Error> {
        self.watch().forget(number)
    }
}

impl<T> Source for &Sender<T> {
    fn is_ready(&self) -> bool {
        Sender::is_ready(self)
    }

    fn wake(&self, number: u64, waker: &Waker) -> Result<()> {
        self.wake_on_room(number, waker)
    }

    fn forget(&self, number: u64) -> Option<crate::Error> {
        self.watch().forget(number)
    }
}

struct EventSource<'a> {
    event: &'a Event,
    /// The point from which on the calls of `set` count.
    begun: Cell<u32>,
}

impl Source for EventSource<'_> {
    fn is_ready(&self) -> bool {
        let now = self.event.begin();
        let ready = self.event.is_set_since(self.begun.get());
        self.begun.set(now);
        ready
    }

    fn wake(&self, number: u64, waker: &Waker) -> Result<()> {
        self.event.wake_on_set(self.begun.get(), number, waker)
    }

    fn forget(&self, number: u64) -> Option<crate::Error> {
        self.event.watch().forget(number)
    }
}

impl Source for &Arc<Running> {
    fn is_ready(&self) -> bool {
        // An error, too, is what `join` returns at once.
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn wake(&self, number: u64, waker: &Waker) -> Result<()> {
        ends::wake(number, self, waker)
    }

    fn forget(&self, number: u64) -> Option<crate::Error> {
        ends::forget(number);
        None
    }
}

/// Wakes the thread that waits.
struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// The sources of a wait, which wake its thread until this is dropped.
struct Registered<'s, 'a>(&'s [Box<dyn Source + 'a>], u64);

impl Registered<'_, '_> {
    /// Wake the thread no more. Returns the error of a source whose wait failed.
    fn forget(&self) -> Option<crate::Error> {
        let errors = self
            .0
            .iter()
            .zip(self.1..)
            .filter_map(|(source, number)| source.forget(number));
        errors.last() // of all, so that all are forgotten
    }
}

impl Drop for Registered<'_, '_> {
    fn drop(&mut self) {
        self.forget();
    }
}

impl<'a> Select<'a> {
    /// Create a wait for nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wait for a value of this channel too, or for the end of its senders. Returns the number of this channel.
    pub fn recv<T>(&mut self, from: &'a Receiver<T>) -> usize {
        self.add(from)
    }

    /// Wait until a value can be sent to this channel too, or its receivers have ended. Returns the number of this
    /// channel. The value is then sent with `try_send`, which finds the channel full if another sender was faster.
    ///
    /// ```
    /// let (to, from) = procession::bounded(1)?;
    /// to.send(&1)?;
    /// let mut select = procession::Select::new();
    /// let room = select.send(&to);
    /// assert_eq!(select.try_ready(), None);
    /// from.recv()?;
    /// assert_eq!(select.ready()?, room);
    /// to.try_send(&2)?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn send<T>(&mut self, to: &'a Sender<T>) -> usize {
        self.add(to)
    }

    /// Wait for this event too. Returns the number of this event. It is ready while it is set, and once more for calls
    /// of `set` after which it was cleared at once.
    ///
    /// ```
    /// use procession::{Event, Select};
    ///
    /// let (_to, numbers) = procession::channel::<u32>()?;
    /// let stop = Event::new()?;
    /// let child = procession::spawn(|stop: Event| stop.set(), stop.clone())?;
    /// let mut select = Select::new();
    /// select.recv(&numbers);
    /// let stopped = select.event(&stop);
    /// assert_eq!(select.ready()?, stopped);
    /// child.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn event(&mut self, event: &'a Event) -> usize {
        let begun = Cell::new(event.begin());
        self.add(EventSource { event, begun })
    }

    /// Wait for the end of this child too. Returns the number of this child.
    pub fn join<R>(&mut self, child: &'a JoinHandle<R>) -> usize {
        self.add(child.running())
    }

    fn add(&mut self, source: impl Source + 'a) -> usize {
        self.sources.push(Box::new(source));
        self.sources.len() - 1
    }

    /// The number of one that is ready now, if any is. Where several are, each has its turn.
    pub fn try_ready(&mut self) -> Option<usize> {
        let count = self.sources.len();
        let found = (self.next..count)
            .chain(0..self.next.min(count))
            .find(|&at| self.sources[at].is_ready())?;
        self.next = found + 1;
        Some(found)
    }

    /// Wait until one of them is ready, and return its number. Where several are, each has its turn.
    ///
    /// Returns [`Error::Invalid`](crate::Error::Invalid) if there is nothing to wait for.
    pub fn ready(&mut self) -> Result<usize> {
        loop {
            // A day, because a timeout has an end.
            if let Some(ready) = self.ready_timeout(Duration::from_secs(86_400))? {
                return Ok(ready);
            }
        }
    }

    /// As [`ready`](Self::ready), but wait at most `timeout`. `None`: none is ready.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (_to, from) = procession::channel::<u8>()?;
    /// let mut select = procession::Select::new();
    /// select.recv(&from);
    /// assert_eq!(select.ready_timeout(Duration::from_millis(1))?, None);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn ready_timeout(&mut self, timeout: Duration) -> Result<Option<usize>> {
        if self.sources.is_empty() {
            return Err(crate::Error::Invalid("nothing to wait for"));
        }
        let begin = Instant::now();
        loop {
            if let Some(ready) = self.try_ready() {
                return Ok(Some(ready));
            }
            if !self.park(begin, timeout)? {
                return Ok(self.try_ready());
            }
        }
    }

    /// Sleep until one of them seems ready, or the time is over. Returns whether there is time left.
    fn park(&self, begin: Instant, timeout: Duration) -> Result<bool> {
        let unpark = Arc::new(Unpark {
            thread: thread::current(),
            woken: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&unpark));
        let first = numbers(self.sources.len() as u64);
        let registered = Registered(&self.sources, first);
        for (source, number) in self.sources.iter().zip(first..) {
            source.wake(number, &waker)?;
        }
        while !unpark.woken.load(Ordering::Acquire) {
            let left = timeout.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            thread::park_timeout(left);
        }
        registered.forget().map_or(Ok(true), Err)
    }
}
