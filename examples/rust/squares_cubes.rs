//! Two processes put squares and cubes into one queue, which is read after both have been joined.
//!
//! What to see: all ten results.

mod common;
use procession::{spawn, Queue};

type Results = Queue<(String, u32, u32)>;

fn squares((numbers, results): (Vec<u32>, Results)) {
    for number in numbers {
        results
            .put(&("square".to_string(), number, number.pow(2)))
            .expect("memory lasts");
    }
}

fn cubes((numbers, results): (Vec<u32>, Results)) {
    for number in numbers {
        results
            .put(&("cube".to_string(), number, number.pow(3)))
            .expect("memory lasts");
    }
}

fn main() -> common::Outcome {
    common::start_method()?;
    let numbers: Vec<u32> = (1..=5).collect();
    let results = Queue::new()?;
    let children = [
        spawn(squares, (numbers.clone(), results.clone()))?,
        spawn(cubes, (numbers, results.clone()))?,
    ];
    for child in children {
        child.join()?;
    }
    while let Some((kind, number, result)) = results.try_get()? {
        println!("{kind} of {number} is {result}");
    }
    Ok(())
}
