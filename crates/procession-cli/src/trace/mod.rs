//! `procession trace`: what happened when, as a file that Perfetto and other viewers of Chrome's traces open.

mod chrome;

use crate::{pick, Failure, UNREADABLE};
use chrome::Chrome;
use procession_core::inspect::{InspectError, Inspector, ObjectId, TraceEvent, Tracer};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at the rings: a ring has room for 8,190 events.
const POLL: Duration = Duration::from_millis(1);
/// Between two looks at the names of processes that are new.
const NAMES: Duration = Duration::from_millis(20);
/// Between two looks at what else there is: whether the family lives, and what its objects are called.
const FAMILY: Duration = Duration::from_millis(500);
/// As [`FAMILY`], while events of an object that is new wait for its name.
const NEW: Duration = Duration::from_millis(50);

/// Events that are written between two looks at the rings.
const TURN: usize = 256;
/// Events that may wait to be written: some 100 MB. While there are more, the rings are not read, and lose events.
const MOST_WAITING: usize = 1 << 21;

/// Ends the trace when it is set.
struct Ending {
    flag: Arc<AtomicBool>,
    handlers: Vec<signal_hook::SigId>,
}

impl Ending {
    fn on_signals() -> Result<Self, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        let mut handlers = Vec::new();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            handlers.push(flag::register(signal, Arc::clone(&flag))?);
        }
        Ok(Self { flag, handlers })
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        for id in self.handlers.drain(..) {
            low_level::unregister(id);
        }
    }
}

/// Trace a family until it ends, the time is over, or a signal comes.
pub(crate) fn write(
    out: &mut dyn Write,
    pid: Option<u32>,
    path: &Path,
    seconds: Option<Duration>,
) -> Result<(), Failure> {
    let inspector = pick::family(pid)?;
    let of = inspector.pid();
    let ending = Ending::on_signals()?;
    let end = seconds.and_then(|seconds| Instant::now().checked_add(seconds));
    let begun = || {
        writeln!(out, "tracing the family of process {of}")?;
        out.flush()
    };
    let (events, lost) = record(inspector, path, begun, || {
        ending.flag.load(Relaxed) || end.is_some_and(|end| Instant::now() >= end)
    })?;
    writeln!(out, "{events} events, {lost} lost: {}", path.display())?;
    Ok(())
}

/// Trace a family until it ends or `is_over`. `begun` is called when the trace is on. Returns how many events were written
/// down, and how many were lost.
pub(crate) fn record(
    inspector: Inspector,
    path: &Path,
    begun: impl FnOnce() -> io::Result<()>,
    is_over: impl Fn() -> bool,
) -> Result<(u64, u64), Failure> {
    // Before the file is made: there is none of a family that cannot be traced.
    let mut tracer = inspector.trace()?;
    let file = File::create(path).map_err(|error| Failure {
        code: UNREADABLE,
        message: format!("{}: {error}", path.display()),
    })?;
    let mut chrome = Chrome::begin(BufWriter::new(file))?;
    begun()?;
    let followed = follow(&mut tracer, &mut chrome, is_over);
    // The file is complete, whatever ended the trace.
    let (events, lost) = (chrome.events(), tracer.lost());
    chrome.end(lost)?;
    followed?;
    Ok((events, lost))
}

/// What was read of a trace and is not written down yet.
#[derive(Default)]
struct Backlog {
    read: Vec<TraceEvent>,
    events: VecDeque<TraceEvent>,
    /// Processes that were met, and those of them that have no name yet.
    known: HashSet<u32>,
    nameless: HashSet<u32>,
    /// Objects whose names were looked for.
    asked: HashSet<ObjectId>,
}

impl Backlog {
    /// Read what came since. Returns whether to do it again at once.
    fn read(&mut self, tracer: &mut Tracer, all: bool) -> Result<bool, InspectError> {
        let is_filling = tracer.read(all, &mut self.read)?;
        for event in self.read.drain(..) {
            if self.known.insert(event.process) {
                self.nameless.insert(event.process);
            }
            self.events.push_back(event);
        }
        Ok(is_filling)
    }

    /// The objects of the events that are next, of which no look has said yet what they are called.
    fn new_objects(&self) -> Vec<ObjectId> {
        let next = self.events.iter().take(TURN).filter_map(TraceEvent::object);
        next.filter(|object| !self.asked.contains(object)).collect()
    }

    fn write<W: Write>(&mut self, chrome: &mut Chrome<W>, most: usize) -> io::Result<()> {
        let number = most.min(self.events.len());
        self.events.drain(..number).try_for_each(|event| chrome.add(&event))
    }

    /// Find the names of processes. One that has none yet, or whose entry in the process table is gone, stays nameless.
    fn name<W: Write>(&mut self, tracer: &Tracer, chrome: &mut Chrome<W>) -> Result<(), InspectError> {
        let mut found = Vec::new();
        for &process in &self.nameless {
            if let Some(name) = tracer.name_of(process)?.filter(|name| !name.is_empty()) {
                found.push((process, name));
            }
        }
        for (process, name) in found {
            self.nameless.remove(&process);
            chrome.name(process, name);
        }
        Ok(())
    }
}

/// Write down what comes until `is_over`, or until no process of the family is left. The rings are read first, because
/// they are short; what cannot be written as fast waits here.
fn follow<W: Write>(tracer: &mut Tracer, chrome: &mut Chrome<W>, is_over: impl Fn() -> bool) -> Result<(), Failure> {
    let mut backlog = Backlog::default();
    let (mut names, mut family) = (Instant::now(), None::<Instant>);
    while !is_over() {
        let objects = backlog.new_objects();
        let pause = if objects.is_empty() { FAMILY } else { NEW };
        let is_due = family.is_none_or(|at| at.elapsed() >= pause);
        if is_due {
            family = Some(Instant::now());
            match tracer.inspector().snapshot() {
                Ok(seen) => chrome.note_objects(&seen),
                Err(InspectError::Ended(_)) => break,
                // It only says more about what is traced: perhaps the next look does.
                Err(_) => {}
            }
            // It is asked for once: an object that is gone by now keeps its number alone.
            backlog.asked.extend(&objects);
        }
        let mut is_filling = false;
        if backlog.events.len() < MOST_WAITING {
            is_filling = backlog.read(tracer, false)?;
        }
        if names.elapsed() >= NAMES {
            names = Instant::now();
            backlog.name(tracer, chrome)?;
        }
        if is_due || objects.is_empty() {
            backlog.write(chrome, TURN)?;
        }
        if !is_filling && (backlog.events.is_empty() || !objects.is_empty()) {
            std::thread::sleep(POLL);
        }
    }
    tracer.stop()?;
    backlog.read(tracer, true)?;
    backlog.name(tracer, chrome)?;
    // What has ended by now has no name that could be found.
    if let Ok(seen) = tracer.inspector().snapshot() {
        chrome.note_objects(&seen);
    }
    backlog.write(chrome, usize::MAX)?;
    Ok(())
}
