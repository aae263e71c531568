//! procession against other crates for processes, and against threads as the upper bound: `make bench-rust`.
//!
//! Every figure is the median of several rounds, in which the peers take turns. A peer whose feature is not enabled is
//! left out. iceoryx2 is left out because it publishes plain data to subscribers by name: it has no processes, no pool
//! and no serde types.

#[cfg(feature = "ipc-channel")]
mod ipc;
mod ours;
#[cfg(feature = "procspawn")]
mod spawned;
mod threads;

use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A typed message of 64 bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    pub numbers: [u64; 8],
}

impl Message {
    pub fn new(number: u64) -> Self {
        Self {
            numbers: [u64::MAX - number; 8],
        }
    }
}

pub const MESSAGES: u64 = 200_000;
pub const TRIPS: u32 = 20_000;
pub const LARGE: usize = 64 << 20;
pub const LARGE_ONES: u32 = 4;
pub const STARTS: u32 = 100;
pub const JOBS: u32 = 5_000;
pub const ITEMS: u64 = 20_000;

/// About ten microseconds of work.
pub fn work(seed: u64) -> u64 {
    (0..8_000).fold(seed, |number, _| {
        std::hint::black_box(number.wrapping_mul(0x5851_f42d_4c95_7f2d) + 1)
    })
}

/// Nanoseconds that all processes agree on.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// When the first and the last of several messages were received.
pub type Span = (u64, u64, u64);

/// Messages a second of several receivers.
pub fn rate(spans: &[Span]) -> f64 {
    let first = spans.iter().map(|span| span.0).min().unwrap_or(0);
    let last = spans.iter().map(|span| span.1).max().unwrap_or(0);
    let count: u64 = spans.iter().map(|span| span.2).sum();
    count as f64 / ((last - first) as f64 / 1e9)
}

pub fn micros(time: Duration, count: u32) -> f64 {
    time.as_secs_f64() * 1e6 / f64::from(count)
}

pub struct Row {
    what: &'static str,
    unit: &'static str,
    more_is_better: bool,
    /// Ours first.
    peers: Vec<(&'static str, fn() -> f64)>,
}

fn rows() -> Vec<Row> {
    let row = |what, unit, more_is_better, peers: &[Option<(&'static str, fn() -> f64)>]| Row {
        what,
        unit,
        more_is_better,
        peers: peers.iter().flatten().copied().collect(),
    };
    macro_rules! ipc {
        ($function:ident) => {{
            #[cfg(feature = "ipc-channel")]
            let peer: Option<(&'static str, fn() -> f64)> = Some(("ipc-channel", ipc::$function));
            #[cfg(not(feature = "ipc-channel"))]
            let peer: Option<(&'static str, fn() -> f64)> = None;
            peer
        }};
    }
    macro_rules! procspawn {
        ($function:ident) => {{
            #[cfg(feature = "procspawn")]
            let peer: Option<(&'static str, fn() -> f64)> = Some(("procspawn", spawned::$function));
            #[cfg(not(feature = "procspawn"))]
            let peer: Option<(&'static str, fn() -> f64)> = None;
            peer
        }};
    }
    vec![
        row(
            "64-byte messages, 1->1",
            "M/s",
            true,
            &[
                Some(("procession", ours::one_to_one)),
                Some(("procession, put_many", ours::many_to_one)),
                ipc!(one_to_one),
                Some(("crossbeam, threads", threads::one_to_one)),
            ],
        ),
        row(
            "64-byte messages, 4->4",
            "M/s",
            true,
            &[
                Some(("procession", ours::four_to_four)),
                ipc!(four_to_four),
                Some(("crossbeam, threads", threads::four_to_four)),
            ],
        ),
        row(
            "round trip",
            "µs",
            false,
            &[
                Some(("procession", ours::round_trip)),
                ipc!(round_trip),
                Some(("crossbeam, threads", threads::round_trip)),
            ],
        ),
        row(
            "64 MB as Vec<u8>",
            "ms",
            false,
            &[
                Some(("procession", ours::large)),
                ipc!(large),
                Some(("crossbeam, threads (a copy)", threads::large)),
            ],
        ),
        row(
            "spawn and join",
            "µs",
            false,
            &[
                Some(("procession", ours::start)),
                procspawn!(start),
                Some(("std, threads", threads::start)),
            ],
        ),
        row(
            "a job of a pool",
            "µs",
            false,
            &[
                Some(("procession", ours::job)),
                procspawn!(job),
                Some(("rayon, threads", threads::job)),
            ],
        ),
        row(
            "map of 10 µs items",
            "µs an item",
            false,
            &[Some(("procession", ours::map)), Some(("rayon, threads", threads::map))],
        ),
    ]
}

fn main() {
    #[cfg(feature = "procspawn")]
    procspawn::init();
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5);
    println!("| what | unit | crate | median | min to max | against procession |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for row in rows() {
        let mut times = vec![Vec::new(); row.peers.len()];
        for _ in 0..rounds {
            for ((_, measure), times) in row.peers.iter().zip(&mut times) {
                times.push(measure());
            }
        }
        let mut ours = None;
        for ((peer, _), times) in row.peers.iter().zip(&mut times) {
            times.sort_unstable_by(f64::total_cmp);
            let median = times[times.len() / 2];
            let base = *ours.get_or_insert(median);
            let times_slower = if row.more_is_better {
                base / median
            } else {
                median / base
            };
            println!(
                "| {} | {} | {peer} | {median:.2} | {:.2} to {:.2} | {times_slower:.2} |",
                row.what,
                row.unit,
                times[0],
                times[times.len() - 1],
            );
        }
    }
    println!("\nThe last column says how many times slower than procession a crate is; below 1, it is faster.");
}
