//! `log_to_stderr` at level info reports when processes start and exit.
//!
//! What to see: three lines for each child and, from `MainProcess`, one join of each child at exit.

mod common;
use procession::{log_to_stderr, spawn, Event};

fn say((word, leave): (String, Event)) {
    println!("word: {word}");
    leave.wait().expect("the parent sets it");
}

fn main() -> common::Outcome {
    common::start_method()?;
    log_to_stderr(log::LevelFilter::Info)?;
    let leave = Event::new()?;
    for word in ["tango", "foxtrot", "waltz"] {
        spawn(say, (word.to_owned(), leave.clone()))?; // not joined here, so joined at exit
    }
    leave.set();
    Ok(())
}
