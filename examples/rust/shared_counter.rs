//! Four processes increment one shared number 100,000 times each, under a lock.
//!
//! What to see: exactly 400,000.

mod common;
use procession::{spawn, Mutex};

const TIMES: u32 = 100_000;

fn count(number: Mutex<u32>) {
    for _ in 0..TIMES {
        *number.lock().expect("no process dies holding it") += 1;
    }
}

fn main() -> common::Outcome {
    common::start_method()?;
    let number = Mutex::new(0)?;
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(spawn(count, number.clone())?);
    }
    for child in children {
        child.join()?;
    }
    println!("counted to {} of {}", number.get()?, 4 * TIMES);
    Ok(())
}
