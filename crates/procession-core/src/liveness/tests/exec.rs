//! Children of fork that execute a program: they are no members any more.

use super::*;

/// A child of fork that executes a program, and ends when the returned descriptor is closed.
fn executes(closes_all: bool) -> (i32, std::os::fd::OwnedFd) {
    use std::os::fd::{FromRawFd, OwnedFd};
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two numbers, which are then ours; the child calls only what may be called after a
    // fork, and executes a program.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        let pid = libc::fork();
        if pid == 0 {
            libc::dup2(ends[0], 0);
            if closes_all {
                libc::close_range(3, u32::MAX, 0);
            }
            let argv = [c"cat".as_ptr(), std::ptr::null()];
            libc::execv(c"/bin/cat".as_ptr(), argv.as_ptr());
            libc::_exit(127);
        }
        libc::close(ends[0]);
        (pid, OwnedFd::from_raw_fd(ends[1]))
    }
}

fn comm(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}

#[test]
fn no_free_is_deferred_for_a_child_that_executed_a_program() {
    family().unwrap().me();
    for closes_all in [false, true] {
        let before = births();
        let children = [executes(closes_all), executes(closes_all), executes(closes_all)];
        for (pid, _) in &children {
            wait_until(|| comm(*pid) == "cat\n");
        }
        let after = births();
        wait_until(|| {
            reap_executed();
            !fork_born_between(before, after)
        });
        // It lives, but is no member any more.
        for (pid, _) in &children {
            assert!(members().iter().all(|member| member.pid as i32 != *pid));
            // SAFETY: sends no signal.
            assert_eq!(unsafe { libc::kill(*pid, 0) }, 0);
        }
        for (pid, end) in children {
            drop(end);
            assert_eq!(reap(pid), 0);
        }
    }
}

#[test]
fn a_child_that_does_not_execute_a_program_stays() {
    family().unwrap().me();
    let before = births();
    let child = fork(|| loop {
        // SAFETY: sleeps.
        unsafe { libc::pause() };
    });
    let after = births();
    let its = || members().into_iter().find(|member| member.pid as i32 == child);
    wait_until(|| its().is_some());
    for _ in 0..100 {
        assert!(is_alive(its().unwrap().owner));
        assert!(fork_born_between(before, after));
        std::thread::yield_now();
    }
    kill(child);
    reap(child);
    assert!(!is_alive(its().unwrap().owner));
}

#[test]
fn a_holder_that_executed_a_program_counts_as_dead() {
    let lock = crate::sync::Lock::create().unwrap();
    let handle = lock.handle();
    let (pid, end) = {
        use std::os::fd::{AsRawFd, OwnedFd};
        let (reader, writer) = std::io::pipe().unwrap();
        // SAFETY: as in `executes`.
        match unsafe { libc::fork() } {
            0 => {
                let lock = crate::sync::Lock::attach(handle).unwrap();
                assert!(lock.acquire(crate::Deadline::Never).is_ok());
                // SAFETY: as in `executes`.
                unsafe {
                    libc::dup2(reader.as_raw_fd(), 0);
                    let argv = [c"cat".as_ptr(), std::ptr::null()];
                    libc::execv(c"/bin/cat".as_ptr(), argv.as_ptr());
                    libc::_exit(127)
                }
            }
            pid => (pid, OwnedFd::from(writer)),
        }
    };
    wait_until(|| comm(pid) == "cat\n");
    assert!(matches!(
        lock.acquire(crate::Deadline::Never),
        Err(crate::WaitError::OwnerDied(_))
    ));
    drop(end);
    assert_eq!(reap(pid), 0);
}
