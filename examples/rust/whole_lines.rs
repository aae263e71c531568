//! Four processes print as fast as they can, each line in several pieces and without a lock.
//!
//! What to see: 4 x 200 lines, each whole.

mod common;
use procession::{spawn, Barrier};

fn talk(start: Barrier) {
    start.wait().expect("all four come");
    for line in 0..200 {
        print!("process line {line} says");
        for _ in 0..8 {
            print!(" word");
        }
        println!(" end");
    }
}

fn main() -> common::Outcome {
    common::start_method()?;
    let start = Barrier::new(4)?;
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(spawn(talk, start.clone())?);
    }
    for child in children {
        child.join()?;
    }
    Ok(())
}
