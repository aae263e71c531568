//! The protocol between a fork server and its clients, with the fork server dying in every part of it.

use procession_core::liveness::members;
use procession_core::process::fork_server::{self, Request, Server, ServerCommand};
use procession_core::process::{Child, Exit};
use procession_core::{family, Deadline, Error, WaitError};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a fork server of these tests reacts to a request.
#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    /// It serves the request.
    Proper,
    /// It dies after reading the request.
    DiesBeforeFork,
    /// It dies after the fork, without reporting the child.
    DiesAfterFork,
    /// Its fork fails.
    CannotFork,
}

/// The process has one channel to a fork server, so one test runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn die() -> ! {
    // SAFETY: ends this process.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
        libc::_exit(1)
    }
}

/// Fork a fork server that exits once no process can send it requests any more.
fn start(behaviour: Behaviour) -> i32 {
    let arena = family().and_then(|family| family.arena_fd()).unwrap().as_raw_fd();
    let mut started = 0;
    fork_server::start(|fd| {
        // SAFETY: the child uses nothing that another thread of the harness may be using: no output, no environment.
        started = unsafe { libc::fork() };
        if started == 0 {
            // Close what this copy inherited, above all the client end.
            for stray in (3..1024).filter(|stray| ![fd, arena].contains(stray)) {
                // SAFETY: nothing in this copy uses them.
                unsafe { libc::close(stray) };
            }
            serve(fd, behaviour);
        }
        Ok::<_, Error>(started)
    })
    .unwrap();
    started
}

fn serve(fd: RawFd, behaviour: Behaviour) -> ! {
    // SAFETY: open, and this process's alone.
    let mut server = Server::new(unsafe { OwnedFd::from_raw_fd(fd) }).unwrap();
    while let Ok(ServerCommand::Fork(request)) = server.next() {
        match behaviour {
            Behaviour::DiesBeforeFork => die(),
            Behaviour::CannotFork => {
                request.failed(libc::EAGAIN);
                continue;
            }
            Behaviour::Proper | Behaviour::DiesAfterFork => {}
        }
        // SAFETY: one thread.
        match unsafe { libc::fork() } {
            0 => be_child(request, server),
            _ if behaviour == Behaviour::DiesAfterFork => die(),
            pid => request.forked(&mut server, pid),
        }
    }
    // SAFETY: ends this process.
    unsafe { libc::_exit(0) }
}

/// A child's token says how it ends: with this exit code below 256, by this signal above 256; at 1000 it does not end
/// by itself.
fn be_child(request: Request, server: Server) -> ! {
    let token = request.token as i32;
    let wanted = request.in_child(server).is_ok_and(|fds| fds.is_some());
    // SAFETY: a signal to this process, or its end.
    unsafe {
        match token {
            _ if !wanted => libc::_exit(99),
            0..256 => libc::_exit(token),
            1000 => loop {
                libc::pause();
            },
            _ => libc::kill(libc::getpid(), token - 256),
        };
        libc::_exit(98)
    }
}

fn ask(token: u64) -> Result<Option<Child>, WaitError> {
    let pending = fork_server::request(token, &[])?.expect("there is a living fork server");
    pending.wait(Deadline::Never)
}

fn end(child: &Child) -> Option<Exit> {
    child.wait(Deadline::Never).unwrap()
}

#[test]
fn children_and_their_ends() {
    let _alone = alone();
    let pid = start(Behaviour::Proper);
    assert_eq!(fork_server::pid(), Some(pid));
    assert_eq!(end(&ask(7).unwrap().unwrap()), Some(Exit::Code(7)));
    assert_eq!(end(&ask(256 + 15).unwrap().unwrap()), Some(Exit::Signal(15)));
    let children: Vec<_> = (0..100).map(|token| ask(token).unwrap().unwrap()).collect();
    for (code, child) in children.iter().enumerate() {
        assert_eq!(end(child), Some(Exit::Code(code as i32)));
    }
    let child = ask(1000).unwrap().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    // The process table names the client as the parent, once the child has joined the family.
    let me = family().unwrap().me();
    while !members()
        .iter()
        .any(|one| one.pid as i32 == child.pid() && one.parent == Some(me))
    {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    child.signal(libc::SIGKILL).unwrap();
    assert_eq!(end(&child), Some(Exit::Signal(9)));
}

#[test]
fn a_fork_server_that_dies_with_the_request_leaves_it_void() {
    let _alone = alone();
    start(Behaviour::DiesBeforeFork);
    assert!(ask(1).unwrap().is_none());
    assert_eq!(fork_server::pid(), None);
    assert!(fork_server::request(1, &[]).unwrap().is_none());
    start(Behaviour::Proper);
    assert_eq!(end(&ask(1).unwrap().unwrap()), Some(Exit::Code(1)));
}

#[test]
fn a_child_reports_its_own_exit_when_its_fork_server_cannot() {
    let _alone = alone();
    for _ in 0..20 {
        start(Behaviour::DiesAfterFork);
        // Either the child reported itself in time, or the request was void: then the child ended without a report.
        if let Some(child) = ask(1000).unwrap() {
            child.signal(libc::SIGKILL).unwrap();
            assert_eq!(end(&child), Some(Exit::Unknown));
        }
    }
}

#[test]
fn a_fork_that_fails_is_the_clients_error() {
    let _alone = alone();
    start(Behaviour::CannotFork);
    let error = ask(1).unwrap_err().to_string();
    assert!(error.starts_with("fork: ") && error.contains("os error 11"), "{error}");
}

#[test]
fn a_killed_fork_server_is_noticed_while_its_children_run() {
    let _alone = alone();
    let pid = start(Behaviour::Proper);
    let child = ask(1000).unwrap().unwrap();
    // SAFETY: a signal to a process of this test.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    child.signal(libc::SIGKILL).unwrap();
    assert_eq!(end(&child), Some(Exit::Unknown));
}

#[test]
fn an_abandoned_request_makes_no_child() {
    let _alone = alone();
    let pid = start(Behaviour::Proper);
    let (reader, writer) = std::io::pipe().unwrap();
    // SAFETY: signals to a process of this test.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
    let pending = fork_server::request(1000, &[writer.as_fd()]).unwrap().unwrap();
    assert!(matches!(pending.wait(Deadline::Now), Err(WaitError::TimedOut)));
    drop((pending, writer));
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGCONT) };
    assert_eq!(end(&ask(3).unwrap().unwrap()), Some(Exit::Code(3)));
    // A child for the first request would never end, and would hold the pipe open.
    assert_eq!(std::io::read_to_string(reader).unwrap(), "");
}

#[test]
fn it_exits_when_no_process_can_send_requests() {
    let _alone = alone();
    let pid = start(Behaviour::Proper);
    let fork_server = Child::adopt(pid).unwrap();
    fork_server::forget();
    assert_eq!(end(&fork_server), Some(Exit::Code(0)));
}
