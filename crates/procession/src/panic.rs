//! Panics as values: message, location and backtrace, recorded by a hook before the stack unwinds.

use crate::JoinError;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

/// What the hook does besides recording.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speak {
    /// Report on stderr which process panicked.
    Process,
    /// Call the program's own hook.
    AsBefore,
}

thread_local! {
    /// Whether this thread is running the process's function.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static NOTED: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Install the hook and run `f`; a panic in it becomes an error.
pub(crate) fn catch<T>(speak: Speak, f: impl FnOnce() -> T) -> Result<T, JoinError> {
    install(speak);
    watched(f)
}

/// Like [`catch`], where the hook is already installed.
pub(crate) fn watched<T>(f: impl FnOnce() -> T) -> Result<T, JoinError> {
    let before = WATCHED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    WATCHED.set(before);
    result.map_err(|payload| {
        let (location, backtrace) = NOTED
            .take()
            .unwrap_or_else(|| ("an unknown place".into(), String::new()));
        JoinError::Panicked {
            message: message(&*payload),
            location,
            backtrace,
        }
    })
}

fn install(speak: Speak) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let watched = WATCHED.get();
        if watched {
            NOTED.set(Some((place(info), Backtrace::force_capture().to_string())));
        }
        if watched && speak == Speak::Process {
            let text = message(info.payload());
            let name = crate::current().name();
            // One write, so that it does not mix with the output of other processes.
            eprintln!("process '{name}' panicked at {}:\n{text}", place(info));
        } else {
            before(info);
        }
    }));
}

fn place(info: &PanicHookInfo<'_>) -> String {
    info.location()
        .map_or_else(|| "an unknown place".into(), ToString::to_string)
}

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is no text").to_owned()
}
