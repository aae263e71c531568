//! `procession top`: a family, again and again, in a terminal.

mod page;
mod rows;
mod state;
#[cfg(test)]
mod tests;
mod view;
mod work;

use crate::findings::Limits;
use crate::{pick, Failure, MISUSED, UNREADABLE};
use crossterm::event::{self, Event, KeyEventKind};
use procession_core::inspect::{InspectError, Inspector};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::{flag, SigId};
use state::State;
use std::io::{self, IsTerminal};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use work::Work;

/// Gives the terminal back as it was.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to give back, and nobody to tell.
        let _ = ratatui::try_restore();
        let _ = ratatui::crossterm::execute!(io::stdout(), ratatui::crossterm::cursor::Show);
    }
}

/// How long one wait for a key lasts at most. A signal may reach another thread than the one that waits.
const SLICE: Duration = Duration::from_millis(100);

/// Why the screen is left.
enum Leave {
    /// A key asked for it.
    Asked,
    /// The terminal is gone.
    HungUp,
    /// This signal came.
    Signal(i32),
}

/// The signals that end a program, noted instead.
struct Signals(Arc<AtomicUsize>, Vec<SigId>);

impl Signals {
    fn note() -> io::Result<Self> {
        // A new size interrupts the wait for input; nothing is noted of it.
        let resized = flag::register(SIGWINCH, Arc::default())?;
        let mut signals = Self(Arc::default(), vec![resized]);
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            if !is_ignored(signal) {
                signals
                    .1
                    .push(flag::register_usize(signal, Arc::clone(&signals.0), signal as usize)?);
            }
        }
        Ok(signals)
    }

    fn noted(&self) -> Option<i32> {
        let signal = self.0.load(Ordering::Relaxed) as i32;
        (signal != 0).then_some(signal)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for &id in &self.1 {
            signal_hook::low_level::unregister(id);
        }
    }
}

/// Whether this process was told to ignore a signal, as `nohup` does. No if the kernel does not show it.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 != 0)
}

pub(crate) fn show(pid: Option<u32>, interval: Duration, limits: Limits) -> Result<(), Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure {
            code: MISUSED,
            message: "top needs a terminal; dump does not".to_owned(),
        });
    }
    let inspector = pick::family(pid)?;
    let mut state = State::new(limits);
    // The first look comes before the screen changes: what it fails with is an ordinary error.
    state.see(inspector.snapshot()?, Instant::now());
    let signals = Signals::note()?;
    let leave = watch(inspector, &mut state, interval, &signals)?;
    // The terminal is as it was before: now the signal does what it would have done at once.
    if let Leave::Signal(signal) = leave {
        signal_hook::low_level::emulate_default_handler(signal)?;
    }
    match leave {
        Leave::HungUp => Err(Failure {
            code: UNREADABLE,
            message: "the terminal is gone".to_owned(),
        }),
        Leave::Asked | Leave::Signal(_) => Ok(()),
    }
}

fn watch(inspector: Inspector, state: &mut State, interval: Duration, signals: &Signals) -> io::Result<Leave> {
    let has_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let _restored = Restored;
    // Its destructor would report that the cursor cannot be shown, on a stream that may be gone as well, and panic.
    let mut terminal = ManuallyDrop::new(ratatui::try_init()?);
    // Let go of when the family has ended: an open file keeps its memory.
    let of = inspector.pid();
    let mut inspector = Some(inspector);
    let mut work = Work::new();
    let mut next = Instant::now() + interval;
    loop {
        terminal.draw(|frame| view::draw(frame, state, has_colour))?;
        if let Some(leave) = handle_keys(state, next, signals, &mut work, of)? {
            return Ok(leave);
        }
        if Instant::now() >= next {
            next = Instant::now() + interval;
            if let (Some(open), false) = (&inspector, state.is_paused()) {
                match open.snapshot() {
                    Ok(seen) => state.see(seen, Instant::now()),
                    Err(error) => {
                        if matches!(error, InspectError::Ended(_)) {
                            inspector = None;
                        }
                        state.end(error.to_string());
                    }
                }
            }
        }
    }
}

/// Handle what is typed until it is time for the `next` look, or until something was typed, something that was asked for
/// is there, or the size of the terminal has changed.
fn handle_keys(
    state: &mut State,
    next: Instant,
    signals: &Signals,
    work: &mut Work,
    of: u32,
) -> io::Result<Option<Leave>> {
    loop {
        if work.turn(state, of) {
            return Ok(None);
        }
        if let Some(signal) = signals.noted() {
            return Ok(Some(Leave::Signal(signal)));
        }
        let patience = next.saturating_duration_since(Instant::now()).min(SLICE);
        // Crossterm reads on for ever where the terminal is gone, so it reads only what is known to be there.
        let is_readable = match wait_for_input(PollFlags::IN, patience)? {
            Input::Gone => return Ok(Some(Leave::HungUp)),
            // The size has changed, or a signal has come.
            Input::Interrupted => return Ok(signals.noted().map(Leave::Signal)),
            Input::Readable => true,
            Input::None => false,
        };
        let mut was_typed = false;
        while is_readable && event::poll(Duration::ZERO)? {
            was_typed = true;
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release && state.press(key) => {
                    return Ok(Some(Leave::Asked));
                }
                _ => {}
            }
            if let Input::Gone = wait_for_input(PollFlags::IN, Duration::ZERO)? {
                return Ok(Some(Leave::HungUp));
            }
        }
        if is_readable && !was_typed {
            // The rest of what was typed at once: it is read with the next key.
            wait_for_input(PollFlags::empty(), SLICE)?;
        }
        if was_typed || Instant::now() >= next {
            return Ok(None);
        }
    }
}

enum Input {
    None,
    Readable,
    Interrupted,
    Gone,
}

fn wait_for_input(flags: PollFlags, patience: Duration) -> io::Result<Input> {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(&stdin, flags)];
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    match rustix::event::poll(&mut polled, Some(&patience)) {
        Ok(0) => Ok(Input::None),
        Ok(_) if polled[0].revents() == PollFlags::IN => Ok(Input::Readable),
        Ok(_) => Ok(Input::Gone),
        Err(Errno::INTR) => Ok(Input::Interrupted),
        Err(error) => Err(error.into()),
    }
}
