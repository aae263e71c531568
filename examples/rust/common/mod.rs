//! The option that all examples take: `--start-method fork|spawn|forkserver` as the first argument.

use procession::{set_start_method, StartMethod};
use std::error::Error;

pub type Outcome = Result<(), Box<dyn Error>>;

/// Apply `--start-method`. Returns the remaining arguments.
pub fn start_method() -> Result<Vec<String>, Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "--start-method") {
        let method = arguments
            .get(1)
            .ok_or("--start-method wants fork, spawn or forkserver")?;
        set_start_method(match method.as_str() {
            "fork" => StartMethod::Fork,
            "spawn" => StartMethod::Spawn,
            "forkserver" => StartMethod::Forkserver,
            other => return Err(format!("no start method {other}").into()),
        });
        arguments.drain(..2);
    }
    Ok(arguments)
}
