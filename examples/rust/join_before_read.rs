//! A child puts 20 MB into a queue; the parent joins the child before it reads.
//!
//! What to see: it works.

mod common;
use procession::{spawn, Queue};

const MEGABYTE: usize = 1 << 20;

fn produce(queue: Queue<Vec<u8>>) {
    for number in 0..20 {
        queue.put(&vec![number; MEGABYTE]).expect("memory lasts");
    }
}

fn main() -> common::Outcome {
    common::start_method()?;
    let queue = Queue::new()?;
    spawn(produce, queue.clone())?.join()?;
    println!("joined, exit code 0");
    let (mut bytes, mut right) = (0, true);
    for number in 0..20 {
        let item = queue.get()?;
        bytes += item.len();
        right &= item == vec![number; MEGABYTE];
    }
    println!("read {bytes} bytes, contents {}", if right { "right" } else { "WRONG" });
    Ok(())
}
