//! A lock around printing; the parent starts its children and just ends.
//!
//! What to see: all ten words. The children are joined when the parent exits, so nothing is lost.

mod common;
use procession::{spawn, Lock};

const WORDS: [&str; 10] = [
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett",
];

fn say((word, lock): (String, Lock)) {
    let _held = lock.lock().expect("no process dies holding it");
    println!("word: {word}");
}

fn main() -> common::Outcome {
    common::start_method()?;
    let lock = Lock::new()?;
    for word in WORDS {
        spawn(say, (word.to_string(), lock.clone()))?;
    }
    println!("parent is done");
    Ok(())
}
