//! A pool of three workers: `map`, and `apply_async` with a timeout.
//!
//! What to see: squares in the order of the numbers, 100 squared, and a timeout for the late one.

mod common;
use procession::{Error, Event, Pool};
use std::time::Duration;

fn square(number: u64) -> u64 {
    number * number
}

fn late(released: Event) -> String {
    released.wait().expect("the parent sets it");
    "late, but here".to_string()
}

fn main() -> common::Outcome {
    common::start_method()?;
    let event = Event::new()?;
    let pool = Pool::new(3)?;
    println!("map: {:?}", pool.map(square, 0..10)?);
    println!(
        "apply_async: {}",
        pool.apply_async(square, 100)?.get_timeout(Duration::from_secs(10))?
    );
    let result = pool.apply_async(late, event.clone())?;
    match result.get_timeout(Duration::from_millis(100)) {
        Err(Error::TimedOut) => println!("late: TimeoutError"),
        other => println!("not late: {other:?}"),
    }
    event.set();
    println!("afterwards: {}", result.get()?);
    Ok(())
}
