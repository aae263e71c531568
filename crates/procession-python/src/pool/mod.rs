//! Bindings of the pool. `pool.py` calls these objects.

pub mod core;
mod errors;
pub mod feeding;
pub mod job;
mod result;
pub mod stream;
pub mod worker;

use procession_core::pool::TaskOptions;
use std::time::Duration;

/// The options of a job's tasks. `timeout` is in seconds.
pub fn options(by_time: bool, timeout: Option<f64>, retries: u32) -> TaskOptions {
    TaskOptions {
        by_time,
        timeout: timeout.and_then(seconds),
        retries,
    }
}

/// A time limit. One too large for the clock is none.
pub fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number.max(0.0)).ok()
}
