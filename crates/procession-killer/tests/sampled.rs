//! The killer's table, sampled: some operations, some points of each, and of some pairs of deaths. `make killer` goes
//! through all of them.

#![cfg(target_arch = "x86_64")]

use std::process::Command;

fn killer(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_procession-killer"))
        .args(["--limit", "60"])
        .args(arguments)
        .output()
        .expect("the killer");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{table}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(table.contains(" 0 failures"), "{table}");
}

#[test]
fn messages() {
    killer(&[
        "--points",
        "5",
        "put, inline, at the end",
        "put, large",
        "get, inline, leaving",
        "mailbox take",
    ]);
}

#[test]
fn locks_and_the_like() {
    killer(&[
        "--points",
        "5",
        "lock acquire",
        "lock release",
        "semaphore release",
        "condition notify",
        "barrier",
    ]);
}

#[test]
fn permits_of_the_dead_at_every_point() {
    killer(&["recovering semaphore"]);
}

#[test]
fn memory_and_the_process_table() {
    killer(&[
        "--points",
        "5",
        "65536",
        "the first",
        "handle drop",
        "object create",
        "fork",
        "process table entry",
        "process table exit",
    ]);
}

#[test]
fn the_survivor_dies_too() {
    killer(&["--points", "3", "--pairs", "1", "handle attach"]);
}
