//! The child's side: take on the identity in the request, call the function, leave the result, exit.

use crate::codec;
use crate::error::Ours;
use crate::panic::{catch, report, want_backtraces, Speak};
use crate::process::{become_child, here};
use crate::request::{receive, Arguments, Call, Received, LOST, PANICKED};
use crate::surroundings::adopt;
use crate::{forward, logging, set_start_method, JoinError, Process, Result};
use log::info;
use procession_core::arena::Ref;
use procession_core::channel::{wait_until_noticed, Message, Outgoing};
use procession_core::liveness;
use procession_core::process::{note_at_exit, watch_parent, ResultSlot};
use std::io::Write;
use std::os::fd::OwnedFd;

/// The exit code of a process after a panic of its function or the loss of its result; the same as that of a Rust
/// program that panics.
const FAILED: i32 = 101;

// Log messages in the words of Python's standard library.
const CALLING: &str = "child process calling self.run()";
const EXITING: &str = "process exiting with exitcode";

/// Be the child that the mailbox `token` describes, in a process that was executed or forked by the fork server.
pub(crate) fn run(token: u64, fds: Vec<OwnedFd>) -> ! {
    let code = perform(token, fds).unwrap_or_else(|error| {
        // Without a request, stderr is the only place to report to. The usual cause is that the parent died and its
        // mailbox with it.
        let pid = std::process::id();
        report(&format!(
            "procession: process {pid} ends: it cannot read its request: {error}"
        ));
        FAILED
    });
    here().children.end();
    info!("{EXITING} {code}");
    liveness::note_exit(code);
    std::process::exit(code)
}

fn perform(token: u64, mut fds: Vec<OwnedFd>) -> Result<i32> {
    let Received {
        request,
        result_slot,
        target,
        mailbox,
        start,
    } = receive(token)?;
    set_start_method(request.start_method);
    want_backtraces(request.backtrace);
    take_identity(request.me, request.parent)?;
    if let Some(surroundings) = &request.surroundings {
        // SAFETY: this process was just forked by the fork server, which has one thread, and has started none.
        if let Err(error) = unsafe { adopt(surroundings, &mut fds) } {
            return Ok(conclude(&result_slot, Ok(Err(error.to_string()))));
        }
    }
    if let Some(Err(error)) = request.log.map(logging::inherit) {
        return Ok(conclude(&result_slot, Ok(Err(error.to_string()))));
    }
    if let Some(link) = request.forward {
        forward::inherit(link);
    }
    let Some((call, function)) = target else {
        let text = "the program that runs is not the one that started the process: was it replaced meanwhile?";
        return Ok(conclude(&result_slot, Ok(Err(text.to_owned()))));
    };
    // SAFETY: a place within the executable that the parent took from a `Call`, in the same executable, as the mark
    // shows.
    let call: Call = unsafe { std::mem::transmute(call as *const ()) };
    let arguments = Arguments { mailbox, start, fds };
    info!("{CALLING}");
    let result = catch(Speak::Process, || call(function, arguments));
    Ok(conclude(
        &result_slot,
        result.map(|made| made.map_err(|error| error.to_string())),
    ))
}

/// Ends the process when it is dropped, which is when a panic unwinds past it.
struct NoUnwind;

impl Drop for NoUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Be the child in a process made by `fork`: `f` calls the function and packs its result.
pub(crate) fn run_forked(
    me: Process,
    parent: Process,
    result_slot: &Ref<ResultSlot>,
    f: impl FnOnce() -> Result<Message>,
) -> ! {
    // What is up the stack is the parent's.
    let _no_unwind = NoUnwind;
    let code = match take_identity(me, parent) {
        Ok(()) => {
            info!("{CALLING}");
            let result = catch(Speak::AsBefore, f);
            conclude(result_slot, result.map(|made| made.map_err(|error| error.to_string())))
        }
        Err(error) => conclude(result_slot, Ok(Err(error.to_string()))),
    };
    here().children.end();
    info!("{EXITING} {code}");
    // The exit handlers that the parent registered must not run in this process.
    let _ = std::io::stdout().flush();
    wait_until_noticed();
    liveness::note_exit(code);
    // SAFETY: `fflush` flushes C's streams, which were flushed before the fork; `_exit` ends the process.
    unsafe {
        libc::fflush(std::ptr::null_mut());
        libc::_exit(code)
    }
}

/// Take on this identity.
fn take_identity(me: Process, parent: Process) -> Result<()> {
    note_at_exit();
    let parent_pid = parent.pid;
    if me.ignores_interrupts {
        // SAFETY: no code runs when the signal comes.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    }
    if become_child(me, parent).me.dies_with_parent {
        watch_parent(parent_pid).ours()?;
    }
    Ok(())
}

/// Leave the result for the parent. Returns the exit code.
fn conclude(result_slot: &ResultSlot, result: Result<Result<Message, String>, JoinError>) -> i32 {
    let _ = std::io::stdout().flush();
    let (message, code) = match result {
        Ok(Ok(message)) => (Ok(message), 0),
        Ok(Err(text)) => (lost(&text), FAILED),
        Err(JoinError::Panicked {
            message,
            location,
            backtrace,
        }) => {
            let parts = (message, location, backtrace);
            let bytes = codec::append(vec![PANICKED], &parts).unwrap_or_else(|_| vec![LOST]);
            (pack(&bytes), FAILED)
        }
        Err(other) => (lost(&other.to_string()), FAILED),
    };
    match message.or_else(|error| lost(&error.to_string())) {
        Ok(message) => {
            result_slot.post(message);
            code
        }
        Err(error) => {
            let pid = std::process::id();
            report(&format!("procession: the result of process {pid} is lost: {error}"));
            FAILED
        }
    }
}

fn pack(body: &[u8]) -> procession_core::Result<Message> {
    Message::pack(Outgoing {
        body,
        ..Outgoing::default()
    })
}

fn lost(text: &str) -> procession_core::Result<Message> {
    pack(&[&[LOST], text.as_bytes()].concat())
}
