//! What the tests of this crate share: the start methods, processes that are watched or killed, this executable run once more.
#![allow(dead_code)] // no test needs all of it

use procession::{Builder, JoinError, JoinHandle, StartMethod};
use procession_core::roll;
use serde::de::DeserializeOwned;
use std::process::Command;

pub const METHODS: [StartMethod; 3] = [StartMethod::Spawn, StartMethod::Fork, StartMethod::Forkserver];

pub fn by(method: StartMethod) -> Builder {
    // SAFETY: what the tests run in children needs no lock that another thread of the harness may hold: output goes through `fork`, which holds it.
    unsafe { Builder::new().start_method(method).fork_beside_threads() }
}

/// Return once the process sleeps, waiting for something shared.
pub fn until_asleep<R>(process: &JoinHandle<R>) {
    let waits = || {
        let members = roll::members();
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
    assert_eq!(process.join(), Err(JoinError::Signaled(libc::SIGKILL)));
}

/// This test executable, once more, for one of its ignored tests: a family of its own.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1", name]);
    command
}

/// Run `body` in a copy of this process that has one thread, which the harness never has.
pub fn alone(body: impl FnOnce()) {
    procession_core::family().unwrap().me();
    // SAFETY: the child runs only `body` and leaves by `_exit`; the harness's other thread does nothing but wait for this one.
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
