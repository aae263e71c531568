//! One process creates items, another consumes them, over a queue that ends with a sentinel.
//!
//! What to see: the consumer receives every item, in order.

mod common;
use procession::{spawn, Queue};

fn create((queue, count): (Queue<Option<u32>>, u32)) {
    for number in 0..count {
        queue.put(&Some(number)).expect("memory lasts");
    }
    queue.put(&None).expect("memory lasts");
}

fn consume(queue: Queue<Option<u32>>) {
    while let Some(number) = queue.get().expect("an item") {
        println!("item {number} doubled is {}", 2 * number);
    }
    println!("consumer has seen the sentinel");
}

fn main() -> common::Outcome {
    common::start_method()?;
    let queue = Queue::new()?;
    let creator = spawn(create, (queue.clone(), 20))?;
    let consumer = spawn(consume, queue)?;
    creator.join()?;
    consumer.join()?;
    println!("both have ended: 0 0");
    Ok(())
}
