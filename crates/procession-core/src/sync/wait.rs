//! Spin briefly, then sleep in slices. The README of this module argues why no wake-up is lost.

use super::claim::Claim;
use super::primitive::{fence, sleep, sleep_low, wake, AtomicU32, AtomicU64, Ordering, Woken};
use super::spin::Spin;
use crate::ids::{Handle, Kind};
use crate::{liveness, trace, Deadline, Error, WaitError};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The longest sleep without a check for deaths.
pub const SLICE: Duration = Duration::from_secs(1);
/// The same for a wait that depends on one process's life.
pub const DEATH_CHECK_SLICE: Duration = Duration::from_millis(25);

/// An eventcount: waiters announce themselves, re-check their condition and sleep; notifiers pay a system call only if
/// a waiter has announced itself. Zero-filled is valid. Word: epoch in the upper bits, bit 0 = there may be sleepers.
#[repr(C)]
#[derive(Debug, Default)]
pub struct EventCount {
    word: AtomicU32,
    /// Whether spinning paid lately (adaptive).
    spin: Spin,
}

const WAITERS: u32 = 1;
const EPOCH: u32 = 2;

/// What a wait is for, as other processes see it in the process table, and how long it may sleep without a check for
/// deaths.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// The kind of object waited for.
    pub kind: Option<Kind>,
    /// The object waited for.
    pub object: Option<Handle>,
    /// The longest sleep between two checks of the condition.
    pub slice: Duration,
}

impl Default for Purpose {
    fn default() -> Self {
        Self {
            kind: None,
            object: None,
            slice: SLICE,
        }
    }
}

impl Purpose {
    /// A wait for an object.
    pub fn of(kind: Kind, object: Option<Handle>) -> Self {
        Self {
            kind: Some(kind),
            object,
            slice: SLICE,
        }
    }

    /// A wait that depends on another process's life: sleeps at most [`DEATH_CHECK_SLICE`].
    #[must_use]
    pub fn checking_deaths(self) -> Self {
        Self {
            slice: DEATH_CHECK_SLICE,
            ..self
        }
    }
}

/// The first slice of an [`Interruptible`] wait. Longer than the scheduler's tick (4 ms at 250 Hz): a sleep that ended
/// before the next tick would have the timer set anew, which makes a round trip on one core half as long again.
pub(super) const FIRST_SLICE: Duration = Duration::from_millis(20);

/// A wait for a caller that has to react to signals. It lasts from its first beginning to its end, across all
/// interruptions in between.
///
/// A signal that arrives just before the kernel puts us to sleep does not prevent the sleep. So every such wait also
/// ends with [`WaitError::Interrupted`] after each slice, and the caller begins it again. No slice is longer than the
/// wait has already lasted (or 20 ms), so the handlers run at the latest after twice the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interruptible {
    /// When it first fell asleep.
    since: Option<Instant>,
}

/// The end of a wait that may fail.
pub(crate) trait Attempt {
    /// Whether it succeeded; a deadline that passed is no error.
    fn or_not(self) -> Result<bool, WaitError>;
}

impl Attempt for Result<(), WaitError> {
    fn or_not(self) -> Result<bool, WaitError> {
        match self {
            Ok(()) => Ok(true),
            Err(WaitError::TimedOut) => Ok(false),
            Err(end) => Err(end),
        }
    }
}

thread_local! {
    /// The interruptible wait that this thread is in.
    static CURRENT: Cell<Option<Interruptible>> = const { Cell::new(None) };
    /// The wait that this thread is in has to give what it waits for.
    static SURELY: Cell<bool> = const { Cell::new(false) };
}

/// Run a wait that may not end with [`Error::Deadlock`], because its caller relies on what it waits for.
pub fn surely<T>(wait: impl FnOnce() -> T) -> T {
    struct Outer(bool);

    impl Drop for Outer {
        fn drop(&mut self) {
            SURELY.set(self.0);
        }
    }

    let _outer = Outer(SURELY.replace(true));
    wait()
}

impl Interruptible {
    /// Begin the wait, or begin it again.
    pub fn run<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        let outer = CURRENT.replace(Some(*self));
        let end = wait();
        *self = CURRENT.replace(outer).unwrap_or_default();
        end
    }
}

/// Whether this thread has to react to signals: then a wait that has slept for a slice ends.
pub(crate) fn is_interruptible() -> bool {
    CURRENT.get().is_some()
}

/// The longest sleep of all: every sleeper also checks for idle memory.
const IDLE_CHECK: Duration = Duration::from_millis(500);
/// A wait that may last for so much longer has time to look for deaths that no other process notices.
const SWEEP_ROOM: Duration = Duration::from_millis(50);

/// How this thread's wait is announced: whether it is endless, and whether it begins or goes on after an interruption.
fn manner(deadline: Deadline, since: u64) -> liveness::WaitKind {
    liveness::WaitKind {
        endless: deadline.is_never(),
        anew: CURRENT.get().is_none_or(|wait| wait.since.is_none()),
        since,
        thread: Claim::mine().map_or(0, Claim::thread_word),
        may_fail: !SURELY.get(),
    }
}

/// Announce that this thread is about to wait for the end of process `pid`.
pub(super) fn announce_join(pid: u32, deadline: Deadline) -> liveness::Announced {
    liveness::announce_join(pid, manner(deadline, waiting_since()))
}

/// When this thread's wait began, in the process table's time; at its beginning, now.
fn waiting_since() -> u64 {
    let waited = CURRENT
        .get()
        .and_then(|wait| wait.since)
        .map_or(Duration::ZERO, |since| since.elapsed());
    liveness::now().saturating_sub(waited.as_millis() as u64)
}

/// The longest sleep of a wait without a deadline: 100 to 200 ms. Its waiter checks the family's first process in
/// between. The length varies so that not all waiters check at the same time: a waiter that checks does not sleep.
fn root_check_slice() -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let chance = now.map_or(0, |now| now.subsec_nanos() / 64 % 100);
    Duration::from_millis(100 + u64::from(chance))
}

/// How long to sleep now: until the deadline, but no longer than `slice`, and shorter if the caller has to react to
/// signals.
pub(crate) fn next_slice(slice: Duration, deadline: Deadline) -> Duration {
    let slice = if deadline.is_never() && liveness::has_root() {
        slice.min(root_check_slice())
    } else {
        slice
    };
    let slice = CURRENT.get().map_or(slice, |wait| {
        let now = Instant::now();
        let since = wait.since.unwrap_or(now);
        CURRENT.set(Some(Interruptible { since: Some(since) }));
        slice.min(FIRST_SLICE.max(now - since))
    });
    deadline.slice(slice)
}

/// What a waiter finds when it checks.
pub(crate) enum Check<T> {
    /// What it waited for.
    Over(T),
    /// Another process changed the word in the meantime.
    Again,
    /// Nothing: it may sleep while the word, or the lower half of it, has this value.
    Sleep(u32),
}

/// A word to sleep on: all of it, or its lower half.
pub(crate) trait SleepWord {
    fn sleep(&self, expected: u32, timeout: Duration) -> Woken;
    fn announce(&self, purpose: Purpose, manner: liveness::WaitKind) -> liveness::Announced;
}

impl SleepWord for AtomicU32 {
    fn sleep(&self, expected: u32, timeout: Duration) -> Woken {
        sleep(self, expected, timeout)
    }

    fn announce(&self, purpose: Purpose, manner: liveness::WaitKind) -> liveness::Announced {
        liveness::announce(self, purpose.kind, purpose.object, manner)
    }
}

impl SleepWord for AtomicU64 {
    fn sleep(&self, expected: u32, timeout: Duration) -> Woken {
        sleep_low(self, expected.into(), timeout)
    }

    fn announce(&self, purpose: Purpose, manner: liveness::WaitKind) -> liveness::Announced {
        liveness::announce_low(self, purpose.kind, purpose.object, manner)
    }
}

/// The one way in which the engine sleeps: announced in the process table, in slices, until the deadline, and open to
/// signals.
pub(crate) struct Sleeper<'a, W> {
    word: &'a W,
    purpose: Purpose,
    deadline: Deadline,
    /// Another process ended one of its sleeps.
    pub(crate) woken: bool,
}

impl<'a, W: SleepWord> Sleeper<'a, W> {
    pub(crate) fn new(word: &'a W, purpose: Purpose, deadline: Deadline) -> Self {
        Self {
            word,
            purpose,
            deadline,
            woken: false,
        }
    }

    /// The deadlock that this wait has to end, if it is for a lock. A wait for something else is in none.
    fn deadlock(&self, since: u64) -> Option<String> {
        let for_lock = matches!(self.purpose.kind, Some(Kind::Lock | Kind::RLock));
        (for_lock && self.deadline.is_never())
            .then(|| liveness::deadlock(since))
            .flatten()
    }

    /// Sleep until `check` returns [`Check::Over`]. It is called before every sleep, and after one that a signal ended.
    /// Its argument says whether the previous sleep lasted for its whole slice: that is the time to check for deaths.
    pub(crate) fn run<T>(
        &mut self,
        mut check: impl FnMut(bool) -> Result<Check<T>, WaitError>,
    ) -> Result<T, WaitError> {
        let since = waiting_since();
        let _traced = trace::TracedWait::begin(self.purpose.kind, self.purpose.object);
        let announced = self.word.announce(self.purpose, manner(self.deadline, since));
        let (mut slept, mut whole) = (false, false);
        loop {
            announced.awake();
            let expected = match check(whole)? {
                Check::Over(value) => return Ok(value),
                Check::Again => continue,
                Check::Sleep(expected) => expected,
            };
            if self.deadline.is_over() {
                return Err(WaitError::TimedOut);
            }
            if whole && self.deadline.slice(SWEEP_ROOM) == SWEEP_ROOM {
                liveness::sweep_now_and_then();
            }
            if self.deadline.is_never() && liveness::is_abandoned(since) {
                return Err(Error::Abandoned.into());
            }
            if let Some(deadlock) = self.deadlock(since) {
                return Err(Error::Deadlock(deadlock).into());
            }
            if slept && is_interruptible() {
                return Err(WaitError::Interrupted);
            }
            crate::arena::trim_idle();
            let slice = self.purpose.slice.min(IDLE_CHECK);
            announced.sleeping();
            let woken = self.word.sleep(expected, next_slice(slice, self.deadline));
            whole = woken == Woken::TimedOut;
            slept |= whole;
            self.woken |= woken == Woken::Wake;
            if woken == Woken::Interrupted {
                announced.awake();
                return match check(false)? {
                    Check::Over(value) => Ok(value),
                    Check::Again | Check::Sleep(_) => Err(WaitError::Interrupted),
                };
            }
        }
    }
}

impl EventCount {
    /// Wait until `ready` yields a value: spins first (adaptively), then sleeps in slices. `ready` is called again
    /// after every wake and every slice, so it may also check for deaths. Returns `Interrupted` if a signal handler ran
    /// during a sleep.
    pub fn wait<T>(&self, deadline: Deadline, ready: impl FnMut() -> Option<T>) -> Result<T, WaitError> {
        self.wait_for(Purpose::default(), deadline, ready)
    }

    /// As [`wait`](Self::wait), but announces the purpose in the process table, and sleeps in slices of the purpose's
    /// length.
    pub fn wait_for<T>(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitError> {
        if let Some(value) = ready() {
            return Ok(value);
        }
        if deadline.is_over() {
            return Err(WaitError::TimedOut);
        }
        if let Some(value) = self.spin(&mut ready) {
            return Ok(value);
        }
        self.sleep_for(purpose, deadline, ready)
    }

    /// The first half of a wait: spin, if that seems worth it.
    pub(crate) fn spin<T>(&self, ready: impl FnMut() -> Option<T>) -> Option<T> {
        self.spin.run(ready)
    }

    /// The second half of a wait: sleep.
    pub(crate) fn sleep_for<T>(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitError> {
        let mut sleeper = Sleeper::new(&self.word, purpose, deadline);
        let end = sleeper.run(|_| {
            let key = self.word.fetch_or(WAITERS, Ordering::SeqCst) | WAITERS;
            // SYNC: the announcement comes before this check, the notifier's change before its check of the word: one
            // of us sees the other.
            fence(Ordering::SeqCst);
            Ok(ready().map_or(Check::Sleep(key), Check::Over))
        });
        if end.is_err() && sleeper.woken {
            // The wake that ended an earlier sleep may have been meant for a waiter that still sleeps.
            self.notify(1);
        }
        end
    }

    /// Wake up to `n` sleepers. Call it after the condition they wait for has been made true (sequentially consistent
    /// fence inside).
    #[inline]
    pub fn notify(&self, n: u32) {
        fence(Ordering::SeqCst);
        if self.word.load(Ordering::Relaxed) & WAITERS != 0 {
            self.wake(n);
        }
    }

    /// Wake all sleepers: as [`notify`](Self::notify) without a bound.
    #[inline]
    pub fn notify_all(&self) {
        self.notify(u32::MAX);
    }

    #[cold]
    fn wake(&self, n: u32) {
        // SYNC: a waiter that has announced itself but does not sleep yet is kept from falling asleep by the new epoch.
        let word = self.word.fetch_add(EPOCH, Ordering::SeqCst).wrapping_add(EPOCH);
        if wake(&self.word, n) == 0 && word & WAITERS != 0 {
            // No waiter was asleep: save the next notifier the system call. A waiter that fell asleep since the wake
            // did so on this very word, and is woken to announce itself again; a later one finds the word changed.
            let cleared = self
                .word
                .compare_exchange(word, word & !WAITERS, Ordering::SeqCst, Ordering::Relaxed);
            if cleared.is_ok() {
                wake(&self.word, u32::MAX);
            }
        }
    }
}
