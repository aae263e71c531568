//! Five processes each double a number and print their process ID.
//!
//! What to see: five different process IDs, none of them the parent's, and each line whole.

mod common;

fn double(number: u32) {
    println!("process {} doubles {number}: {}", std::process::id(), 2 * number);
}

fn main() -> common::Outcome {
    common::start_method()?;
    println!("parent {}", std::process::id());
    let mut children = Vec::new();
    for number in [5, 10, 15, 20, 25] {
        children.push(procession::spawn(double, number)?);
    }
    for child in children {
        child.join()?;
    }
    println!("all five have ended");
    Ok(())
}
