//! Panics that leave a process's function, under adverse circumstances.

mod common;

use common::{by, program, METHODS};
use procession::{Error, JoinError, Pool};
use std::os::fd::AsRawFd;

fn passes(name: &str) {
    let output = program(name).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// A payload whose destructor panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the destructor");
    }
}

fn explode((): ()) {
    std::panic::panic_any(Bomb);
}

fn fail((): ()) {
    panic!("as it must");
}

fn is_panic<T>(result: &Result<T, JoinError>) -> bool {
    matches!(result, Err(JoinError::Panicked { message, .. }) if message == "a value that is no text")
}

#[test]
fn a_payload_that_panics_when_dropped_is_a_panic_all_the_same() {
    for method in METHODS {
        let result = by(method).spawn(explode, ()).unwrap().join();
        assert!(is_panic(&result), "{method:?}: {result:?}");
        let pool = Pool::with(1, by(method)).unwrap();
        let error = pool.apply(explode, ()).unwrap_err();
        assert!(error.to_string().contains("a value that is no text"), "{error}");
    }
}

#[test]
fn a_panic_is_a_value_though_nobody_reads_stderr() {
    passes("has_a_broken_stderr");
}

#[test]
#[ignore = "run by another test"]
fn has_a_broken_stderr() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    // SAFETY: both are open.
    assert_eq!(unsafe { libc::dup2(writer.as_raw_fd(), 2) }, 2);
    for method in METHODS {
        let result = by(method).spawn(explode, ()).unwrap().join();
        assert!(is_panic(&result), "{method:?}: {result:?}");
        let pool = Pool::with(1, by(method)).unwrap();
        let result = pool.apply(explode, ());
        assert!(
            matches!(result, Err(Error::Join(JoinError::Panicked { .. }))),
            "{method:?}: {result:?}"
        );
    }
}

#[test]
fn a_panic_is_reported_in_one_write() {
    let output = program("panics_on_a_socket").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by another test"]
fn panics_on_a_socket() {
    use procession::StartMethod::{Forkserver, Spawn};
    for method in [Spawn, Forkserver] {
        // Each write becomes a datagram.
        let (reader, writer) = std::os::unix::net::UnixDatagram::pair().unwrap();
        // SAFETY: both are open.
        assert_eq!(unsafe { libc::dup2(writer.as_raw_fd(), 2) }, 2);
        by(method).spawn(fail, ()).unwrap().join().unwrap_err();
        let mut buffer = [0; 4096];
        let length = reader.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(text.starts_with("process 'Process-"), "{text}");
        assert!(text.ends_with(":\nas it must\n"), "{text}");
    }
}
