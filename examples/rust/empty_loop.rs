//! Put some items, and get them with `while !queue.is_empty()` in the same process.
//!
//! What to see: all four colours.

mod common;
use procession::Queue;

fn main() -> common::Outcome {
    common::start_method()?;
    let queue = Queue::new()?;
    for (number, colour) in (1..).zip(["red", "green", "blue", "black"]) {
        println!("item {number}: {colour} put");
        queue.put(&colour.to_string())?;
    }
    let mut number = 0;
    while !queue.is_empty()? {
        number += 1;
        println!("item {number}: {} got", queue.get()?);
    }
    Ok(())
}
