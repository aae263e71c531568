//! What children log reaches the logger and the subscriber of the process that asks for it. Both belong to a whole
//! program, so each test runs this executable again for an ignored test.

mod common;

use common::{by, program};
use procession::{forward_logs, Event, StartMethod};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

const METHODS: [StartMethod; 2] = [StartMethod::Spawn, StartMethod::Forkserver];

/// Run an ignored test as a program.
fn passes(name: &str) {
    let output = program(name).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Without the crate's own records, of which a subscriber hears if it also takes those of `log`.
    fn take(&self) -> String {
        let all = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        let others = all.split_inclusive('\n').filter(|line| !line.contains(" procession::"));
        others.collect()
    }
}

/// The lines that the subscriber of this process writes.
fn subscribe() -> Lines {
    let lines = Lines::default();
    let theirs = lines.clone();
    tracing_subscriber::fmt()
        .with_writer(move || theirs.clone())
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .init();
    lines
}

fn say((number, end): (u32, bool)) {
    let span = tracing::info_span!("outer", number);
    let _in = span.enter();
    tracing::info!(target: "a::target", flag = true, ratio = 1.5, name = "text", odd = ?Some(1), "said {number}");
    tracing::trace!("too much");
    tracing::debug_span!("inner").in_scope(|| tracing::debug!("inside"));
    if end {
        tracing::error!(code = -3, "the last words");
        std::process::abort();
    }
}

#[test]
fn events_of_children_reach_the_subscriber() {
    passes("subscribes");
}

#[test]
#[ignore = "run by another test"]
fn subscribes() {
    let lines = subscribe();
    forward_logs().unwrap();
    for method in METHODS {
        let child = by(method).name("Speaker").spawn(say, (7, true)).unwrap();
        let pid = child.pid();
        assert!(child.join().is_err());
        let text = lines.take();
        let expected = [
            format!(" INFO a::target: said 7 flag=true ratio=1.5 name=\"text\" odd=Some(1) process.name=\"Speaker\" process.pid={pid} process.spans=\"outer{{number=7}}\""),
            format!("DEBUG events: inside process.name=\"Speaker\" process.pid={pid} process.spans=\"outer{{number=7}}:inner\""),
            format!("ERROR events: the last words code=-3 process.name=\"Speaker\" process.pid={pid} process.spans=\"outer{{number=7}}\""),
        ];
        assert!(text.lines().eq(expected), "{method:?}:\n{text}");
    }
}

#[test]
fn records_arrive_in_order_from_grandchildren_and_workers_too() {
    passes("hears_all");
}

fn parent_of((method, from): (StartMethod, u32)) {
    tracing::info!("branch {from}");
    procession::Builder::new()
        .start_method(method)
        .spawn(many, from)
        .unwrap()
        .join()
        .unwrap();
}

fn many(from: u32) {
    (from..from + 100).for_each(|number| tracing::info!("leaf {number}"));
}

#[test]
#[ignore = "run by another test"]
fn hears_all() {
    let lines = subscribe();
    forward_logs().unwrap();
    forward_logs().unwrap(); // once is enough
    for method in METHODS {
        by(method).spawn(parent_of, (method, 1000)).unwrap().join().unwrap();
        let text = lines.take();
        let numbers = text.lines().filter_map(|line| line.split_once("leaf "));
        let numbers = numbers.map(|(_, rest)| rest.split(' ').next().unwrap().parse::<u32>().unwrap());
        assert!(numbers.eq(1000..1100), "{method:?}:\n{text}");
        assert!(text.lines().next().unwrap().contains("branch 1000"));
    }
    let pool = procession::Pool::new(2).unwrap();
    pool.map(|number: u32| tracing::warn!("task {number}"), 0..20).unwrap();
    drop(pool);
    // A process that runs on is heard by the thread.
    let (said, go) = (Event::new().unwrap(), Event::new().unwrap());
    let child = procession::spawn!([&said, &go] => {
        tracing::warn!("it still runs");
        said.set();
        go.wait().unwrap();
    });
    said.wait().unwrap();
    let mut text = String::new();
    while !text.contains("it still runs") {
        text += &lines.take();
        std::thread::yield_now();
    }
    assert_eq!(text.matches("task ").count(), 20, "{text}");
    go.set();
    child.unwrap().join().unwrap();
}

#[test]
fn a_level_holds_in_children_and_so_does_a_subscriber_of_their_own() {
    passes("hears_errors_only");
}

#[test]
#[ignore = "run by another test"]
fn hears_errors_only() {
    // No subscriber: children have none either.
    forward_logs().unwrap();
    assert!(procession::spawn(|()| !tracing::enabled!(tracing::Level::ERROR), ())
        .unwrap()
        .join()
        .unwrap());
    let lines = Lines::default();
    let theirs = lines.clone();
    tracing_subscriber::fmt()
        .with_writer(move || theirs.clone())
        .with_max_level(tracing::Level::ERROR)
        .init();
    assert!(procession::spawn(say, (1, true)).unwrap().join().is_err());
    let text = lines.take();
    assert!(text.lines().count() == 1 && text.contains("the last words"), "{text}");
}
