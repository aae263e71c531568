//! Whether to spin before sleeping, and for how long: learned per object, bounded by the clock, off without a second core.

use super::primitive::{spin_loop, AtomicU32, Ordering};
use crate::roll;
use std::time::{Duration, Instant};

/// A little more than a wake by the kernel takes (30 to 40 µs between cores here). Less would never catch a partner who is just being woken,
/// so that two who could spin would go on waking each other; more never pays.
const LONGEST: Duration = Duration::from_micros(50);
/// A sleep as short as this would better have been a spin: waking alone takes most of it.
const SHORT_SLEEP: Duration = Duration::from_micros(100);
/// After so many failures in a row nobody spins any more, until a sleep turns out to have been short.
const GIVE_UP: u32 = 6;
/// Looks at the condition between two looks at the clock.
const ROUND: u32 = 16;
/// Slow paths between two looks at the cores this process may use.
const ASK_CORES: u32 = 256;

/// How spinning went lately for one object: failures in a row. Zero-filled is valid (and hopeful).
#[repr(transparent)]
#[derive(Debug, Default)]
pub(crate) struct Spin(AtomicU32);

impl Spin {
    /// Spin until `ready` yields a value, as long as that seems worth it.
    pub(super) fn run<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        let failures = self.0.load(Ordering::Relaxed);
        if failures >= GIVE_UP {
            return None;
        }
        let cores = usable_cores();
        if cores < 2 {
            return None;
        }
        let start = Instant::now();
        let budget = LONGEST / (failures + 1);
        let spinning = roll::Spinning::begin();
        loop {
            for _ in 0..ROUND {
                if let Some(value) = ready() {
                    if failures > 0 {
                        self.0.store(0, Ordering::Relaxed);
                    }
                    return Some(value);
                }
                spin_loop();
            }
            // One core is left to whoever is to make the condition true.
            if start.elapsed() >= budget || spinning.others() + 1 >= cores && start.elapsed() > LONGEST / 10 {
                self.0.store(failures + 1, Ordering::Relaxed);
                return None;
            }
        }
    }

    /// Learn from how long a sleep took.
    pub(super) fn slept(&self, time: Duration) {
        if time < SHORT_SLEEP {
            let failures = self.0.load(Ordering::Relaxed).min(GIVE_UP);
            self.0.store(failures.saturating_sub(2), Ordering::Relaxed);
        }
    }
}

/// How many cores this process may use, asked of the kernel now and then.
fn usable_cores() -> u32 {
    static CORES: AtomicU32 = AtomicU32::new(0);
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    let known = CORES.load(Ordering::Relaxed);
    if known != 0 && calls % ASK_CORES != 0 {
        return known;
    }
    let cores = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    CORES.store(cores.max(1), Ordering::Relaxed);
    cores
}
