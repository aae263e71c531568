//! The threads of this process: those that the engine starts for itself, and all others.

use super::signal::with_signals_blocked;
use crate::hooks::hooks;
use crate::{Error, Result};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How many of the engine's own threads run. They hold no lock of the program's, and none that a child of fork would
/// miss.
static HELPERS: AtomicUsize = AtomicUsize::new(0);

/// How long the kernel may still count a thread that was joined, or a new helper not yet be counted here.
const LAG: Duration = Duration::from_millis(100);

/// Counts a helper until its thread ends.
struct Helper;

impl Helper {
    fn begin() -> Self {
        HELPERS.fetch_add(1, SeqCst);
        (hooks().note_helpers)();
        IS_HELPER.set(true);
        Self
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        HELPERS.fetch_sub(1, SeqCst);
        // Before the thread ends: others never take more of this process's threads for helpers than are.
        (hooks().note_helpers)();
    }
}

/// Start a thread of the engine's own. All signals are blocked in it: handlers belong to the program's threads.
pub(crate) fn helper<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let thread = Builder::new().name(name.to_owned()).stack_size(64 * 1024);
    let body = move || {
        let _helper = Helper::begin();
        body()
    };
    with_signals_blocked(|| thread.spawn(body)).map_err(|e| Error::os("clone", e))
}

thread_local! {
    static IS_HELPER: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether the calling thread is one of the engine's own.
pub(crate) fn is_helper() -> bool {
    IS_HELPER.try_with(std::cell::Cell::get).unwrap_or(true)
}

/// How many threads of the engine's own this process has.
pub(crate) fn helpers() -> usize {
    HELPERS.load(SeqCst)
}

/// Reset the count in a child of fork, where only the calling thread is left.
pub(crate) fn after_fork_child() {
    HELPERS.store(0, SeqCst);
}

/// Whether the calling thread is the only one of the process, besides the engine's own. False if the kernel does not
/// say.
pub fn is_alone() -> bool {
    let until = Instant::now() + LAG;
    loop {
        match super::proc::thread_count() {
            None => return false,
            Some(count) if count <= 1 + HELPERS.load(SeqCst) => return true,
            Some(_) if Instant::now() > until => return false,
            Some(_) => std::thread::yield_now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_do_not_count_and_others_do() {
        let count = || super::super::proc::thread_count().unwrap() - HELPERS.load(SeqCst);
        let before = count();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let helping = helper("procession-test", move || ended.recv().is_err()).unwrap();
        while count() != before {
            std::thread::yield_now();
        }
        let (leave, left) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || left.recv().is_err());
        assert_eq!(count(), before + 1);
        assert!(!is_alone());
        drop((end, leave));
        assert!(helping.join().unwrap());
        assert!(other.join().unwrap());
    }
}
