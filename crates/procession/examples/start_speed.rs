//! Measures how long it takes to start and join a process, for each start method:
//! `cargo run --release --example start_speed`.

use procession::{Builder, StartMethod};
use std::time::{Duration, Instant};

fn nothing((): ()) {}

fn main() -> procession::Result<()> {
    for method in [StartMethod::Fork, StartMethod::Forkserver, StartMethod::Spawn] {
        let mut started = Vec::new();
        let mut joined = Vec::new();
        for _ in 0..200 {
            let begin = Instant::now();
            let child = Builder::new().start_method(method).spawn(nothing, ())?;
            started.push(begin.elapsed());
            child.join()?;
            joined.push(begin.elapsed());
        }
        println!(
            "{method:?}: started after {:?}, joined after {:?}",
            median(started),
            median(joined)
        );
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
