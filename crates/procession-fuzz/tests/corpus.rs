//! Runs the inputs that the repository keeps, some that are like them and some at random, without a fuzzer, so that
//! what a fuzzer found stays fixed.
//!
//! A failure leaves its input in a file and names it: `PROCESSION_INPUT=file` runs that input alone, in this process.
//! `PROCESSION_ROUNDS` sets how many inputs of both kinds there are besides those that are kept.

use procession_fuzz::{arena, handles, in_child, mutated, random, requests};
use std::path::Path;

/// How many inputs at random, and as many like those kept, in a test run.
const ROUNDS: u64 = 100;

#[test]
fn a_damaged_arena_harms_no_process() {
    run("arena", arena);
}

#[test]
fn nonsense_from_peers_harms_no_process() {
    run("handles", handles);
}

#[test]
fn a_child_survives_any_request() {
    run("requests", requests);
}

fn run(target: &str, round: fn(&[u8])) {
    if let Some(path) = std::env::var_os("PROCESSION_INPUT") {
        return round(&std::fs::read(path).expect("a file"));
    }
    let kept = kept(target);
    let rounds = std::env::var("PROCESSION_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("a number"));
    let more = (0..rounds).flat_map(|seed| {
        let like = &kept[seed as usize % kept.len()].1;
        [
            (format!("random-{seed}"), random(seed)),
            (format!("mutated-{seed}"), mutated(like, seed)),
        ]
    });
    let failures: Vec<_> = kept
        .iter()
        .cloned()
        .chain(more)
        .filter_map(|(name, input)| {
            let how = in_child(|| round(&input)).err()?;
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}-{name}"));
            std::fs::write(&path, &input).expect("the folder is there");
            Some(format!("{} {how}", path.display()))
        })
        .collect();
    assert!(failures.is_empty(), "{} rounds failed: {failures:#?}", failures.len());
}

/// Name and bytes of each input that the repository keeps.
fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(folder)
        .expect("the seeds lie in the repository")
        .map(|entry| {
            let entry = entry.expect("a readable folder");
            let input = std::fs::read(entry.path()).expect("a readable file");
            (entry.file_name().to_string_lossy().into_owned(), input)
        })
        .collect();
    inputs.sort();
    inputs
}
