//! Bindings of the pool. `pool.py` calls these objects.

pub mod core;
mod errors;
pub mod feeding;
pub mod job;
mod result;
pub mod stream;
pub mod worker;

use procession_core::pool::{Priority, TaskOptions};
use std::time::Duration;

/// The options of tasks. `timeout` is in seconds; `priority` is an index into `PRIORITIES` of `_pool/options.py`.
pub fn options(timeout: Option<f64>, retries: u32, priority: u8) -> TaskOptions {
    TaskOptions {
        timeout: timeout.and_then(seconds),
        retries,
        priority: match priority {
            0 => Priority::High,
            1 => Priority::Normal,
            _ => Priority::Low,
        },
    }
}

/// A time limit. One too large for the clock is none.
pub fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number.max(0.0)).ok()
}
