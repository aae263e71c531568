//! Every process has a name: the one it is given, or one made from a counter.
//!
//! What to see: Process-2 to Process-6 (Process-1 is a child that prints nothing), and Test.

mod common;
use procession::{current, Builder};

fn double(number: u32) {
    println!("{number} doubled to {} by {}", 2 * number, current().name());
}

fn say_nothing((): ()) {}

fn main() -> common::Outcome {
    common::start_method()?;
    println!("parent is {}", current().name());
    let silent = Builder::new().spawn(say_nothing, ())?;
    let mut children = Vec::new();
    for number in [5, 10, 15, 20, 25] {
        children.push(Builder::new().spawn(double, number)?);
    }
    children.push(Builder::new().name("Test").spawn(double, 2)?);
    for child in children {
        child.join()?;
    }
    println!("said nothing: {}", silent.name());
    silent.join()?;
    Ok(())
}
