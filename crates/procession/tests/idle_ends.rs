//! What ends of channels cost that only wait: system calls, as the kernel counts them.

mod common;

use common::until_asleep;
use procession::{channel, JoinHandle, Receiver, RecvError};
use std::time::Instant;

fn wait_for_one(from: Receiver<u8>) {
    from.recv().unwrap();
}

/// A number in a file of `/proc` about a process.
fn number(pid: i32, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

/// How often a process has called `read`: each question about another process reads its state.
fn reads(pid: i32) -> u64 {
    number(pid, "io", "syscr:")
}

fn sleeps(pid: i32) -> u64 {
    number(pid, "status", "voluntary_ctxt_switches:")
}

#[test]
fn an_idle_end_asks_about_no_other_process() {
    const PROCESSES: usize = 32;
    let (to, ends): (Vec<_>, Vec<_>) = (0..PROCESSES).map(|_| channel::<u8>().unwrap()).unzip();
    let children: Vec<JoinHandle<()>> = ends
        .into_iter()
        .map(|end| procession::spawn(wait_for_one, end).unwrap())
        .collect();
    for child in &children {
        until_asleep(child);
    }
    let sum = |of: fn(i32) -> u64| children.iter().map(|child| of(child.pid())).sum::<u64>();
    let (read_before, slept_before) = (sum(reads), sum(sleeps));
    let one = children[0].pid();
    let first = sleeps(one);
    while sleeps(one) < first + 20 {
        assert!(children.iter().all(|child| !child.is_finished()));
        std::thread::yield_now();
    }
    let (read, slept) = (sum(reads) - read_before, sum(sleeps) - slept_before);
    // The engine asks about all once a second, in one of them. If each end did so, there would be 20 reads a sleep.
    assert!(
        read < 4 * slept,
        "{PROCESSES} idle ends, which slept {slept} times, read {read} times"
    );

    // An end that only polls asks the less often the more processes there are.
    let (kept, polled) = channel::<u8>().unwrap();
    let (me, begin) = (std::process::id() as i32, Instant::now());
    let before = reads(me);
    for _ in 0..200_000 {
        assert!(matches!(polled.try_recv(), Err(RecvError::Empty)));
    }
    // Two reads for each question, and those of this test.
    let (read, looks) = (
        reads(me) - before,
        2 + begin.elapsed().as_millis() as usize / (25 * PROCESSES),
    );
    assert!(
        read <= (2 * looks * (PROCESSES + 4) + 20) as u64,
        "{looks} looks at {PROCESSES} processes, and {read} reads"
    );
    drop(kept);
    assert!(matches!(polled.try_recv(), Err(RecvError::Disconnected)));
    for (to, child) in to.iter().zip(children) {
        to.send(&1).unwrap();
        child.join().unwrap();
    }
}
