//! The parent puts ten jobs; four processes take them until the queue is empty.
//!
//! What to see: all ten jobs done.

mod common;
use procession::{current, spawn, Queue};

fn work((jobs, done): (Queue<u32>, Queue<String>)) {
    while let Some(job) = jobs.try_get().expect("a job or none") {
        let line = format!("job {job} done by {}", current().name());
        done.put(&line).expect("memory lasts");
    }
}

fn main() -> common::Outcome {
    common::start_method()?;
    let (jobs, done) = (Queue::new()?, Queue::new()?);
    for job in 0..10 {
        jobs.put(&job)?;
    }
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(spawn(work, (jobs.clone(), done.clone()))?);
    }
    for worker in workers {
        worker.join()?;
    }
    while let Some(line) = done.try_get()? {
        println!("{line}");
    }
    Ok(())
}
