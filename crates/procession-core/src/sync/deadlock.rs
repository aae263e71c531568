//! Deadlocks, found by the threads that wait: from time to time one that waits for a lock follows what waits for what.
//! Leaves to `wait` when to look, and how the wait ends.
//!
//! The README of this folder says what counts as a deadlock, and why there is no false alarm.

pub(crate) mod graph;
mod read;

use super::claim::Claim;
use super::primitive::Ordering;
use crate::liveness::{self, label, Target};
use crate::sys::limits::is_secure;
use graph::deadlock_of;
use read::{Look, Seen, Thread};
use std::cell::{Cell, RefCell};
use std::fmt::Write;

/// How long a wait lasts before its thread looks for a deadlock, in milliseconds.
const PATIENCE: u64 = 250;
/// How often it looks after that. A deadlock is one that two looks show.
const AGAIN: u64 = 100;
/// How often a look is tried. It fails if a thread woke meanwhile, even if only to see that it has to wait further.
const ATTEMPTS: usize = 3;
/// How much the notes of one beginning may differ: a wait that goes on after an interruption notes it anew.
const MARGIN: u32 = 25;

/// What is done about a deadlock, in the whole family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One of its threads says on stderr, once, what waits for what. The default.
    Report = 1,
    /// The wait of one of its threads ends with [`Error::Deadlock`](crate::Error::Deadlock). The others go on when that
    /// thread releases what it holds.
    Raise = 2,
    /// Nothing, and none is looked for.
    Off = 3,
}

impl Mode {
    const ALL: [(Self, &'static str); 3] = [(Self::Report, "report"), (Self::Raise, "raise"), (Self::Off, "off")];

    /// The mode of this name: `report`, `raise` or `off`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, other)| *other == name)
            .map(|(mode, _)| *mode)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize - 1].1
    }

    fn numbered(number: u64) -> Option<Self> {
        Self::ALL
            .iter()
            .map(|(mode, _)| *mode)
            .find(|&mode| mode as u64 == number)
    }

    /// What the environment asks for.
    fn of_environment() -> Self {
        // A program that runs with more rights than its caller does not take what it does from the environment.
        let asked = (!is_secure())
            .then(|| std::env::var("PROCESSION_DEADLOCKS").ok())
            .flatten();
        asked.and_then(|name| Self::named(&name)).unwrap_or(Self::Report)
    }
}

/// What the family does about deadlocks: what [`set_mode`] said last, or else the environment variable
/// `PROCESSION_DEADLOCKS` of the first process that asked.
pub fn mode() -> Mode {
    let Some(word) = liveness::deadlock_word() else {
        return Mode::of_environment();
    };
    Mode::numbered(word.load(Ordering::Acquire)).unwrap_or_else(|| {
        let mode = Mode::of_environment();
        let _ = word.compare_exchange(0, mode as u64, Ordering::AcqRel, Ordering::Relaxed);
        mode
    })
}

/// Set what all processes of the family do about deadlocks. Returns what they did before.
pub fn set_mode(new: Mode) -> crate::Result<Mode> {
    crate::family()?;
    let former = mode();
    if let Some(word) = liveness::deadlock_word() {
        word.store(new as u64, Ordering::Release);
    }
    Ok(former)
}

/// A deadlock as one look shows it: its members, and the beginning of the wait of each.
type Shown = Vec<(Thread, u32)>;

thread_local! {
    /// When this thread looked last.
    static LOOKED: Cell<u64> = const { Cell::new(0) };
    /// What it saw then, if that was a deadlock.
    static SHOWN: RefCell<Shown> = const { RefCell::new(Vec::new()) };
    /// When the wait began of which it reported the deadlock.
    static REPORTED: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Whether the calling thread's wait for a lock, which began at `since` (as `liveness::now` counts), is part of a
/// deadlock that it has to end. Reports a deadlock that nothing ends.
pub(crate) fn look(since: u64) -> Option<String> {
    let now = liveness::now();
    if now.saturating_sub(since) < PATIENCE || now.wrapping_sub(LOOKED.get()) < AGAIN {
        return None;
    }
    LOOKED.set(now);
    let mode = mode();
    let reported = REPORTED.get().is_some_and(|when| is_same(when, since as u32));
    if mode == Mode::Off || reported && mode == Mode::Report {
        return None;
    }
    let me = Thread::of(Claim::mine().ok()?);
    let mut found = None;
    for _ in 0..ATTEMPTS {
        let mut look = Look::of(me);
        let members = deadlock_of(me, |thread| look.awaits(thread))?;
        if look.held_at_once() {
            found = Some((members, look));
            break;
        }
    }
    let (members, look) = found?;
    let shown: Shown = members
        .iter()
        .filter_map(|&one| Some((one, look.seen(one)?.wait.since)))
        .collect();
    // An older look serves as well: a wait that began before it has lasted ever since.
    let before = SHOWN.replace(shown.clone());
    lasts(&before, &shown).then_some(())?;
    let seen: Vec<(Thread, &Seen)> = members.iter().filter_map(|&one| Some((one, look.seen(one)?))).collect();
    let fails = (mode == Mode::Raise).then(|| victim(&seen)).flatten();
    if fails == Some(me) {
        SHOWN.take();
        return Some(words(&seen, "; "));
    }
    // A thread that waits for the end of a process does not look.
    let speaker = seen.iter().find(|(_, seen)| seen.lock.is_some());
    if fails.is_none() && !reported && speaker.is_some_and(|&(one, _)| one == me) {
        REPORTED.set(Some(since as u32));
        let text = format!("procession: {}\n", words(&seen, "\n  "));
        // Nothing can be done about an error, and nothing depends on it.
        let _ = rustix::io::write(std::io::stderr(), text.as_bytes());
    }
    None
}

fn is_same(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32).unsigned_abs() <= MARGIN
}

/// Whether two looks show the same deadlock.
fn lasts(before: &Shown, now: &Shown) -> bool {
    let same = |(one, other): (&(Thread, u32), &(Thread, u32))| one.0 == other.0 && is_same(one.1, other.1);
    before.len() == now.len() && before.iter().zip(now).all(same)
}

/// The member whose wait ends: one for which another waits, because of a lock that it holds or of its process.
fn victim(seen: &[(Thread, &Seen)]) -> Option<Thread> {
    let waits_for = |seen: &Seen, thread: Thread| match (&seen.lock, seen.wait.target) {
        (Some(lock), _) => lock.holder == thread,
        (None, Target::Process(owner)) => owner == thread.owner(),
        (None, Target::Object { .. }) => false,
    };
    let is_awaited = |thread: Thread| seen.iter().any(|(_, seen)| waits_for(seen, thread));
    let may_fail = seen
        .iter()
        .filter(|(_, seen)| seen.lock.is_some() && seen.wait.may_fail);
    may_fail.map(|&(thread, _)| thread).find(|&thread| is_awaited(thread))
}

/// What waits for what.
fn words(seen: &[(Thread, &Seen)], between: &str) -> String {
    let threads = if seen.len() == 1 { "thread" } else { "threads" };
    let mut text = format!("deadlock of {} {threads}, of which none can go on:", seen.len());
    for (at, (thread, seen_of)) in seen.iter().enumerate() {
        let between = if at == 0 && !between.starts_with('\n') {
            " "
        } else {
            between
        };
        let _ = write!(
            text,
            "{between}{} has waited {} for ",
            name(*thread),
            time(seen_of.wait.for_ms())
        );
        let _ = match &seen_of.lock {
            None => match seen_of.wait.target {
                Target::Process(owner) => write!(text, "the end of {}", label(owner)),
                Target::Object { .. } => Ok(()),
            },
            Some(lock) => {
                let _ = write!(text, "the {}", lock.class);
                if let Some(name) = &lock.name {
                    let _ = write!(text, " {name:?}");
                }
                if let Some(made) = &lock.made {
                    let _ = write!(text, " made at {made}");
                }
                // A thread that waits has acquired nothing since it began to.
                let holds = seen.iter().find(|(other, _)| *other == lock.holder);
                let held = holds.map(|(_, holder)| format!(" for at least {}", time(holder.wait.for_ms())));
                let holder = if lock.holder == *thread {
                    "it".to_owned()
                } else {
                    name(lock.holder)
                };
                write!(text, ", which {holder} has held{}", held.unwrap_or_default())
            }
        };
    }
    text
}

fn name(thread: Thread) -> String {
    let label = label(thread.owner());
    match liveness::describe(thread.owner()) {
        Some((pid, _)) if pid == thread.number() => label,
        _ => format!("thread {} of {label}", thread.number()),
    }
}

fn time(ms: u32) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
