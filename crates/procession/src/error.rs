//! The errors of this crate: of operations in this process, and of a process that left no result.

use crate::Death;
use procession_core::{Error as Engine, WaitError};
use std::path::{Path, PathBuf};

/// The result of an operation that may fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation that failed.
///
/// ```
/// use procession::{Error, Queue};
/// use std::time::Duration;
///
/// let queue = Queue::<u32>::new()?;
/// assert!(matches!(queue.get_timeout(Duration::from_millis(1)), Err(Error::TimedOut)));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine or the operating system reported an error.
    #[error(transparent)]
    Engine(EngineError),
    /// The family's first process is dead, and every other process also waits without a timeout: no process is left
    /// that could end this wait.
    #[error(transparent)]
    Abandoned(EngineError),
    /// The wait was part of a deadlock, and ended so that its other threads can go on: see
    /// [`deadlocks`](crate::deadlocks()). The text says what waits for what. The lock was not taken.
    #[error(transparent)]
    Deadlock(EngineError),
    /// A value could not be serialized.
    #[non_exhaustive]
    #[error("a {kind} cannot be sent to another process: {reason}")]
    Encode {
        /// The value's type.
        kind: &'static str,
        /// The cause, in the words of the type's implementation of `Serialize` if it gave them.
        reason: String,
    },
    /// Bytes from another process could not be deserialized.
    #[non_exhaustive]
    #[error("what another process sent is no {kind}: {reason}")]
    Decode {
        /// The expected type.
        kind: &'static str,
        /// The cause, in the words of the type's implementation of `Deserialize` if it gave them.
        reason: String,
    },
    /// The function is not part of the executable.
    #[error("{0} is not part of this executable, and a child could not find it; a shared library cannot start its own functions, except by StartMethod::Fork in a process of one thread")]
    Elsewhere(&'static str),
    /// A daemonic process must not start other processes: none would end them.
    #[error("daemonic processes are not allowed to have children")]
    Daemon,
    /// `StartMethod::Fork` beside other threads: a lock that one of them holds would stay locked in the child for ever.
    #[error("this process has other threads, whose locks a child by StartMethod::Fork would inherit locked; use another start method, or Builder::fork_beside_threads")]
    Threads,
    /// `StartMethod::Fork` while a guard of a [`Mutex`](crate::Mutex), [`Array`](crate::Array) or [`Lock`](crate::Lock)
    /// lives or was leaked: the child would have a copy of the guard, and access to what it guards.
    #[error("this process holds a lock, whose guard a child by StartMethod::Fork would inherit; release the lock first, or use another start method")]
    Guards,
    /// A program that runs with more rights than its caller (set-user-id, for example) must not be executed again with
    /// the caller's environment.
    #[error("a program that runs with more rights than its caller starts processes by StartMethod::Fork only")]
    Secure,
    /// The helper process of `StartMethod::Forkserver` ended before it could start a child; it does so at once if a
    /// function of the program that runs before `main` starts a thread.
    #[error("the fork server ended before it could start a child")]
    ForkServer,
    /// The timeout passed: the lock was still held, the queue still empty or full, or the event not set.
    #[error("timed out")]
    TimedOut,
    /// All ends of the other side of a [`channel`](crate::channel()) are gone: dropped, or dead with their processes.
    #[error("the other side of the channel is gone")]
    Disconnected,
    /// The process that held the lock died or panicked. Returned to exactly one caller; that caller had the lock and
    /// has released it.
    #[error("{0}; what it guards may be half-changed")]
    OwnerDied(Box<Death>),
    /// The barrier was aborted or reset, or a party timed out or died.
    #[error(transparent)]
    BrokenBarrier(EngineError),
    /// The pool worker that ran a task died. Only the result of this task is lost.
    #[non_exhaustive]
    #[error("pool worker {pid} died during a task: {how}")]
    WorkerDied {
        /// The worker's process.
        pid: i32,
        /// How it ended.
        how: JoinError,
    },
    /// A task took longer than [`Pool::task_timeout`](crate::Pool::task_timeout) allows. Only its worker was stopped.
    #[non_exhaustive]
    #[error("a task ran for more than {limit:?}, and its worker {pid} was stopped")]
    TaskTimedOut {
        /// The limit.
        limit: std::time::Duration,
        /// The worker's process.
        pid: i32,
    },
    /// The task was cancelled.
    #[error("the task was cancelled")]
    Cancelled,
    /// The pool was terminated before the task was done.
    #[error("the pool was terminated before the task was done")]
    Terminated,
    /// The program already has a logger: this crate's, or one that it installed itself.
    #[error("a logger is installed already; what processes log goes to it")]
    Logger,
    /// The log file cannot be opened.
    #[non_exhaustive]
    #[error("the log {} cannot be opened: {source}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// An invalid argument or call.
    #[error("{0}")]
    Invalid(&'static str),
    /// The child did not return.
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// What the engine or the operating system reported: a text, and its causes by
/// [`source`](std::error::Error::source).
///
/// ```
/// let error = procession::Array::<u8>::zeroed(1 << 60).map(drop).unwrap_err();
/// assert!(matches!(error, procession::Error::Engine(reason) if reason.to_string().starts_with("out of")));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct EngineError(Box<dyn std::error::Error + Send + Sync>);

impl EngineError {
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

// Not `From`: the engine's types are no part of this crate's interface.
impl Error {
    pub(crate) fn engine(error: Engine) -> Self {
        match error {
            Engine::Abandoned => Self::Abandoned(EngineError::new(error)),
            Engine::Deadlock(_) => Self::Deadlock(EngineError::new(error)),
            error => Self::Engine(EngineError::new(error)),
        }
    }

    pub(crate) fn wait(error: WaitError) -> Self {
        match error {
            WaitError::TimedOut | WaitError::Interrupted => Self::TimedOut,
            WaitError::OwnerDied(death) => Self::OwnerDied(Box::new(Death::of_engine(&death))),
            WaitError::Other(error) => Self::engine(error),
        }
    }

    pub(crate) fn log(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        Self::Log { path, source }
    }
}

/// An error of the engine as one of this crate.
pub(crate) trait Ours<T> {
    fn ours(self) -> Result<T>;
}

impl<T> Ours<T> for Result<T, Engine> {
    fn ours(self) -> Result<T> {
        self.map_err(Error::engine)
    }
}

impl<T> Ours<T> for Result<T, WaitError> {
    fn ours(self) -> Result<T> {
        self.map_err(Error::wait)
    }
}

/// Why a process left no result.
///
/// ```
/// fn half(n: u32) -> u32 {
///     assert!(n % 2 == 0, "{n} is odd");
///     n / 2
/// }
/// let error = procession::spawn(half, 7)?.join().unwrap_err();
/// assert!(matches!(&error, procession::JoinError::Panicked { message, .. } if message == "7 is odd"));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Its function panicked.
    #[non_exhaustive]
    #[error("the process panicked at {location}: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
        /// File, line and column.
        location: String,
        /// The backtrace, if `RUST_BACKTRACE`, `RUST_LIB_BACKTRACE` or
        /// [`Builder::backtrace`](crate::Builder::backtrace) asks for one.
        backtrace: Option<String>,
    },
    /// A signal ended it.
    #[non_exhaustive]
    #[error("the process was ended by signal {}", signal_name(*.signal))]
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// It exited before its function returned.
    #[non_exhaustive]
    #[error("the process exited with code {code} before its function returned")]
    Exited {
        /// The exit code.
        code: i32,
    },
    /// It ended, but the process that could tell how is gone.
    #[error("the process ended before its function returned, and the process that could tell how is gone")]
    Unknown,
    /// It left a result that could not be delivered.
    #[error("the process's result is lost: {0}")]
    Lost(String),
}

impl JoinError {
    /// The signal that ended the process, if one did.
    ///
    /// ```
    /// let child = procession::spawn(|()| std::process::abort(), ())?;
    /// let error: procession::JoinError = child.join().map(|()| ()).unwrap_err();
    /// assert_eq!((error.signal(), error.code()), (Some(6), None)); // SIGABRT
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn signal(&self) -> Option<i32> {
        match self {
            Self::Signaled { signal } => Some(*signal),
            _ => None,
        }
    }

    /// The code with which the process exited before its function returned, if it did.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Exited { code } => Some(*code),
            _ => None,
        }
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGSYS => "SIGSYS",
        _ => return signal.to_string(),
    };
    format!("{signal} ({name})")
}

/// Repeat an unbounded wait that a signal interrupted. The only errors left are the engine's.
pub(crate) fn wait<T>(mut wait: impl FnMut() -> Result<T, WaitError>) -> Result<T, Engine> {
    loop {
        match wait() {
            Ok(value) => return Ok(value),
            Err(WaitError::Interrupted) => {}
            Err(WaitError::Other(error)) => return Err(error),
            Err(WaitError::TimedOut | WaitError::OwnerDied(_)) => {
                return Err(Engine::Corrupt("a wait without a deadline ended"));
            }
        }
    }
}
