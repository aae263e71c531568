//! Children that are programs: how they end and what they inherit.

mod common;

use procession_core::channel::{Mailbox, Outgoing};
use procession_core::process::{spawn, Child, Exit};
use procession_core::{liveness, sweep_deferred, Deadline};
use rustix::fs::{memfd_create, MemfdFlags};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn shell(script: &str, keep: &[&OwnedFd]) -> Child {
    let keep: Vec<_> = keep.iter().map(|fd| fd.as_raw_fd()).collect();
    spawn(OsStr::new("/bin/sh"), &["sh", "-c", script], &[], &keep).expect("there is a shell")
}

fn end(child: &Child) -> Option<Exit> {
    child.wait(Deadline::Never).expect("no error")
}

#[test]
fn exit_code_and_signal() {
    assert_eq!(end(&shell("exit 7", &[])), Some(Exit::Code(7)));
    assert_eq!(end(&shell("kill -SEGV $$", &[])), Some(Exit::Signal(11)));
}

#[test]
fn a_running_child_has_no_exit_until_it_is_killed() {
    let child = shell("exec sleep 1000", &[]);
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait(Deadline::after(Duration::from_millis(10))).unwrap(), None);
    child.signal(libc::SIGKILL).unwrap();
    assert_eq!(end(&child), Some(Exit::Signal(9)));
    assert_eq!(end(&child), Some(Exit::Signal(9)), "it stays known");
    child.signal(libc::SIGKILL).expect("no error for one that ended");
}

#[test]
fn two_threads_wait_for_one_child() {
    for _ in 0..50 {
        let child = shell("exit 3", &[]);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| end(&child));
            assert_eq!(end(&child), Some(Exit::Code(3)));
            assert_eq!(other.join().unwrap(), Some(Exit::Code(3)));
        });
    }
}

#[test]
fn a_forked_child_asks_for_the_exit_while_another_thread_did() {
    let child = shell("exec sleep 1000", &[]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(child.try_wait().unwrap(), None);
            }
        });
        let mut statuses = (0..200).map(|_| {
            // SAFETY: the child calls only the engine, which is prepared for fork, and `_exit`.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: SIGALRM ends a child that waits for ever.
                unsafe { libc::alarm(5) };
                let fine = matches!(child.try_wait(), Ok(None));
                // SAFETY: ends the child without running what it inherited.
                unsafe { libc::_exit(i32::from(!fine)) }
            }
            let mut status = 0;
            // SAFETY: `status` outlives the call.
            unsafe { libc::waitpid(pid, &raw mut status, 0) };
            status
        });
        let failed = statuses.find(|&status| status != 0);
        over.store(true, Ordering::Relaxed);
        assert_eq!(failed, None);
    });
    child.signal(libc::SIGKILL).unwrap();
    end(&child);
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let error = spawn(OsStr::new("/no/such/program"), &["x"], &[], &[]).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn only_wanted_descriptors_arrive() {
    let kept = memfd_create("kept", MemfdFlags::CLOEXEC).unwrap();
    let other = memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
    let stray = memfd_create("stray", MemfdFlags::empty()).unwrap();
    let script = format!(
        "test -e /proc/self/fd/{} && ! test -e /proc/self/fd/{} && ! test -e /proc/self/fd/{}",
        kept.as_raw_fd(),
        other.as_raw_fd(),
        stray.as_raw_fd()
    );
    assert_eq!(end(&shell(&script, &[&kept])), Some(Exit::Code(0)));
    let flags = rustix::io::fcntl_getfd(kept.as_fd()).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "still close-on-exec here");
}

#[test]
fn the_environment_can_be_added_to() {
    let extra = [("PROCESSION_TEST", "twelve".into())];
    let argv = ["sh", "-c", "test \"$PROCESSION_TEST\" = twelve && test -n \"$PATH\""];
    let child = spawn(OsStr::new("/bin/sh"), &argv, &extra, &[]).unwrap();
    assert_eq!(end(&child), Some(Exit::Code(0)));
}

#[test]
fn a_child_reaped_elsewhere_counts_as_ended() {
    let child = shell("exit 5", &[]);
    // SAFETY: a null status pointer is allowed.
    unsafe { libc::waitpid(child.pid(), std::ptr::null_mut(), 0) };
    // From Linux 6.15 on the kernel still reports the exit status.
    assert!(matches!(end(&child), Some(Exit::Code(5) | Exit::Unknown)));
    assert_eq!(end(&child), end(&child));
}

#[test]
fn the_exit_code_noted_by_a_reaped_child_is_found() {
    let pid = common::child(|| {
        liveness::note_exit(7);
        // SAFETY: always sound.
        unsafe { libc::_exit(7) };
    });
    common::wait(pid);
    let adopted = Child::adopt(pid).unwrap();
    assert_eq!(end(&adopted), Some(Exit::Code(7)));
}

#[test]
fn a_process_started_without_descriptors_left_counts_as_alive() {
    let (mut tell, mut told) = UnixStream::pair().unwrap();
    let parent = common::child(|| {
        let fillers: Vec<_> = std::iter::from_fn(|| told.try_clone().ok()).collect();
        let child = common::child(|| {
            let mut byte = [0; 9];
            // SAFETY: closes this process's own copy.
            unsafe { libc::close(tell.as_raw_fd()) };
            told.read_exact(&mut byte).unwrap();
            let token = u64::from_ne_bytes(std::array::from_fn(|at| byte[at + 1]));
            assert_eq!(Mailbox::take(token).expect("the mailbox").body(), b"what to do");
        });
        let out = Outgoing {
            body: b"what to do",
            ..Outgoing::default()
        };
        let mailbox = Mailbox::pack(out).unwrap();
        let token = mailbox.token();
        mailbox.address(child);
        drop(fillers);
        liveness::sweep();
        sweep_deferred().unwrap();
        assert!(liveness::members().iter().any(|member| member.pid as i32 == child));
        tell.write_all(&[0]).unwrap();
        tell.write_all(&token.to_ne_bytes()).unwrap();
        assert_eq!(common::wait(child), 0);
    });
    assert_eq!(common::wait(parent), 0);
}

#[test]
fn an_unknown_pid_has_ended() {
    let gone = shell("exit 0", &[]);
    end(&gone);
    let adopted = Child::adopt(gone.pid()).unwrap();
    assert_eq!(end(&adopted), Some(Exit::Unknown));
    assert!(Child::adopt(0).is_err());
    assert!(Child::adopt(-1).is_err());
}
