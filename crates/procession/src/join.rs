//! The parent's handle of a child: its identity, its end and its result.

use crate::children::Running;
use crate::error::{wait, Ours};
use crate::process::here;
use crate::request::{LOST, PANICKED, RETURNED};
use crate::{codec, forward, Error, JoinError, Result};
use procession_core::channel::Incoming;
use procession_core::process::Exit;
use procession_core::Deadline;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A handle of a child process. `R` is the return type of the child's function.
///
/// Dropping the handle does not end the process. When the parent exits, it waits for the child, or terminates it if the
/// child is daemonic.
///
/// ```
/// fn busy((): ()) {
///     loop {
///         std::thread::park();
///     }
/// }
/// let child = procession::spawn(busy, ())?;
/// assert!(!child.is_finished());
/// child.terminate()?;
/// assert_eq!(child.join().unwrap_err().signal(), Some(15));
/// # Ok::<(), procession::Error>(())
/// ```
pub struct JoinHandle<R> {
    running: Arc<Running>,
    result: PhantomData<fn() -> R>,
}

impl<R> JoinHandle<R> {
    pub(crate) fn new(running: Arc<Running>) -> Self {
        Self {
            running,
            result: PhantomData,
        }
    }

    pub(crate) fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// The process ID.
    pub fn pid(&self) -> i32 {
        self.running.child.pid()
    }

    /// The process's name.
    ///
    /// ```
    /// let child = procession::Builder::new().name("adder").spawn(|n: u32| n + 1, 1)?;
    /// assert_eq!((child.name(), child.is_daemon()), ("adder", false));
    /// assert!(child.pid() > 0);
    /// # child.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn name(&self) -> &str {
        self.running.identity.name()
    }

    /// Whether the process is daemonic: it ends with its parent.
    pub fn is_daemon(&self) -> bool {
        self.running.identity.is_daemon()
    }

    /// Whether the process has ended.
    pub fn is_finished(&self) -> bool {
        matches!(self.running.child.try_wait(), Ok(Some(_)))
    }

    /// A descriptor that polls readable once the process has ended: for loops of the program's own.
    ///
    /// ```
    /// use rustix::event::{poll, PollFd, PollFlags};
    ///
    /// let child = procession::spawn(|n: u32| n + 1, 1)?;
    /// let sentinel = child.sentinel(); // `AsFd` of the handle is the same
    /// let mut fds = [PollFd::new(&sentinel, PollFlags::IN)]; // beside others, in a loop of the program's own
    /// poll(&mut fds, None).unwrap();
    /// assert!(child.is_finished());
    /// # child.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.running.child.sentinel()
    }

    /// Interrupt the process with SIGINT, as Ctrl-C does. Nothing happens if it has ended.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let child = procession::spawn(|()| loop { std::thread::park() }, ())?;
    /// child.interrupt()?;
    /// if !child.wait(Duration::from_secs(1))? {
    ///     child.kill()?; // it ignores interrupts, as what a shell starts in the background does
    /// }
    /// let end: Result<(), procession::JoinError> = child.join();
    /// assert!(matches!(end.unwrap_err().signal(), Some(2 | 9)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn interrupt(&self) -> Result<()> {
        self.running.child.signal(libc::SIGINT).ours()
    }

    /// Terminate the process with SIGTERM. Nothing happens if it has ended.
    pub fn terminate(&self) -> Result<()> {
        self.running.child.signal(libc::SIGTERM).ours()
    }

    /// Kill the process with SIGKILL. Nothing happens if it has ended.
    pub fn kill(&self) -> Result<()> {
        self.running.child.signal(libc::SIGKILL).ours()
    }

    /// Wait at most `timeout` for the process to end. Returns whether it has ended.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let child = procession::spawn(|()| loop { std::thread::park() }, ())?;
    /// assert!(!child.wait(Duration::from_millis(1))?);
    /// child.kill()?;
    /// assert!(child.wait(Duration::from_secs(60))?);
    /// # let _: Result<(), _> = child.join();
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let deadline = Deadline::after(timeout);
        Ok(wait(|| self.running.child.wait(deadline)).ours()?.is_some())
    }
}

impl JoinHandle<()> {
    /// Wait for the process to end, whatever its function returned.
    pub(crate) fn end(self) -> Result<(), JoinError> {
        let child = &self.running.child;
        match wait(|| child.wait(Deadline::Never)) {
            Ok(exit) => self.conclude_by(exit.unwrap_or(Exit::Unknown), |incoming| {
                if incoming.body().first() == Some(&RETURNED) {
                    Ok(())
                } else {
                    read(incoming)
                }
            }),
            Err(error) => Err(lost(Error::engine(error))),
        }
    }
}

impl<R> AsFd for JoinHandle<R> {
    /// The descriptor of [`sentinel`](Self::sentinel).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

impl<R> fmt::Debug for JoinHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("JoinHandle");
        shown.field("pid", &self.pid()).field("name", &self.name());
        shown.finish_non_exhaustive()
    }
}

impl<R: DeserializeOwned> JoinHandle<R> {
    /// Wait for the process to end and return what its function returned.
    pub fn join(self) -> Result<R, JoinError> {
        let child = &self.running.child;
        match wait(|| child.wait(Deadline::Never)) {
            Ok(exit) => self.conclude(exit.unwrap_or(Exit::Unknown)),
            Err(error) => Err(lost(Error::engine(error))),
        }
    }

    /// As [`join`](Self::join), but wait at most `timeout`. Gives the handle back if the process still runs then.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let child = procession::spawn(|()| loop { std::thread::park() }, ())?;
    /// let child: procession::JoinHandle<()> = match child.join_timeout(Duration::from_millis(1)) {
    ///     Ok(result) => panic!("{result:?}"),
    ///     Err(still_running) => still_running,
    /// };
    /// child.kill()?;
    /// assert_eq!(child.join().unwrap_err().signal(), Some(9));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<R, JoinError>, Self> {
        self.join_until(Deadline::after(timeout))
    }

    /// As [`join`](Self::join), if the process has ended. Otherwise gives the handle back.
    ///
    /// ```
    /// let mut child = procession::spawn(|n: u64| n + 1, 1)?;
    /// let result = loop {
    ///     match child.try_join() {
    ///         Ok(result) => break result?,
    ///         Err(still_running) => child = still_running,
    ///     }
    ///     std::thread::yield_now(); // or something useful
    /// };
    /// assert_eq!(result, 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_join(self) -> Result<Result<R, JoinError>, Self> {
        self.join_until(Deadline::Now)
    }

    fn join_until(self, deadline: Deadline) -> Result<Result<R, JoinError>, Self> {
        let child = &self.running.child;
        match wait(|| child.wait(deadline)) {
            Ok(Some(exit)) => Ok(self.conclude(exit)),
            Ok(None) => Err(self),
            Err(error) => Ok(Err(lost(Error::engine(error)))),
        }
    }

    /// The result of a process that has ended so.
    fn conclude(self, exit: Exit) -> Result<R, JoinError> {
        self.conclude_by(exit, read)
    }

    fn conclude_by(self, exit: Exit, read: impl FnOnce(&Incoming) -> Result<R, JoinError>) -> Result<R, JoinError> {
        let running = &self.running;
        here().children.remove(running);
        forward::hand_over();
        match running.result_slot.take().map_err(|e| lost(Error::engine(e)))? {
            Some(incoming) => read(&incoming),
            None => Err(match exit {
                Exit::Code(code) => JoinError::Exited { code },
                Exit::Signal(signal) => JoinError::Signaled { signal },
                Exit::Unknown => JoinError::Unknown,
            }),
        }
    }
}

/// Wait until one of these processes has ended, and return its place among them.
///
/// ```
/// let children = [
///     procession::spawn(|_: u8| loop { std::thread::park() }, 0)?,
///     procession::spawn(|_: u8| std::process::exit(3), 1)?,
/// ];
/// assert_eq!(procession::wait_any(&children)?, 1);
/// let [first, second]: [procession::JoinHandle<()>; 2] = children;
/// first.kill()?;
/// let results = procession::wait_all([first, second]);
/// assert_eq!(results[0].as_ref().unwrap_err().signal(), Some(9));
/// assert_eq!(results[1].as_ref().unwrap_err().code(), Some(3));
/// # Ok::<(), procession::Error>(())
/// ```
pub fn wait_any<R>(handles: &[JoinHandle<R>]) -> Result<usize> {
    loop {
        // A day, because a timeout has an end.
        if let Some(ended) = wait_any_timeout(handles, Duration::from_secs(86_400))? {
            return Ok(ended);
        }
    }
}

/// As [`wait_any`], but wait at most `timeout`. `None`: all of them still run.
///
/// ```
/// use std::time::Duration;
///
/// let child = procession::spawn(|()| loop { std::thread::park() }, ())?;
/// let children: [procession::JoinHandle<()>; 1] = [child];
/// assert_eq!(procession::wait_any_timeout(&children, Duration::from_millis(1))?, None);
/// children[0].kill()?;
/// assert_eq!(procession::wait_any_timeout(&children, Duration::from_secs(60))?, Some(0));
/// # Ok::<(), procession::Error>(())
/// ```
pub fn wait_any_timeout<R>(handles: &[JoinHandle<R>], timeout: Duration) -> Result<Option<usize>> {
    if handles.is_empty() {
        return Err(Error::Invalid("no process to wait for"));
    }
    let begin = Instant::now();
    let sentinels: Vec<_> = handles.iter().map(JoinHandle::sentinel).collect();
    let mut fds: Vec<_> = sentinels.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    loop {
        let left = timeout.saturating_sub(begin.elapsed());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(fds.iter().position(|fd| !fd.revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::engine(procession_core::Error::os("poll", error))),
        }
    }
}

/// Wait until all of these processes have ended, and return the result of each, in their order.
///
/// ```
/// let children: Vec<_> = (0..3).map(|n| procession::spawn(|n: u64| n * n, n)).collect::<Result<_, _>>()?;
/// let squares: Result<Vec<u64>, _> = procession::wait_all(children).into_iter().collect();
/// assert_eq!(squares?, [0, 1, 4]);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn wait_all<R: DeserializeOwned>(handles: impl IntoIterator<Item = JoinHandle<R>>) -> Vec<Result<R, JoinError>> {
    handles.into_iter().map(JoinHandle::join).collect()
}

fn lost(error: Error) -> JoinError {
    JoinError::Lost(error.to_string())
}

fn read<R: DeserializeOwned>(incoming: &Incoming) -> Result<R, JoinError> {
    let (kind, rest) = incoming.body().split_first().unwrap_or((&LOST, &[]));
    match *kind {
        RETURNED => codec::unpack(rest, Vec::new()).map_err(lost),
        PANICKED => {
            let (message, location, backtrace) = codec::unpack(rest, Vec::new()).map_err(lost)?;
            Err(JoinError::Panicked {
                message,
                location,
                backtrace,
            })
        }
        _ => Err(JoinError::Lost(String::from_utf8_lossy(rest).into_owned())),
    }
}
