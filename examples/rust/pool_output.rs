//! Two pools are not closed: one is terminated right after `map`, one is dropped.
//!
//! What to see: all 2 x 20 lines that the tasks printed.

mod common;
use procession::Pool;

fn speak(line: u32) {
    println!("a task prints line {line}");
}

fn speak_once_more(line: u32) {
    println!("another task prints line {line}");
}

fn main() -> common::Outcome {
    common::start_method()?;
    let pool = Pool::new(3)?;
    pool.map(speak, 0..20)?;
    pool.terminate();
    pool.join()?;
    Pool::new(3)?.map(speak_once_more, 0..20)?;
    Ok(())
}
