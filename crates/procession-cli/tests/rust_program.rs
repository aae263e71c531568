//! The command on a program in Rust: this one, with children of each start method.

use procession::{Barrier, Builder, Event, Mutex, Queue, StartMethod};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

type Parts = (Mutex<u64>, Event, Event, Queue<u32>);

fn hold((mutex, held, over, _): Parts) {
    let guard = mutex.lock().unwrap();
    held.set();
    over.wait().unwrap();
    drop(guard);
}

fn want((mutex, ..): Parts) {
    *mutex.lock().unwrap() += 1;
}

fn take((_, _, _, queue): Parts) -> u32 {
    queue.get().unwrap()
}

/// What the command prints, as JSON.
fn command(words: &[&str]) -> Value {
    let done = Command::new(env!("CARGO_BIN_EXE_procession"))
        .args(words)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn waits_of(seen: &Value, pid: i32) -> &Value {
    let processes = seen["processes"].as_array().unwrap();
    &processes.iter().find(|process| process["pid"] == pid).unwrap()["waits"]
}

#[test]
fn a_rust_program_is_shown_as_a_python_program_is() {
    let me = std::process::id();
    for method in [StartMethod::Spawn, StartMethod::Fork, StartMethod::Forkserver] {
        // SAFETY: the children need no lock that another thread of the harness may hold.
        let by = || unsafe { Builder::new().start_method(method).fork_beside_threads() };
        let parts: Parts = (
            Mutex::new(0).unwrap(),
            Event::new().unwrap(),
            Event::new().unwrap(),
            Queue::new().unwrap(),
        );
        let holder = by().name("holder").spawn(hold, parts.clone()).unwrap();
        parts.1.wait().unwrap();
        let wanter = by().name("wanter").spawn(want, parts.clone()).unwrap();
        let taker = by().name("taker").spawn(take, parts.clone()).unwrap();
        let seen = loop {
            let seen = command(&["dump", &me.to_string(), "--json"]);
            let all = [holder.pid(), wanter.pid(), taker.pid()];
            let known = |pid: &i32| {
                seen["processes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|one| one["pid"] == *pid)
            };
            if all.iter().all(known) && all.iter().all(|&pid| waits_of(&seen, pid) != &Value::Array(Vec::new())) {
                break seen;
            }
        };
        let locks = seen["locks"].as_array().unwrap();
        let lock = locks.iter().find(|lock| lock["holder"]["pid"] == holder.pid()).unwrap();
        assert_eq!(lock["holder"]["name"], "holder");
        assert_eq!(lock["waiters"], serde_json::json!([wanter.pid()]));
        assert_eq!(waits_of(&seen, taker.pid())[0]["operation"], "get");
        let methods = seen["processes"].as_array().unwrap().iter();
        let its = methods
            .filter(|one| one["name"] == "taker")
            .map(|one| &one["start_method"]);
        let name = format!("{method:?}").to_lowercase();
        assert_eq!(its.collect::<Vec<_>>(), [&Value::String(name)]);

        let families = command(&["ps", "--json"]);
        let families = families["families"].as_array().unwrap();
        let mine = families.iter().filter(|one| one["root"] == me);
        assert_eq!(mine.count(), 1);
        parts.2.set();
        parts.3.put(&7).unwrap();
        holder.join().unwrap();
        wanter.join().unwrap();
        assert_eq!(taker.join().unwrap(), 7);
    }
}

fn hold_and_want((held, wanted, both_hold): (Mutex<u64>, Mutex<u64>, Barrier)) {
    let _guard = held.lock().unwrap();
    both_hold.wait().unwrap();
    let _never = wanted.lock();
}

#[test]
fn a_deadlock_of_rust_processes_is_named() {
    let me = std::process::id().to_string();
    let (one, other) = (Mutex::new(0).unwrap(), Mutex::new(0).unwrap());
    let both_hold = Barrier::new(2).unwrap();
    let by = || Builder::new().start_method(StartMethod::Spawn);
    let pairs = [(one.clone(), other.clone()), (other, one)];
    let children = pairs.map(|(held, wanted)| by().spawn(hold_and_want, (held, wanted, both_hold.clone())).unwrap());
    let members = loop {
        let seen = command(&["dump", &me, "--json"]);
        if let Some(found) = seen["deadlocks"].as_array().unwrap().first() {
            break found["members"].as_array().unwrap().clone();
        }
    };
    let mut pids: Vec<_> = members.iter().map(|member| member["pid"].as_i64().unwrap()).collect();
    pids.sort_unstable();
    let mut expected: Vec<_> = children.iter().map(|child| i64::from(child.pid())).collect();
    expected.sort_unstable();
    assert_eq!(pids, expected);
    for child in children {
        child.kill().unwrap();
    }
}

fn double((from, to): (Queue<u32>, Queue<u32>)) {
    while let Ok(number @ 1..) = from.get() {
        to.put(&(number * 2)).unwrap();
    }
}

#[test]
fn a_rust_program_is_traced() {
    let (from, to) = (Queue::new().unwrap(), Queue::new().unwrap());
    let path = std::env::temp_dir().join(format!("procession-trace-{}.json", std::process::id()));
    let mut tracer = Command::new(env!("CARGO_BIN_EXE_procession"))
        .args(["trace", &std::process::id().to_string(), "-o"])
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(tracer.stdout.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().starts_with("tracing"));
    let child = Builder::new()
        .start_method(StartMethod::Spawn)
        .spawn(double, (from.clone(), to.clone()))
        .unwrap();
    for number in 1..=50 {
        from.put(&number).unwrap();
        assert_eq!(to.get().unwrap(), 2 * number);
    }
    from.put(&0).unwrap();
    let pid = child.pid();
    child.join().unwrap();
    let done = Command::new("kill").arg(tracer.id().to_string()).status().unwrap();
    assert!(done.success() && tracer.wait().unwrap().success());
    let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let events = file["traceEvents"].as_array().unwrap();
    let ends = |phase: &str, pid: u64| {
        let end = |event: &&Value| event["ph"] == phase && event["name"] == "item" && event["pid"] == pid;
        events.iter().filter(end).count()
    };
    let (me, child) = (u64::from(std::process::id()), pid as u64);
    assert!(ends("s", me) >= 51 && ends("f", child) >= 51);
    assert!(ends("s", child) >= 50 && ends("f", me) >= 50);
}
