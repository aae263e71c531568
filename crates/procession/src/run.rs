//! The child's side: take on the identity in the order, call the function, leave the outcome, exit.

use crate::order::{receive, Arguments, Call, Received, LOST, PANICKED};
use crate::panic::{catch, Speak};
use crate::process::{become_child, here};
use crate::travel::Cargo;
use crate::{logging, set_start_method, JoinError, Process, Result};
use log::info;
use procession_core::arena::Ref;
use procession_core::channel::{wait_until_noticed, Message, Outgoing};
use procession_core::process::{note_at_exit, watch_parent, Outcome};
use procession_core::roll;
use std::io::Write;
use std::os::fd::OwnedFd;

/// The exit code of a process after a panic of its function or the loss of its result; the same as that of a Rust
/// program that panics.
const FAILED: i32 = 101;

// Log messages in the words of Python's standard library.
const CALLING: &str = "child process calling self.run()";
const EXITING: &str = "process exiting with exitcode";

/// Be the child that the parcel `token` describes, in a process that was executed or forked by a zygote.
pub(crate) fn run(token: u64, fds: Vec<OwnedFd>) -> ! {
    let code = perform(token, fds).unwrap_or_else(|error| {
        // Without an order, stderr is the only place to report to. The usual cause is that the parent died and its
        // parcel with it.
        eprintln!(
            "procession: process {} ends, it cannot learn what to do: {error}",
            std::process::id()
        );
        FAILED
    });
    here().children.end();
    info!("{EXITING} {code}");
    roll::note_exit(code);
    std::process::exit(code)
}

fn perform(token: u64, fds: Vec<OwnedFd>) -> Result<i32> {
    let Received {
        order,
        outcome,
        target,
        parcel,
        start,
    } = receive(token)?;
    set_start_method(order.start_method);
    settle(order.me, order.parent)?;
    if let Some(Err(error)) = order.log.map(logging::install) {
        return Ok(conclude(&outcome, Ok(Err(error.to_string()))));
    }
    let Some((call, function)) = target else {
        let text = "the program that runs is not the one that started the process: was it replaced meanwhile?";
        return Ok(conclude(&outcome, Ok(Err(text.to_owned()))));
    };
    // SAFETY: a place within the executable that the parent took from a `Call`, in the same executable, as the mark
    // shows.
    let call: Call = unsafe { std::mem::transmute(call as *const ()) };
    let arguments = Arguments { parcel, start, fds };
    info!("{CALLING}");
    let result = catch(Speak::Process, || call(function, arguments));
    Ok(conclude(
        &outcome,
        result.map(|made| made.map_err(|error| error.to_string())),
    ))
}

/// Be the child in a process made by `fork`: `f` calls the function and packs its result.
pub(crate) fn run_forked(me: Process, parent: Process, outcome: &Ref<Outcome>, f: impl FnOnce() -> Result<Cargo>) -> ! {
    let code = match settle(me, parent) {
        Ok(()) => {
            info!("{CALLING}");
            let result = catch(Speak::AsBefore, f);
            conclude(outcome, result.map(|made| made.map_err(|error| error.to_string())))
        }
        Err(error) => conclude(outcome, Ok(Err(error.to_string()))),
    };
    here().children.end();
    info!("{EXITING} {code}");
    // The exit handlers that the parent registered must not run in this process.
    let _ = std::io::stdout().flush();
    wait_until_noticed();
    roll::note_exit(code);
    // SAFETY: `fflush` flushes C's streams, which were flushed before the fork; `_exit` ends the process.
    unsafe {
        libc::fflush(std::ptr::null_mut());
        libc::_exit(code)
    }
}

/// Take on this identity.
fn settle(me: Process, parent: Process) -> Result<()> {
    note_at_exit();
    let parent_pid = parent.pid;
    if become_child(me, parent).me.dies_with_parent {
        watch_parent(parent_pid)?;
    }
    Ok(())
}

/// Leave the outcome for the parent. Returns the exit code.
fn conclude(outcome: &Outcome, result: Result<Result<Cargo, String>, JoinError>) -> i32 {
    let _ = std::io::stdout().flush();
    let (cargo, code) = match result {
        Ok(Ok(cargo)) => (cargo, 0),
        Ok(Err(text)) => (lost(&text), FAILED),
        Err(JoinError::Panicked {
            message,
            location,
            backtrace,
        }) => {
            let parts = (message, location, backtrace);
            let bytes = postcard::to_extend(&parts, vec![PANICKED]).unwrap_or_else(|_| vec![LOST]);
            (
                Cargo {
                    bytes,
                    ..Cargo::default()
                },
                FAILED,
            )
        }
        Err(other) => (lost(&other.to_string()), FAILED),
    };
    match pack(&cargo).or_else(|error| pack(&lost(&error.to_string()))) {
        Ok(message) => {
            outcome.post(message);
            code
        }
        Err(error) => {
            eprintln!(
                "procession: the result of process {} is lost: {error}",
                std::process::id()
            );
            FAILED
        }
    }
}

fn pack(cargo: &Cargo) -> procession_core::Result<Message> {
    Message::pack(Outgoing {
        body: &cargo.bytes,
        handles: &cargo.handles,
        ..Outgoing::default()
    })
}

fn lost(text: &str) -> Cargo {
    let bytes = [&[LOST], text.as_bytes()].concat();
    Cargo {
        bytes,
        ..Cargo::default()
    }
}
