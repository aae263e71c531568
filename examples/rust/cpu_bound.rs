//! A loop that only computes, in `cpu_count()` processes at the same time.
//!
//! What to see: the loops overlap in time, and together use more CPU seconds than pass on the clock (on a machine with
//! more than one idle core).

mod common;
use procession::{cpu_count, spawn, Barrier, Queue};
use std::hint::black_box;
use std::time::{SystemTime, UNIX_EPOCH};

const LOOPS: u64 = 100_000_000;

/// Begin and end of a loop, the CPU seconds it used, and its total.
type Loop = (f64, f64, f64, u64);

fn clock() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_secs_f64()
}

/// User and system seconds of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: f64 = fields[11..13]
        .iter()
        .map(|field| field.parse::<f64>().unwrap_or(0.0))
        .sum();
    ticks / 100.0
}

fn compute((start, results): (Barrier, Queue<Loop>)) {
    start.wait().expect("all come");
    let (begin, cpu) = (clock(), cpu_seconds());
    let total = (0..LOOPS).fold(0, |total, number| total + (black_box(number) & 7));
    results
        .put(&(begin, clock(), cpu_seconds() - cpu, total))
        .expect("memory lasts");
}

fn main() -> common::Outcome {
    common::start_method()?;
    let count = cpu_count();
    let (start, results) = (Barrier::new(u32::try_from(count)?)?, Queue::new()?);
    let mut children = Vec::new();
    for _ in 0..count {
        children.push(spawn(compute, (start.clone(), results.clone()))?);
    }
    for child in children {
        child.join()?;
    }
    let mut loops: Vec<Loop> = Vec::new();
    while let Some(done) = results.try_get()? {
        loops.push(done);
    }
    let latest_begin = loops.iter().map(|done| done.0).fold(f64::MIN, f64::max);
    let first_begin = loops.iter().map(|done| done.0).fold(f64::MAX, f64::min);
    let first_end = loops.iter().map(|done| done.1).fold(f64::MAX, f64::min);
    let latest_end = loops.iter().map(|done| done.1).fold(f64::MIN, f64::max);
    let cpu: f64 = loops.iter().map(|done| done.2).sum();
    println!(
        "processes: {count}, same total: {}",
        loops.iter().all(|done| done.3 == loops[0].3)
    );
    println!("all at work at the same time: {}", latest_begin < first_end);
    println!("wall {:.3} s, cpu {cpu:.3} s", latest_end - first_begin);
    Ok(())
}
