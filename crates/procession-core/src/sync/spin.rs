//! Whether to spin before sleeping, and for how long: learned per object, bounded by the clock, disabled without a
//! second core.

use super::primitive::{spin_loop, AtomicU32, Ordering};
use crate::liveness;
use crate::sys::limits;
use std::time::{Duration, Instant};

/// A little more than a wake by the kernel takes (30 to 40 µs between cores here). A shorter spin would never meet a
/// partner that is just being woken, so that two processes that could spin would go on waking each other; a longer one
/// never pays.
const LONGEST: Duration = Duration::from_micros(50);
/// How many waits do not spin after the first failure in a row, the second and so on. One failure says little. The last
/// value is small enough to notice in time that conditions have changed. It is large enough that the failed spins of
/// both sides of a round trip, together, are far fewer than one in a hundred trips: where spinning cannot pay (all
/// partners on one core), the longest of a hundred trips is like the others.
const PASS: [u32; 5] = [1, 3, 15, 127, 511];
/// Checks of the condition between two reads of the clock.
const ROUND: u32 = 16;
/// Slow paths between two checks of which cores this process may use.
const ASK_CORES: u32 = 256;

/// How spinning went lately for one object: `waits to pass over (24 bits) | failures in a row (8)`. Zero-filled is
/// valid, and spins.
///
/// The cost of failures is bounded by spinning more rarely, not for a shorter time: a spin shorter than a wake never
/// meets a partner that is just being woken, and so would learn nothing. Nor does a short sleep predict success: on one
/// core, or with busy neighbours, every sleep between partners is short and no spin succeeds.
#[repr(transparent)]
#[derive(Debug, Default)]
pub(crate) struct Spin(AtomicU32);

impl Spin {
    /// How many cores there are to spin on, if that seems worth it. If not, this counts as a wait.
    pub(crate) fn cores(&self) -> Option<u32> {
        let word = self.0.load(Ordering::Relaxed);
        if word >> 8 > 0 {
            self.0.store(word - 0x100, Ordering::Relaxed);
            return None;
        }
        Some(usable_cores()).filter(|&cores| cores >= 2)
    }

    /// Spin until `ready` yields a value, if that seems worth it.
    pub(crate) fn run<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        let cores = self.cores()?;
        let failures = self.0.load(Ordering::Relaxed) & 0xff;
        let start = Instant::now();
        let spinning = liveness::Spinning::begin();
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
            // Leaves one core to the process that will make the condition true.
            if start.elapsed() >= LONGEST || spinning.others() + 1 >= cores && start.elapsed() > LONGEST / 10 {
                let last = PASS.len() as u32 - 1;
                let pass = PASS[failures.min(last) as usize];
                self.0.store(pass << 8 | (failures + 1).min(last), Ordering::Relaxed);
                return None;
            }
        }
    }
}

/// How many cores this process and its partners may use; asks the kernel now and then. A process bound to one core
/// counts the cores that any process of the family could use so far, because its partners may be on others. It soon
/// learns whether spinning pays then.
fn usable_cores() -> u32 {
    static CORES: AtomicU32 = AtomicU32::new(0);
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    let known = CORES.load(Ordering::Relaxed);
    if known != 0 && calls % ASK_CORES != 0 {
        return known;
    }
    let own = limits::usable_cores();
    let cores = match own.count_ones() {
        1 => liveness::cores(own),
        several => several,
    };
    CORES.store(cores, Ordering::Relaxed);
    cores
}
