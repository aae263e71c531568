//! What processes log, and where. A logger belongs to a whole program, so each test runs this executable again for an
//! ignored test.

mod common;

use common::by;
use log::{LevelFilter, Log, Metadata, Record};
use procession::{forward_logs, log_to_file, log_to_stderr, Builder, Error, Event, JoinError, StartMethod};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const METHODS: [StartMethod; 3] = [StartMethod::Spawn, StartMethod::Fork, StartMethod::Forkserver];
const FOLDER: &str = "PROCESSION_TEST_FOLDER";

/// Run an ignored test as a program. Returns its stderr, and the text of the file `log` in its folder, if there is one.
fn passes(name: &str) -> (String, String) {
    let folder = std::env::temp_dir().join(format!("procession-{name}-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "--test-threads=1", name])
        .env(FOLDER, &folder)
        .output()
        .unwrap();
    let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let _ = std::fs::remove_dir_all(&folder); // one of the programs removes it itself
    let (out, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{out}\n{errors}\n{text}"
    );
    (errors.into_owned(), text)
}

fn folder() -> PathBuf {
    std::env::var_os(FOLDER).unwrap().into()
}

/// The lines of each process.
fn by_name(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut lines = BTreeMap::<_, Vec<_>>::new();
    for line in text.lines() {
        let (name, said) = line
            .split_once('/')
            .and_then(|(level, rest)| {
                assert!(["[INFO", "[DEBUG"].contains(&level), "{line}");
                rest.split_once("] ")
            })
            .unwrap_or_else(|| panic!("a torn line: {line}"));
        lines.entry(name).or_default().push(said);
    }
    lines
}

fn leaf((): ()) {
    log::debug!("I am the leaf");
    log::trace!("which nobody wants to hear");
}

fn branch((): ()) {
    procession::spawn(leaf, ()).unwrap(); // not joined
}

#[test]
fn all_processes_log_to_one_file() {
    let (_, text) = passes("logs_to_a_file");
    let lines = by_name(&text);
    for number in 1..=3 {
        let (branch, leaf) = (format!("Process-{number}"), format!("Process-{number}:1"));
        let join = format!("calling join() for process {leaf}");
        assert_eq!(
            lines[&*branch],
            [
                "child process calling self.run()",
                "process shutting down",
                &join,
                "process exiting with exitcode 0"
            ]
        );
        assert_eq!(
            lines[&*leaf],
            [
                "child process calling self.run()",
                "I am the leaf",
                "process shutting down",
                "process exiting with exitcode 0"
            ]
        );
    }
    assert_eq!(
        lines["fails"].last(),
        Some(&"process exiting with exitcode 101"),
        "{lines:?}"
    );
    assert_eq!(
        lines["MainProcess"],
        [
            "process shutting down",
            "calling terminate() for daemon sleepy",
            "calling join() for process sleepy"
        ]
    );
    assert_eq!(lines.len(), 9, "{lines:?}");
}

fn sleep_for_ever(started: Event) {
    started.set();
    loop {
        std::thread::park();
    }
}

#[test]
#[ignore = "run by another test"]
fn logs_to_a_file() {
    std::env::set_current_dir(folder()).unwrap();
    log_to_file("log", LevelFilter::Trace).unwrap();
    log::set_max_level(LevelFilter::Debug); // is inherited too
    std::env::set_current_dir("/").unwrap();
    assert!(matches!(log_to_stderr(LevelFilter::Info), Err(Error::Logger)));
    for method in METHODS {
        by(method).spawn(branch, ()).unwrap().join().unwrap();
    }
    let fails = Builder::new()
        .name("fails")
        .spawn::<(), ()>(|()| panic!("as it should"), ());
    fails.unwrap().join().unwrap_err();
    let sleepy = Builder::new().name("sleepy").daemon(true);
    let started = Event::new().unwrap();
    sleepy.spawn(sleep_for_ever, started.clone()).unwrap();
    started.wait().unwrap();
}

struct Own;

impl Log for Own {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &Record<'_>) {
        eprintln!("own logger of {}: {}", procession::current().name(), record.args());
    }
    fn flush(&self) {}
}

#[test]
fn a_logger_of_the_program_hears_of_its_processes() {
    let (errors, _) = passes("has_a_logger");
    for line in [
        "own logger of Process-1: child process calling self.run()",
        "own logger of Process-1: process exiting with exitcode 0",
        "own logger of MainProcess: process shutting down",
    ] {
        assert!(errors.contains(line), "{errors}");
    }
}

#[test]
#[ignore = "run by another test"]
fn has_a_logger() {
    log::set_logger(&Own).unwrap();
    log::set_max_level(LevelFilter::Info);
    let error = log_to_stderr(LevelFilter::Info).unwrap_err().to_string();
    assert_eq!(error, "a logger is installed already; what processes log goes to it");
    // SAFETY: the child's function only logs, to a file.
    let fork = unsafe { Builder::new().start_method(StartMethod::Fork).fork_beside_threads() };
    let child = fork.spawn(leaf, ());
    child.unwrap().join().unwrap();
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error() {
    passes("has_no_log");
}

#[test]
#[ignore = "run by another test"]
fn has_no_log() {
    let missing = folder().join("missing/log");
    let error = log_to_file(&missing, LevelFilter::Info).unwrap_err().to_string();
    let text = format!("the log {} cannot be opened: ", missing.display());
    assert!(error.starts_with(&text), "{error}");
    log_to_file(folder().join("log"), LevelFilter::Info).unwrap();
    std::fs::remove_dir_all(folder()).unwrap();
    for method in [StartMethod::Spawn, StartMethod::Forkserver] {
        let child = Builder::new().start_method(method).spawn(leaf, ()).unwrap();
        let lost = child.join().unwrap_err();
        assert!(
            matches!(&lost, JoinError::Lost(text) if text.contains("cannot be opened: ")),
            "{lost}"
        );
    }
}

/// Panics in every process but the first.
struct Fragile;

impl Log for Fragile {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, _: &Record<'_>) {
        assert_eq!(procession::current().name(), "MainProcess");
    }
    fn flush(&self) {}
}

#[test]
fn a_panic_outside_the_function_does_not_run_on_in_the_parents_code() {
    passes("has_a_fragile_logger");
}

#[test]
#[ignore = "run by another test"]
fn has_a_fragile_logger() {
    log::set_logger(&Fragile).unwrap();
    log::set_max_level(LevelFilter::Info);
    let here = std::process::id();
    let error = by(StartMethod::Fork).spawn(leaf, ()).unwrap().join().unwrap_err();
    assert_eq!(std::process::id(), here, "this is the parent");
    assert_eq!(error.signal(), Some(libc::SIGABRT));
}

/// A logger of the program's own.
struct Heard;

static HEARD: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

impl Log for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() != "quiet"
    }

    fn log(&self, record: &Record<'_>) {
        let place = record.file().unwrap().rsplit('/').next().unwrap();
        let line = format!("{} {} {place} {}", record.level(), record.target(), record.args());
        ENTERED.store(true, SeqCst);
        drop(BUSY.lock().unwrap());
        HEARD.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

/// What the logger waits for.
static BUSY: std::sync::Mutex<()> = std::sync::Mutex::new(());
static ENTERED: AtomicBool = AtomicBool::new(false);

#[test]
#[ignore = "run by another test"]
fn joins_although_the_logger_waits_for_it() {
    log::set_logger(&Heard).unwrap();
    log::set_max_level(LevelFilter::Warn);
    forward_logs().unwrap();
    let held = BUSY.lock().unwrap();
    let said = Event::new().unwrap();
    let child = procession::spawn(
        |said: Event| {
            log::warn!("one");
            said.set();
        },
        said.clone(),
    );
    said.wait().unwrap();
    while !ENTERED.load(SeqCst) {
        std::thread::yield_now();
    }
    child.unwrap().join().unwrap();
    drop(held);
    while HEARD.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn a_logger_that_waits_for_a_thread_that_joins_hangs_neither() {
    passes("joins_although_the_logger_waits_for_it");
}

#[test]
fn what_children_log_reaches_the_logger_of_their_parent() {
    passes("forwards");
}

#[test]
#[ignore = "run by another test"]
fn forwards() {
    fn say((): ()) {
        log::warn!(target: "loud", "in {}", procession::current().name());
        log::warn!(target: "quiet", "not heard");
        log::info!("not of this level");
        log::error!("the last words");
        std::process::abort();
    }
    fn branch((): ()) {
        let leaf = Builder::new().name("Leaf").spawn(say, ()).unwrap();
        assert!(leaf.join().is_err());
    }
    log::set_logger(&Heard).unwrap();
    log::set_max_level(LevelFilter::Warn);
    forward_logs().unwrap();
    for method in [StartMethod::Spawn, StartMethod::Forkserver] {
        let child = by(method).spawn(branch, ()).unwrap();
        child.join().unwrap();
        let heard = std::mem::take(&mut *HEARD.lock().unwrap());
        let expected = [
            "WARN loud logging.rs [Leaf] in Leaf",
            "ERROR logging logging.rs [Leaf] the last words",
        ];
        assert_eq!(heard, expected, "{method:?}");
    }
    // While the thread runs, which a copy would lack, and whose locks it would have.
    let forked = Builder::new().start_method(StartMethod::Fork).spawn(branch, ());
    assert!(matches!(forked, Err(Error::Threads)));
}
