//! `map_async` with `is_ready` and `wait`; `close` refuses new work and finishes the old; `terminate`.
//!
//! What to see: not ready at first, ready after waiting, an error after `close`, and every old result. `terminate` does
//! not wait for tasks that never end.

mod common;
use procession::{Event, Pool};
use std::time::Duration;

fn cube((number, gate): (u64, Event)) -> u64 {
    gate.wait().expect("the parent opens it");
    number.pow(3)
}

fn never_ends(_: u32) {
    loop {
        std::thread::park();
    }
}

/// A boolean as the Python program prints it.
fn python(truth: bool) -> &'static str {
    if truth {
        "True"
    } else {
        "False"
    }
}

fn main() -> common::Outcome {
    common::start_method()?;
    let gate = Event::new()?;
    let pool = Pool::new(2)?;
    let result = pool.map_async(cube, (0..8).map(|number| (number, gate.clone())))?;
    println!("ready at once: {}", python(result.is_ready()));
    result.wait_timeout(Duration::from_millis(50));
    println!("ready after a short wait: {}", python(result.is_ready()));
    pool.close();
    match pool.apply_async(cube, (1, gate.clone())) {
        Err(error) => println!("after close: {error}"),
        Ok(_) => println!("after close: taken"),
    }
    gate.set();
    result.wait();
    let ready = python(result.is_ready());
    let cubes = result.get();
    println!("ready after wait: {ready} successful: {}", python(cubes.is_ok()));
    println!("old work: {:?}", cubes?);
    pool.join()?;

    let pool = Pool::new(2)?;
    let _endless = pool.map_async(never_ends, 0..4)?;
    pool.terminate();
    pool.join()?;
    println!("terminated and joined");
    Ok(())
}
