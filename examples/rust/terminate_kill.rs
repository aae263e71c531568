//! `terminate` and `kill` of processes that loop for ever.
//!
//! What to see: signals 15 and 9, printed as Python's exit codes.

mod common;
use procession::{spawn, Event, JoinError};

fn loop_for_ever(running: Event) {
    running.set();
    loop {
        std::hint::spin_loop();
    }
}

/// A boolean as the Python program prints it.
fn python(truth: bool) -> &'static str {
    if truth {
        "True"
    } else {
        "False"
    }
}

fn main() -> common::Outcome {
    common::start_method()?;
    for how in ["terminate", "kill"] {
        let running = Event::new()?;
        let child = spawn(loop_for_ever, running.clone())?;
        running.wait()?;
        let before = python(!child.is_finished());
        if how == "kill" {
            child.kill()?;
        } else {
            child.terminate()?;
        }
        let code = match child.join() {
            Err(JoinError::Signaled { signal, .. }) => -signal,
            other => return Err(format!("it ended otherwise: {other:?}").into()),
        };
        println!("{how}: alive {before}, then alive False, exit code {code}");
    }
    Ok(())
}
