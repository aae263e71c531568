//! Helpers of this crate's tests: start methods, processes to watch or kill, this executable run again.
#![allow(dead_code)] // no test uses all of them

use procession::{Builder, JoinHandle, StartMethod};
use procession_core::liveness;
use serde::de::DeserializeOwned;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::Arc;
use std::task::{Wake, Waker};

pub const METHODS: [StartMethod; 3] = [StartMethod::Spawn, StartMethod::Fork, StartMethod::Forkserver];

pub fn by(method: StartMethod) -> Builder {
    // SAFETY: the children of these tests need no lock that another thread of the harness may hold. They need the lock
    // of the output, and `fork` holds that one itself.
    unsafe { Builder::new().start_method(method).fork_beside_threads() }
}

/// Return once the process sleeps in a wait for something shared.
pub fn until_asleep<R>(process: &JoinHandle<R>) {
    let waits = || {
        let members = liveness::members();
        members
            .iter()
            .any(|one| one.pid as i32 == process.pid() && !one.waits.is_empty())
    };
    while !waits() {
        assert!(!process.is_finished(), "it ends instead of waiting");
        std::thread::yield_now();
    }
}

pub fn kill<R: DeserializeOwned + std::fmt::Debug + PartialEq>(process: JoinHandle<R>) {
    process.kill().unwrap();
    assert_eq!(process.join().unwrap_err().signal(), Some(libc::SIGKILL));
}

/// This test executable as a command that runs one of its ignored tests. It is a family of its own.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1", name]);
    command
}

/// Run `body` in a forked copy of this process. The copy has one thread, which the harness never has.
pub fn alone(body: impl FnOnce()) {
    procession_core::family().unwrap().me();
    // SAFETY: the child runs only `body` and leaves by `_exit`; the harness's other thread only waits for this one.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_ok();
            libc::_exit(i32::from(!fine));
        }
        let mut status = -1;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        assert_eq!(status, 0);
    }
}

/// Counts how often it is woken.
#[derive(Default)]
pub struct Count(pub AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A waker that counts, and its count.
pub fn counted() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

pub fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}

/// The number of threads of this process with this name.
pub fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|comm| comm.trim() == &name[..name.len().min(15)]).count()
}
