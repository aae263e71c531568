//! The prime factors of 20 random numbers, with a pool's `map`.
//!
//! What to see: a line for each number (the seed is printed; pass it as argument for the same numbers).

mod common;
use procession::Pool;
use std::time::{SystemTime, UNIX_EPOCH};

fn prime_factors(mut number: u64) -> Vec<u64> {
    let (mut factors, mut divisor) = (Vec::new(), 2);
    while divisor * divisor <= number {
        while number % divisor == 0 {
            factors.push(divisor);
            number /= divisor;
        }
        divisor += 1;
    }
    if number > 1 {
        factors.push(number);
    }
    factors
}

/// A small random number generator (xorshift64).
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn main() -> common::Outcome {
    let arguments = common::start_method()?;
    let seed = match arguments.first() {
        Some(seed) => seed.parse()?,
        None => u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_micros()),
    };
    println!("seed {seed}");
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let numbers: Vec<u64> = (0..20).map(|_| 20_000 + random(&mut state) % 99_980_000).collect();
    let pool = Pool::new(procession::cpu_count())?;
    for (number, factors) in numbers.iter().zip(pool.map(prime_factors, numbers.clone())?) {
        let factors: Vec<String> = factors.iter().map(u64::to_string).collect();
        println!("{number} = {}", factors.join(" * "));
    }
    Ok(())
}
