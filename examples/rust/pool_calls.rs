//! A pool of four workers: tuples as arguments, one call, and many calls at once.
//!
//! What to see: the results in order, and a failure as a value.

mod common;
use procession::Pool;

fn power((base, exponent): (u64, u32)) -> u64 {
    base.pow(exponent)
}

fn divide((dividend, divisor): (i64, i64)) -> Result<i64, String> {
    dividend.checked_div(divisor).ok_or("division by zero".to_string())
}

fn main() -> common::Outcome {
    common::start_method()?;
    let pool = Pool::new(4)?;
    println!("starmap: {:?}", pool.map(power, [(2, 3), (3, 2), (10, 4), (7, 2)])?);
    println!("apply: {}", pool.apply(power, (5, 3))?);
    let mut results = Vec::new();
    for base in 0..5 {
        results.push(pool.apply_async(power, (base, 2))?);
    }
    let squares: Result<Vec<u64>, _> = results.into_iter().map(procession::AsyncResult::get).collect();
    println!("apply_async: {:?}", squares?);
    println!("1 / 0: {:?}", pool.apply(divide, (1, 0))?);
    pool.close();
    pool.join()?;
    Ok(())
}
