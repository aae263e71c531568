//! The stopper's table, sampled: some operations, some points of each. `make stopper` goes through all of them.

#![cfg(target_arch = "x86_64")]

mod common;

fn stopper(arguments: &[&str]) {
    let first = ["--limit", "20", "--points", "3"];
    common::run(
        env!("CARGO_BIN_EXE_procession-stopper"),
        &[&first[..], arguments].concat(),
    );
}

#[test]
fn messages() {
    stopper(&[
        "put, inline",
        "put, large",
        "get, inline",
        "get, large",
        "_many, inline",
    ]);
}

#[test]
fn pipes() {
    stopper(&["pipe "]);
}

#[test]
fn events_of_a_trace() {
    stopper(&["traced", "the first event"]);
}

#[test]
fn locks_and_the_like() {
    stopper(&[
        "lock acquire, held",
        "lock release",
        "rlock",
        "semaphore release",
        "condition",
        "event",
    ]);
}

#[test]
fn references_and_processes() {
    stopper(&["handle", "process table", "fork", "its holder having died"]);
}

#[test]
fn memory() {
    stopper(&["64 bytes", "65536", "the first", "shared bytes"]);
}

#[test]
fn barriers_and_permits_of_the_dead() {
    stopper(&["barrier", "recovering semaphore"]);
}

#[test]
fn pools_of_which_a_worker_is_stopped() {
    stopper(&[
        "pool worker attach",
        "pool task take",
        "pool task run",
        "pool result write",
    ]);
}

#[test]
fn pools_of_which_the_parent_is_stopped() {
    stopper(&[
        "pool submit",
        "pool result take",
        "pool task cancel",
        "pool job cancel",
        "pool task time out",
        "pool worker replace",
        "pool function",
    ]);
}
