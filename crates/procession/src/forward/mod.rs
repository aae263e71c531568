//! Records of children that reach the logger, and the `tracing` subscriber, of the process that asks for them.
//!
//! A child sends each record through a channel, which is in shared memory at once: what it said last before it crashed
//! arrives, too. A thread of the asking process hands the records to its own logger. A process that joins a child, or
//! exits, first hands over what is there.

#[cfg(feature = "tracing")]
mod site;
#[cfg(feature = "tracing")]
mod subscriber;

use crate::{channel, current, Error, Receiver, Result, Sender};
use log::{Level, LevelFilter, Log, Metadata, Record};
use procession_core::{Deadline, WaitError};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Hand what children log to the logger of this process, from now on: what they say with the macros of the crate `log`,
/// and with the feature `tracing` also their events. This holds for children that are started from now on, and for
/// theirs.
///
/// The last records before a crash arrive, too. Those of a child are there once it is joined, unless the logger is busy
/// for more than a second. The logger is the one that
/// the program has installed, as that of `env_logger`; its level at the start of a child is the child's. A record has the
/// child's name before its text, as in `[Process-1] text`.
///
/// With `tracing`, an event reaches this process's subscriber with its level, target, place and fields, and the fields
/// `process.name`, `process.pid` and, inside of spans, `process.spans`. It reaches the global subscriber, or that of a
/// thread that joins the child.
///
/// A child that has set up a logger or a subscriber itself before its function runs keeps that one. Where
/// [`log_to_stderr`](crate::log_to_stderr) or [`log_to_file`](crate::log_to_file) is in use, children log there, and only
/// their events of `tracing` are handed over. A child by [`Fork`](crate::StartMethod::Fork) has a copy of this process's
/// logger; while the thread runs that this starts, such a fork is refused.
///
/// ```
/// # struct Own;
/// # impl log::Log for Own {
/// #     fn enabled(&self, _: &log::Metadata<'_>) -> bool { true }
/// #     fn log(&self, record: &log::Record<'_>) { SAID.lock().unwrap().push(record.args().to_string()); }
/// #     fn flush(&self) {}
/// # }
/// # static SAID: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
/// # log::set_logger(&Own).unwrap();
/// # log::set_max_level(log::LevelFilter::Warn);
/// // after env_logger::init(), or another logger's
/// procession::forward_logs()?;
/// fn fail((): ()) {
///     log::warn!("this is the end");
///     std::process::abort();
/// }
/// assert!(procession::spawn(fail, ())?.join().is_err());
/// # assert_eq!(*SAID.lock().unwrap(), ["[Process-1] this is the end"]); // by the logger of this process
/// # Ok::<(), procession::Error>(())
/// ```
pub fn forward_logs() -> Result<()> {
    let pid = std::process::id();
    let is_started = STARTED.load(std::sync::atomic::Ordering::SeqCst);
    if is_started && FORWARD.get().is_some_and(|forward| forward.pid == pid) {
        return Ok(());
    }
    let (to, from) = channel()?;
    let new = Forward {
        to,
        from,
        handing: Mutex::new(false),
        handed: Condvar::new(),
        pid,
    };
    let forward = FORWARD.get_or_init(|| new);
    if forward.pid != pid {
        return Err(Error::Invalid(
            "a forked copy hands its logs to the process that it is a copy of",
        ));
    }
    if !STARTED.swap(true, std::sync::atomic::Ordering::SeqCst) {
        let run = std::thread::Builder::new()
            .name("procession-log".into())
            .spawn(|| forward.run());
        run.map_err(|error| {
            STARTED.store(false, std::sync::atomic::Ordering::SeqCst); // the next call tries again
            Error::engine(procession_core::Error::os("clone", error))
        })?;
        crate::children::end_at_exit();
    }
    Ok(())
}

static STARTED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// The longest sleep of the thread. Not for ever: the engine ends endless waits if it takes them for the only ones.
const SLEEP: Duration = Duration::from_secs(3600);

/// How long a thread that joins a child waits for another one to hand over.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Log {
        process: String,
        level: Level,
        target: String,
        module: Option<String>,
        file: Option<String>,
        line: Option<u32>,
        text: String,
    },
    #[cfg(feature = "tracing")]
    Event(subscriber::ChildEvent),
}

/// What this process hands over, once it was asked to.
static FORWARD: OnceLock<Forward> = OnceLock::new();

/// Where this process sends what it says, if it is a child of one that asked for it.
static PARENTS: OnceLock<Link> = OnceLock::new();

struct Forward {
    to: Sender<Said>,
    from: Receiver<Said>,
    /// Whether a thread hands over: one at a time, so that records stay in their order.
    handing: Mutex<bool>,
    handed: Condvar,
    pid: u32,
}

/// How a child sends what it says; a part of its request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Link {
    to: Sender<Said>,
    level: LevelFilter,
    /// The subscriber's level: 0 for none, 5 for all.
    events: u8,
}

/// The link for a child that does not inherit this process's memory.
pub(crate) fn link() -> Option<Link> {
    let own = FORWARD.get().map(|forward| &forward.to);
    let to = own.or_else(|| PARENTS.get().map(|link| &link.to))?;
    Some(Link {
        to: to.clone(),
        level: log::max_level(),
        #[cfg(feature = "tracing")]
        events: subscriber::level(),
        #[cfg(not(feature = "tracing"))]
        events: 0,
    })
}

/// Send what this process says by this link.
pub(crate) fn inherit(link: Link) {
    let link = PARENTS.get_or_init(|| link);
    // A program that has set up a logger before keeps it.
    if log::set_logger(&LogToParent).is_ok() {
        log::set_max_level(link.level);
    }
    #[cfg(feature = "tracing")]
    subscriber::install(link.events);
}

/// Send it to the process that asked for it. If that process is gone, or memory is exhausted, there is no place to report
/// it.
fn send(said: &Said) {
    if let Some(link) = PARENTS.get() {
        let _ = link.to.send(said);
    }
}

/// The logger of a child.
struct LogToParent;

impl Log for LogToParent {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            send(&Said::Log {
                process: current().name().to_owned(),
                level: record.level(),
                target: record.target().to_owned(),
                module: record.module_path().map(str::to_owned),
                file: record.file().map(str::to_owned),
                line: record.line(),
                text: record.args().to_string(),
            });
        }
    }

    fn flush(&self) {}
}

thread_local! {
    /// Whether this thread hands over: then it does not begin again, for instance for a logger that joins a child.
    static HANDING: Cell<bool> = const { Cell::new(false) };
}

/// Hand over what is there, if this process was asked to.
pub(crate) fn hand_over() {
    if let Some(forward) = FORWARD.get().filter(|forward| forward.pid == std::process::id()) {
        forward.hand_over();
    }
}

impl Forward {
    fn run(&self) {
        loop {
            match self.from.wait_until_ready(Deadline::after(SLEEP)) {
                Ok(()) => self.hand_over(),
                Err(WaitError::TimedOut | WaitError::Interrupted) => {}
                Err(_) => return,
            }
        }
    }

    fn hand_over(&self) {
        let Some(_turn) = Turn::take(self) else { return };
        // Not what comes meanwhile: another child may say more than is handed over, for ever. What cannot be read is
        // dropped: it is said in a language of another version.
        let there = self.from.len().unwrap_or(0);
        for said in std::iter::from_fn(|| self.next()).take(usize::try_from(there).unwrap_or(usize::MAX)) {
            // The program's logger may panic.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hand(said)));
        }
    }

    fn next(&self) -> Option<Said> {
        loop {
            match self.from.try_recv() {
                Ok(said) => return Some(said),
                Err(crate::RecvError::Failed(Error::Decode { .. })) => {}
                Err(_) => return None,
            }
        }
    }
}

/// The right to hand over.
struct Turn<'a>(&'a Forward);

impl<'a> Turn<'a> {
    /// `None`: this thread has it already, or another one has it for too long.
    fn take(forward: &'a Forward) -> Option<Self> {
        if HANDING.get() {
            return None;
        }
        let handing = forward.handing.lock().unwrap_or_else(PoisonError::into_inner);
        // The logger of the thread that hands over may wait for a lock that this thread holds, as that of the standard
        // output.
        let waited = forward.handed.wait_timeout_while(handing, PATIENCE, |handing| *handing);
        let (mut handing, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *handing, true) {
            return None;
        }
        HANDING.set(true);
        Some(Self(forward))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        HANDING.set(false);
        *self.0.handing.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.handed.notify_all();
    }
}

fn hand(said: Said) {
    match said {
        Said::Log {
            process,
            level,
            target,
            module,
            file,
            line,
            text,
        } => {
            let metadata = Metadata::builder().level(level).target(&target).build();
            if log::logger().enabled(&metadata) {
                let mut record = Record::builder();
                record.metadata(metadata).module_path(module.as_deref());
                record.file(file.as_deref()).line(line);
                log::logger().log(&record.args(format_args!("[{process}] {text}")).build());
            }
        }
        #[cfg(feature = "tracing")]
        Said::Event(occurred) => site::emit(&occurred),
    }
}
