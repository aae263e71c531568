//! The killer's table, sampled: some operations, some points of each, and of some pairs of deaths. `make killer` goes
//! through all of them.

#![cfg(target_arch = "x86_64")]

mod common;

fn killer(arguments: &[&str]) {
    let first = ["--limit", "60"];
    common::run(
        env!("CARGO_BIN_EXE_procession-killer"),
        &[&first[..], arguments].concat(),
    );
}

#[test]
fn messages() {
    killer(&[
        "--points",
        "5",
        "put, inline, at the end",
        "put, large",
        "put_many, inline, at the end",
        "get, inline, leaving",
        "get_many, inline, leaving",
        "mailbox take",
    ]);
}

#[test]
fn pipes() {
    killer(&["--points", "8", "pipe "]);
}

#[test]
fn locks_and_the_like() {
    killer(&[
        "--points",
        "5",
        "lock acquire",
        "lock release",
        "lock wait until free",
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
fn events_of_a_trace() {
    killer(&["--points", "5", "traced", "the first event"]);
}

#[test]
fn dictionaries() {
    killer(&[
        "--points",
        "4",
        "dict set, another",
        "dict set, large",
        "dict remove",
        "dict seal",
    ]);
}

#[test]
fn lists() {
    killer(&["--points", "4", "list set", "list remove", "list clear", "list seal"]);
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
