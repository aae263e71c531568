//! What remains when a process of the family is killed. The programs that are killed, and those that report by their
//! exit, are this test executable, run again for one of its ignored tests.

mod common;

use common::{by, program, until_asleep, METHODS};
use procession::{Builder, JoinError, Queue, StartMethod};
use procession_core::process::Child;
use procession_core::Deadline;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

fn parent_pid((): ()) -> i32 {
    // SAFETY: a call without arguments.
    unsafe { libc::getppid() }
}

fn kill(pid: i32) {
    // SAFETY: a signal to a process that this test started.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

fn busy_for_ever((): ()) {
    loop {
        std::hint::spin_loop();
    }
}

fn outlive(fork_server: i32) -> &'static str {
    while parent_pid(()) == fork_server {
        std::thread::yield_now();
    }
    "outlived"
}

fn outlived(fork_server: i32) -> String {
    outlive(fork_server).to_owned()
}

#[test]
fn a_killed_fork_server_is_replaced_and_its_children_go_on() {
    let fork_server = || procession::spawn(parent_pid, ()).unwrap().join().unwrap();
    let first = fork_server();
    assert_eq!(fork_server(), first, "one fork server serves all");
    assert_ne!(first, std::process::id() as i32);
    let busy = procession::spawn(busy_for_ever, ()).unwrap();
    let waiting = procession::spawn(outlived, first).unwrap();
    kill(first);
    assert_eq!(
        waiting.join(),
        Ok("outlived".to_owned()),
        "a result needs no fork server"
    );
    assert_ne!(fork_server(), first);
    assert!(!busy.is_finished());
    busy.kill().unwrap();
    assert_eq!(
        busy.join(),
        Err(JoinError::Unknown),
        "no process is left that knows its status"
    );
    for _ in 0..20 {
        kill(fork_server());
    }
    assert_ne!(fork_server(), first);
}

/// Whether the process has ended, or ends within 20 s.
fn ends(pid: i32) -> bool {
    let process = Child::adopt(pid).unwrap();
    let ended = process.wait(Deadline::after(Duration::from_secs(20)));
    ended.is_ok_and(|exit| exit.is_some())
}

#[test]
fn daemonic_children_and_the_fork_server_end_with_a_killed_root() {
    let mut root = program("root_with_busy_daemons")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(root.stdout.take().unwrap()).lines();
    let mut pids: Vec<i32> = Vec::new();
    for line in lines {
        match line.unwrap().strip_prefix("pid ") {
            Some("all") => break,
            Some(pid) => pids.push(pid.parse().unwrap()),
            None => {}
        }
    }
    root.kill().unwrap();
    root.wait().unwrap();
    assert_eq!(pids.len(), 7);
    for pid in pids {
        assert!(ends(pid), "{pid} is left over");
    }
}

#[test]
#[ignore = "run by another test"]
fn root_with_busy_daemons() {
    let daemons = METHODS.map(|method| by(method).daemon(true));
    let others = METHODS.map(|method| by(method).die_with_parent(true));
    let start = |builder: &Builder| builder.clone().spawn(busy_for_ever, ()).unwrap();
    let busy: Vec<_> = daemons.iter().chain(&others).map(start).collect();
    let fork_server = procession::spawn(parent_pid, ()).unwrap().join().unwrap();
    for pid in busy.iter().map(procession::JoinHandle::pid).chain([fork_server]) {
        // On its own line: the harness leaves one unfinished.
        println!("\npid {pid}");
    }
    println!("pid all");
    busy_for_ever(());
}

fn say(number: u32) {
    std::thread::sleep(Duration::from_millis(50));
    println!("line {number} of a child that is not joined");
}

#[test]
fn children_are_joined_and_daemons_ended_at_exit() {
    let output = program("leaves_children_behind").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for number in 0..9 {
        let line = format!("line {number} of a child that is not joined\n");
        assert_eq!(text.matches(&line).count(), 1, "{text}");
    }
    assert_eq!(text.matches("a line of the parent").count(), 1, "{text}");
    let daemons: Vec<i32> = text
        .lines()
        .filter_map(|line| line.strip_prefix("pid ")?.parse().ok())
        .collect();
    assert_eq!(daemons.len(), 3);
    for pid in daemons {
        assert!(ends(pid), "{pid} is left over");
    }
}

#[test]
#[ignore = "run by another test"]
fn leaves_children_behind() {
    println!("a line of the parent");
    for (round, method) in METHODS.into_iter().enumerate() {
        let daemon = by(method).daemon(true).spawn(busy_for_ever, ()).unwrap();
        println!("\npid {}", daemon.pid());
        for number in 0..3 {
            let child = by(method).spawn(say, round as u32 * 3 + number).unwrap();
            drop(child);
        }
    }
}

fn leaves_with(code: i32) {
    std::process::exit(code)
}

#[test]
fn ends_are_seen_though_the_kernel_reaps_by_itself() {
    for program_name in ["ignores_the_ends_of_children", "wants_no_zombies"] {
        let output = program(program_name).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program_name}: {text}");
    }
}

#[test]
#[ignore = "run by another test"]
fn ignores_the_ends_of_children() {
    // SAFETY: a disposition without a handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    starts_and_joins();
}

#[test]
#[ignore = "run by another test"]
fn wants_no_zombies() {
    // SAFETY: all zero is a valid `sigaction`, of the default disposition.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_NOCLDWAIT;
        libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut());
    }
    starts_and_joins();
}

fn starts_and_joins() {
    for method in METHODS {
        assert_eq!(by(method).spawn(|n: u32| n + 1, 1).unwrap().join(), Ok(2), "{method:?}");
        let ends = [by(method).spawn(leaves_with, 7).unwrap().join(), {
            let busy = by(method).spawn(busy_for_ever, ()).unwrap();
            busy.kill().unwrap();
            busy.join()
        }];
        let signals_and_codes = ends
            .each_ref()
            .map(|end| end.as_ref().map_err(|end| (end.signal(), end.code())));
        let known = [Err((None, Some(7))), Err((Some(9), None))];
        // The kernel keeps the status of a child that it reaped itself only since Linux 6.15. A fork server always
        // keeps it.
        let unknown = ends.iter().all(|end| *end == Err(JoinError::Unknown)) && method != StartMethod::Forkserver;
        assert!(signals_and_codes == known || unknown, "{method:?}: {ends:?}");
    }
}

#[test]
fn closing_all_descriptors_does_not_stop_the_family() {
    let output = program("closes_its_descriptors").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "run by another test"]
fn closes_its_descriptors() {
    for method in METHODS {
        assert_eq!(by(method).spawn(|n: u32| n + 1, 1).unwrap().join(), Ok(2), "{method:?}");
    }
    // SAFETY: only the engine, which must cope, still owns descriptors above 2 in this program.
    unsafe { libc::close_range(3, u32::MAX, 0) };
    let strangers: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    for method in METHODS {
        assert_eq!(by(method).spawn(|n: u32| n + 1, 1).unwrap().join(), Ok(2), "{method:?}");
    }
    for file in strangers {
        file.metadata().expect("the engine closed what is not its own");
    }
}

fn say_how_it_ends(queue: Queue<u8>) {
    let end = queue.get();
    println!("\nsaid {}", matches!(end, Err(procession::Error::Abandoned(_))));
}

#[test]
fn processes_that_only_wait_end_when_the_root_is_killed() {
    let mut root = program("root_of_waiting_processes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(root.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "started"));
    root.kill().unwrap();
    root.wait().unwrap();
    // The pipe reaches its end when the last of these processes ends.
    let said: Vec<_> = lines.filter(|line| line.starts_with("said")).collect();
    assert_eq!(said, ["said true"; METHODS.len()]);
}

#[test]
#[ignore = "run by another test"]
fn root_of_waiting_processes() {
    let queue = Queue::new().unwrap();
    let start = |method| by(method).spawn(say_how_it_ends, queue.clone()).unwrap();
    let waiting = METHODS.map(start);
    waiting.iter().for_each(until_asleep);
    println!("\nstarted");
    busy_for_ever(());
}
