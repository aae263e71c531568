//! Panics as values: message and location, and the backtrace if one is wanted, recorded by a hook before the stack
//! unwinds.
//!
//! The hook also runs for panics that the function catches itself. So it only walks the stack, and only if a backtrace
//! is wanted. Names and lines, which take a hundred times longer, are looked up once a panic has left the function.

use crate::JoinError;
use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the hook does besides recording.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speak {
    /// Report on stderr which process panicked.
    Process,
    /// Call the program's own hook.
    AsBefore,
}

/// The panic that the hook saw last.
struct Noted {
    location: String,
    backtrace: Option<Backtrace>,
}

thread_local! {
    /// Whether this thread is running the process's function.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static NOTED: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

/// Whether the program asked for backtraces of this process, whatever the environment says.
static WANTED: AtomicBool = AtomicBool::new(false);

/// Set whether backtraces are recorded although the environment does not ask for them.
pub(crate) fn want_backtraces(wanted: bool) {
    WANTED.store(wanted, Ordering::Relaxed);
}

/// Install the hook and run `f`; a panic in it becomes an error.
pub(crate) fn catch<T>(speak: Speak, f: impl FnOnce() -> T) -> Result<T, JoinError> {
    install(speak);
    watched(f)
}

/// Like [`catch`], where the hook is already installed.
pub(crate) fn watched<T>(f: impl FnOnce() -> T) -> Result<T, JoinError> {
    let before = WATCHED.replace(true);
    NOTED.take();
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    WATCHED.set(before);
    result.map_err(|payload| {
        let Noted { location, backtrace } = NOTED.take().unwrap_or_else(|| Noted {
            location: "an unknown place".into(),
            backtrace: None,
        });
        let message = message(&*payload);
        discard(payload);
        JoinError::Panicked {
            message,
            location,
            backtrace: backtrace.map(render),
        }
    })
}

/// Write a line to stderr, in one piece, so that it does not mix with the output of other processes. An error has no
/// place to be reported.
pub(crate) fn report(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Drop what a panic carried; its destructor may panic, too.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

fn install(speak: Speak) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let watched = WATCHED.get();
        if watched {
            NOTED.set(Some(Noted {
                location: place(info),
                backtrace: capture(),
            }));
        }
        if watched && speak == Speak::Process {
            let text = message(info.payload());
            let name = crate::current().name();
            report(&format!("process '{name}' panicked at {}:\n{text}", place(info)));
        } else {
            before(info);
        }
    }));
}

/// The stack, if the program asked for it or `RUST_LIB_BACKTRACE` or `RUST_BACKTRACE` does.
fn capture() -> Option<Backtrace> {
    use std::backtrace::BacktraceStatus::Captured;
    let wanted = WANTED.load(Ordering::Relaxed);
    let backtrace = if wanted {
        Backtrace::force_capture()
    } else {
        Backtrace::capture()
    };
    let captured = backtrace.status() == Captured;
    #[cfg(test)]
    tests::CAPTURED.set(tests::CAPTURED.get() + u32::from(captured));
    captured.then_some(backtrace)
}

fn render(backtrace: Backtrace) -> String {
    #[cfg(test)]
    tests::RENDERED.set(tests::RENDERED.get() + 1);
    backtrace.to_string()
}

fn place(info: &PanicHookInfo<'_>) -> String {
    info.location()
        .map_or_else(|| "an unknown place".into(), ToString::to_string)
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is no text").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        pub(super) static CAPTURED: Cell<u32> = const { Cell::new(0) };
        pub(super) static RENDERED: Cell<u32> = const { Cell::new(0) };
    }

    fn counts() -> (u32, u32) {
        (CAPTURED.get(), RENDERED.get())
    }

    fn panics() {
        panic!("as it must");
    }

    /// Whether the environment asks for backtraces.
    fn asked() -> bool {
        Backtrace::capture().status() == std::backtrace::BacktraceStatus::Captured
    }

    #[test]
    fn a_backtrace_is_made_only_of_a_panic_that_leaves_the_function_and_if_one_is_wanted() {
        let unless_asked = |count: u32| if asked() { count } else { 0 };
        let error = catch(Speak::Process, panics).unwrap_err();
        assert_eq!(counts(), (unless_asked(1), unless_asked(1)));
        let JoinError::Panicked {
            message,
            location,
            backtrace,
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(message, "as it must");
        assert!(location.contains("panic.rs:"), "{location}");
        assert_eq!(backtrace.is_some(), asked());

        want_backtraces(true);
        let (captured, rendered) = counts();
        let caught = || {
            for _ in 0..10 {
                panic::catch_unwind(panics).unwrap_err();
            }
        };
        watched(caught).unwrap();
        assert_eq!(
            counts(),
            (captured + 10, rendered),
            "what it catches itself is not rendered"
        );
        let error = watched(panics).unwrap_err();
        assert_eq!(counts(), (captured + 11, rendered + 1));
        assert!(matches!(error, JoinError::Panicked { backtrace: Some(text), .. } if text.contains("panics")));
        want_backtraces(false);
    }

    #[test]
    fn a_payload_without_a_panic_has_no_place() {
        install(Speak::Process);
        watched(|| panic::catch_unwind(panics).unwrap_err()).unwrap();
        let error = watched(|| panic::resume_unwind(Box::new("resumed"))).unwrap_err();
        let expected = JoinError::Panicked {
            message: "resumed".into(),
            location: "an unknown place".into(),
            backtrace: None,
        };
        assert_eq!(error, expected);
    }
}
