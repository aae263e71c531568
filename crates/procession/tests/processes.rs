//! Processes of all three start methods: results, names, exits.

mod common;

use common::{by, METHODS};
use procession::{current, parent, Builder, JoinError};
use rustix::pipe::{pipe_with, PipeFlags};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

fn double(n: u64) -> u64 {
    n * 2
}

#[test]
fn a_function_is_called_elsewhere() {
    for method in METHODS {
        let here = std::process::id();
        let child = by(method).spawn(|()| std::process::id(), ()).unwrap();
        let pid = child.pid();
        let there = child.join().unwrap();
        assert_ne!(there, here, "{method:?}");
        assert_eq!(there as i32, pid, "{method:?}");
        assert_eq!(by(method).spawn(double, 21).unwrap().join().unwrap(), 42, "{method:?}");
    }
    assert_eq!(procession::spawn(double, 4).unwrap().join().unwrap(), 8);
}

#[derive(Debug, PartialEq, Clone, Serialize, Deserialize)]
struct Order {
    name: String,
    lines: BTreeMap<u32, Vec<f64>>,
    rest: Option<Box<Order>>,
}

fn there_and_back((order, bytes): (Order, Vec<u8>)) -> (Vec<u8>, Order) {
    (bytes, order)
}

#[test]
fn structures_and_much_data_are_sent_and_returned() {
    let inner = Order {
        name: "inner".into(),
        lines: BTreeMap::new(),
        rest: None,
    };
    let order = Order {
        name: "ä".into(),
        lines: [(3, vec![0.5; 10])].into(),
        rest: Some(Box::new(inner)),
    };
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    for method in METHODS {
        let child = by(method)
            .spawn(there_and_back, (order.clone(), bytes.clone()))
            .unwrap();
        assert_eq!(child.join().unwrap(), (bytes.clone(), order.clone()), "{method:?}");
    }
}

fn refuses(number: i32) -> i32 {
    assert!(number > 1000, "the number {number} is too small");
    number
}

#[test]
fn a_panic_arrives_as_a_value() {
    for method in METHODS {
        let error = by(method).spawn(refuses, 12).unwrap().join().unwrap_err();
        let text = error.to_string();
        let JoinError::Panicked {
            message,
            location,
            backtrace,
            ..
        } = error
        else {
            panic!("{method:?}: {error:?}");
        };
        assert_eq!(message, "the number 12 is too small");
        assert!(
            location.starts_with("crates/procession/tests/processes.rs:"),
            "{location}"
        );
        assert_eq!(backtrace.is_some(), backtraces_are_asked_for(), "{backtrace:?}");
        assert_eq!(
            text,
            format!("the process panicked at {location}: the number 12 is too small")
        );
        assert_eq!(by(method).spawn(refuses, 1001).unwrap().join(), Ok(1001));
    }
}

fn backtraces_are_asked_for() -> bool {
    std::backtrace::Backtrace::capture().status() == std::backtrace::BacktraceStatus::Captured
}

#[test]
fn a_panic_has_a_backtrace_if_the_program_asks_for_one() {
    for method in METHODS {
        let error = by(method).backtrace(true).spawn(refuses, 12).unwrap().join();
        let Err(JoinError::Panicked { backtrace, .. }) = error else {
            panic!("{method:?}: {error:?}");
        };
        assert!(
            backtrace.as_ref().is_some_and(|text| text.contains("refuses")),
            "{backtrace:?}"
        );
    }
}

fn end_by_signal(signal: i32) {
    // SAFETY: sends a signal to this process.
    unsafe { libc::raise(signal) };
}

fn leave(code: i32) {
    std::process::exit(code);
}

fn for_ever((): ()) {
    loop {
        std::thread::park();
    }
}

fn busy_for_ever((): ()) {
    loop {
        std::hint::spin_loop();
    }
}

#[test]
fn signals_and_exit_codes_are_told_apart() {
    for method in METHODS {
        let join = |f, number| by(method).spawn(f, number).unwrap().join().unwrap_err();
        let killed = join(end_by_signal as fn(i32), libc::SIGKILL);
        assert_eq!(
            (killed.signal(), killed.code()),
            (Some(libc::SIGKILL), None),
            "{method:?}"
        );
        assert_eq!(killed.to_string(), "the process was ended by signal 9 (SIGKILL)");
        for code in [0, 7] {
            let left = join(leave, code);
            assert_eq!((left.signal(), left.code()), (None, Some(code)), "{method:?}");
        }
    }
}

#[test]
fn a_child_that_never_ends_is_ended() {
    for method in METHODS {
        let child = by(method).spawn(for_ever, ()).unwrap();
        assert!(!child.is_finished());
        assert!(!child.wait(Duration::from_millis(20)).unwrap());
        child.terminate().unwrap();
        assert_eq!(child.join().unwrap_err().signal(), Some(libc::SIGTERM), "{method:?}");
        let child = by(method).daemon(true).spawn(busy_for_ever, ()).unwrap();
        child.kill().unwrap();
        assert!(child.wait(Duration::from_secs(60)).unwrap());
        assert!(child.is_finished());
        assert_eq!(child.join().unwrap_err().signal(), Some(libc::SIGKILL), "{method:?}");
    }
}

#[test]
fn handles_come_back_from_processes_that_still_run() {
    for method in METHODS {
        let child = by(method).spawn(for_ever, ()).unwrap();
        let child = child.try_join().unwrap_err();
        let child = child.join_timeout(Duration::from_millis(1)).unwrap_err();
        assert!(!child.is_finished());
        child.interrupt().unwrap();
        let end = child.join_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(end.unwrap_err().signal(), Some(libc::SIGINT), "{method:?}");
        let done = by(method).spawn(double, 1).unwrap();
        assert!(done.wait(Duration::from_secs(60)).unwrap());
        done.kill().expect("it has ended, which is no error");
        assert_eq!(done.try_join().unwrap(), Ok(2), "{method:?}");
    }
}

#[test]
fn the_first_of_several_processes_to_end_is_found() {
    fn park_unless(end: bool) -> bool {
        if !end {
            for_ever(());
        }
        end
    }
    for method in METHODS {
        let start = |end| by(method).spawn(park_unless, end).unwrap();
        let children = [start(false), start(true), start(false)];
        assert_eq!(procession::wait_any(&children).unwrap(), 1, "{method:?}");
        assert_eq!(
            procession::wait_any_timeout(&children[2..], Duration::ZERO).unwrap(),
            None
        );
        assert!(procession::wait_any::<bool>(&[]).is_err());
        children[0].kill().unwrap();
        children[2].terminate().unwrap();
        let ends = procession::wait_all(children);
        let signals = ends
            .iter()
            .map(|end| end.as_ref().map_err(JoinError::signal))
            .collect::<Vec<_>>();
        assert_eq!(
            signals,
            [Err(Some(libc::SIGKILL)), Ok(&true), Err(Some(libc::SIGTERM))],
            "{method:?}"
        );
    }
}

#[test]
fn a_hundred_children() {
    for method in METHODS {
        let children: Vec<_> = (0..100u64).map(|n| by(method).spawn(double, n).unwrap()).collect();
        let pids: HashSet<_> = children.iter().map(procession::JoinHandle::pid).collect();
        assert_eq!(pids.len(), 100, "{method:?}");
        let results: Vec<_> = children.into_iter().map(|child| child.join().unwrap()).collect();
        assert_eq!(results, (0..100).map(|n| n * 2).collect::<Vec<_>>(), "{method:?}");
    }
}

fn identity((): ()) -> (String, Option<String>, bool, u32) {
    let parent = parent().map(|parent| format!("{} {}", parent.name(), parent.pid()));
    (
        current().name().to_owned(),
        parent,
        current().is_daemon(),
        std::process::id(),
    )
}

fn with_children((): ()) -> Vec<String> {
    let first = procession::spawn(identity, ()).unwrap();
    let second = Builder::new().name("Given").spawn(identity, ()).unwrap();
    let mut names = vec![first.name().to_owned(), second.name().to_owned()];
    for child in [first, second] {
        let (name, parent, ..) = child.join().unwrap();
        assert_eq!(parent, Some(format!("{} {}", current().name(), std::process::id())));
        names.push(name);
    }
    names
}

fn daemon_with_child((): ()) -> String {
    procession::spawn(identity, ()).unwrap_err().to_string()
}

#[test]
fn processes_know_their_identity() {
    assert_eq!(current().name(), "MainProcess");
    assert_eq!(parent(), None);
    let me = format!("MainProcess {}", std::process::id());
    for method in METHODS {
        let child = by(method).name("Test").daemon(true).spawn(identity, ()).unwrap();
        assert_eq!((child.name(), child.is_daemon()), ("Test", true));
        let pid = child.pid() as u32;
        assert_eq!(
            child.join().unwrap(),
            ("Test".into(), Some(me.clone()), true, pid),
            "{method:?}"
        );
        let child = by(method).spawn(with_children, ()).unwrap();
        let name = child.name().to_owned();
        assert!(name.starts_with("Process-"));
        let expected = [format!("{name}:1"), "Given".into(), format!("{name}:1"), "Given".into()];
        assert_eq!(child.join().unwrap(), expected, "{method:?}");
        let refused = by(method)
            .daemon(true)
            .spawn(daemon_with_child, ())
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(refused, "daemonic processes are not allowed to have children");
    }
}

#[derive(Debug, Deserialize)]
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

#[test]
fn what_cannot_be_serialized_is_an_error_that_says_so() {
    let error = procession::spawn(|_: Stubborn| (), Stubborn).unwrap_err().to_string();
    assert!(
        error.contains("Stubborn") && error.contains("cannot be sent"),
        "{error}"
    );
    for method in METHODS {
        let error = by(method).spawn(|()| Stubborn, ()).unwrap().join().unwrap_err();
        assert!(
            matches!(&error, JoinError::Lost(text) if text.contains("Stubborn")),
            "{error}"
        );
    }
}

#[test]
fn the_environment_does_not_tell_that_it_is_a_child() {
    for method in METHODS {
        let left = by(method)
            .spawn(|()| std::env::var("PROCESSION_CHILD").ok(), ())
            .unwrap();
        assert_eq!(left.join().unwrap(), None, "{method:?}");
        let args = by(method).spawn(|()| std::env::args().collect::<Vec<_>>(), ()).unwrap();
        // musl tells Rust the arguments when it calls `main`, which a child by fork inherits.
        let unknown = cfg!(target_env = "musl") && method != procession::StartMethod::Fork;
        let expected = std::env::args().filter(|_| !unknown).collect::<Vec<_>>();
        assert_eq!(args.join().unwrap(), expected, "{method:?}");
    }
}

/// The write end of a pipe, as an argument.
struct End(std::os::fd::OwnedFd);

impl Serialize for End {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let number = procession::codec::fd(self.0.as_fd()).map_err(serde::ser::Error::custom)?;
        number.expect("a message is being packed").serialize(to)
    }
}

impl<'de> Deserialize<'de> for End {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let fd = procession::codec::take_fd(u32::deserialize(from)?);
        fd.map_err(serde::de::Error::custom)?
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("no such descriptor"))
    }
}

fn write_to((first, second): (End, End)) {
    for (end, text) in [(first, "one"), (second, "two")] {
        std::fs::File::from(end.0).write_all(text.as_bytes()).unwrap();
    }
}

#[test]
fn descriptors_are_arguments() {
    for method in METHODS {
        let (first, to_first) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (second, to_second) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let child = by(method).spawn(write_to, (End(to_first), End(to_second))).unwrap();
        child.join().unwrap();
        // The read ends only if every copy of the write ends is closed, the fork server's included.
        assert_eq!(std::io::read_to_string(File::from(first)).unwrap(), "one", "{method:?}");
        assert_eq!(
            std::io::read_to_string(File::from(second)).unwrap(),
            "two",
            "{method:?}"
        );
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn descriptors_stay_constant((): ()) -> (usize, usize) {
    let round = || {
        for method in METHODS {
            by(method).spawn(double, 1).unwrap().join().unwrap();
        }
    };
    round();
    let before = open_descriptors();
    for _ in 0..20 {
        round();
    }
    (before, open_descriptors())
}

#[test]
fn nothing_is_left_open() {
    let (before, after) = procession::spawn(descriptors_stay_constant, ())
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(before, after);
}
