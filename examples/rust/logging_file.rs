//! All processes of a program log to one file.
//!
//! What to see: 4 x 500 lines in the file, none lost or torn, those of each process in order.

mod common;
use procession::{log_to_file, Builder};
use std::collections::BTreeMap;

const LINES: usize = 500;

fn work((): ()) {
    for line in 0..LINES {
        log::info!("line {line} {} end", "x".repeat(40));
    }
}

/// The process that wrote a line, and the line's number among that process's lines. `None` if the line is torn.
fn parse(text: &str) -> Option<(&str, usize)> {
    let (name, text) = text.strip_prefix("[INFO/")?.split_once("] line ")?;
    let (line, text) = text.split_once(' ')?;
    (text == format!("{} end", "x".repeat(40))).then_some((name, line.parse().ok()?))
}

fn main() -> common::Outcome {
    common::start_method()?;
    let path = std::env::temp_dir().join(format!("logging_file-{}.log", std::process::id()));
    log_to_file(&path, log::LevelFilter::Info)?;
    let mut workers = Vec::new();
    for number in 0..4 {
        workers.push(Builder::new().name(format!("worker-{number}")).spawn(work, ())?);
    }
    for worker in workers {
        worker.join()?;
    }
    let text = std::fs::read_to_string(&path)?;
    std::fs::remove_file(&path)?;

    let (mut seen, mut torn) = (BTreeMap::<_, Vec<_>>::new(), 0);
    for text in text.lines().filter(|text| text.contains("line ")) {
        match parse(text) {
            Some((name, line)) => seen.entry(name).or_default().push(line),
            None => torn += 1,
        }
    }
    for (name, lines) in seen {
        let order = if lines.iter().copied().eq(0..LINES) {
            "in order"
        } else {
            "NOT in order"
        };
        println!("{name}: {} lines, {order}", lines.len());
    }
    println!("torn lines: {torn}");
    Ok(())
}
