//! What functions of the program that run before `main` may do. They do it in the programs that these tests run.

mod common;

use common::{by, program, METHODS};
use log::LevelFilter;
use procession::{log_to_file, Error, Queue, StartMethod};
use std::sync::OnceLock;

const WISH: &str = "PROCESSION_TEST_CONSTRUCTOR";

static QUEUE: OnceLock<Queue<u8>> = OnceLock::new();
/// The error of a start of a process.
static REFUSAL: OnceLock<String> = OnceLock::new();

// Without a number, it runs behind the crate's own.
#[used]
#[link_section = ".init_array"]
static CONSTRUCTOR: extern "C" fn() = construct;

extern "C" fn construct() {
    match std::env::var(WISH).as_deref() {
        Ok("queue") => QUEUE.set(Queue::new().unwrap()).unwrap(),
        Ok("process") => {
            let child = by(StartMethod::Spawn).spawn(|()| (), ());
            if let Some(error) = child.and_then(|child| Ok(child.join()?)).err() {
                REFUSAL.set(error.to_string()).unwrap();
            }
        }
        Ok("thread") => {
            std::thread::spawn(std::thread::park);
        }
        Ok(path) if path.starts_with('/') => log_to_file(path, LevelFilter::Info).unwrap(),
        _ => {}
    }
}

fn passes(name: &str, wish: &str) -> String {
    let output = program(name).env(WISH, wish).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
    errors
}

#[test]
fn a_constructor_makes_shared_objects() {
    passes("has_a_queue", "queue");
}

fn use_queue((): ()) -> Option<u8> {
    let queue = QUEUE.get().unwrap();
    queue.put(&7).unwrap();
    queue.get().ok()
}

#[test]
#[ignore = "run by another test"]
fn has_a_queue() {
    for method in METHODS {
        for _ in 0..3 {
            let seen = by(method).spawn(use_queue, ()).unwrap().join();
            assert_eq!(seen.unwrap(), Some(7), "{method:?}");
        }
    }
}

#[test]
fn a_constructor_of_a_child_starts_no_process() {
    passes("starts_a_process", "process");
}

#[test]
#[ignore = "run by another test"]
fn starts_a_process() {
    assert_eq!(REFUSAL.get(), None, "no process of this crate started this one");
    for method in [StartMethod::Spawn, StartMethod::Forkserver] {
        let refusal = by(method).spawn(|()| REFUSAL.get().cloned(), ()).unwrap().join();
        let refusal = refusal.unwrap().unwrap_or_default();
        assert!(refusal.contains("starts a process in a child"), "{method:?}: {refusal}");
    }
}

#[test]
fn the_fork_server_refuses_threads_of_constructors() {
    let errors = passes("has_a_thread", "thread");
    assert!(
        errors.contains("starts a thread; a process with threads cannot be the fork server"),
        "{errors}"
    );
}

#[test]
#[ignore = "run by another test"]
fn has_a_thread() {
    let error = by(StartMethod::Forkserver).spawn(|()| (), ()).unwrap_err();
    assert!(matches!(error, Error::ForkServer), "{error}");
    by(StartMethod::Spawn).spawn(|()| (), ()).unwrap().join().unwrap();
}

#[test]
fn a_child_logs_as_its_parent_whatever_its_constructor_does() {
    let path = std::env::temp_dir().join(format!("procession-constructors-{}.log", std::process::id()));
    passes("logs", path.to_str().unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let runs = text.matches("child process calling self.run()").count();
    assert_eq!(runs, METHODS.len(), "{text}");
    // The parent's level, not that of the constructor.
    let said = text.matches("only in debug").count();
    assert_eq!(said, METHODS.len(), "{text}");
}

#[test]
#[ignore = "run by another test"]
fn logs() {
    log::set_max_level(LevelFilter::Debug);
    for method in METHODS {
        let child = by(method).spawn(|()| log::debug!("only in debug"), ());
        child.unwrap().join().unwrap();
    }
}
