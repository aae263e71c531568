//! Child processes and messages for the tests.

// No test uses all of it.
#![allow(dead_code)]

pub mod queues;

use procession_core::family;

/// Run `work` in a child of fork, which exits with 0 if it did not panic.
pub fn child(work: impl FnOnce()) -> i32 {
    family().unwrap().me();
    // SAFETY: the child runs only `work` and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        // SAFETY: always sound.
        unsafe { libc::_exit(i32::from(!fine)) };
    }
    pid
}

/// The child's status, once it has ended.
pub fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

/// Kill a child and wait for its end.
pub fn kill(pid: i32) {
    // SAFETY: always sound; the pid is that of a child not waited for yet.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    wait(pid);
}
