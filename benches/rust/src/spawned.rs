//! The workloads with procspawn.

use crate::{micros, JOBS, STARTS};
use std::time::Instant;

pub fn start() -> f64 {
    let begin = Instant::now();
    for n in 0..STARTS {
        procspawn::spawn(n, |n| n).join().unwrap();
    }
    micros(begin.elapsed(), STARTS)
}

pub fn job() -> f64 {
    let pool = procspawn::Pool::new(1).unwrap();
    pool.spawn(0, |n: u32| n).join().unwrap();
    let begin = Instant::now();
    for n in 0..JOBS {
        pool.spawn(n, |n| n).join().unwrap();
    }
    micros(begin.elapsed(), JOBS)
}
