//! The thread that watches one object in shared memory while tasks wait for it.

use super::{shield, start, Wakers};
use crate::{Error, Result};
use procession_core::{Deadline, WaitError};
use std::fmt;
use std::mem::take;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// The longest sleep of the thread. Not for ever: what it waits for is not all that its process waits for, and the
/// engine ends endless waits if it takes them for the only ones.
const SLEEP: Duration = Duration::from_secs(3600);

/// What a watch waits for.
pub(crate) trait Awaited: Send + Sync + 'static {
    /// The name of the thread.
    fn thread(&self) -> &'static str;

    /// A task begins to wait, and no other does.
    fn begin(&self) {}

    /// Wait until the tasks shall look, or until `over` is true.
    fn wait(&self, deadline: Deadline, over: &dyn Fn() -> bool) -> Result<(), WaitError>;

    /// Make a wait check `over` soon.
    fn prod(&self);
}

/// The watch of one object, if a task of this process has waited for it. Dropping it ends the thread. A clone is another
/// watch.
pub(crate) struct Watch<A: Awaited>(Mutex<Option<Watching<A>>>);

struct Watching<A> {
    shared: Arc<Awaiting<A>>,
    /// The process whose thread it is.
    pid: u32,
}

struct Awaiting<A> {
    awaited: A,
    state: Mutex<AwaitingState>,
    changed: Condvar,
}

#[derive(Default)]
struct AwaitingState {
    wakers: Wakers,
    /// Errors of the thread's waits, each for the next wait under this number.
    failed: Vec<(u64, Error)>,
    /// The watch is dropped.
    over: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<A: Awaited> Default for Watch<A> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<A: Awaited> Clone for Watch<A> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<A: Awaited> fmt::Debug for Watch<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl<A: Awaited> Drop for Watch<A> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<A: Awaited> Watch<A> {
    /// End the thread.
    pub(crate) fn end(&self) {
        let watch = lock(&self.0).take();
        match watch {
            Some(watch) if watch.pid == std::process::id() => {
                lock(&watch.shared.state).over = true;
                watch.shared.changed.notify_one();
                watch.shared.awaited.prod();
            }
            other => std::mem::forget(other),
        }
    }

    /// Wake the task once it shall look. Returns the error if the thread's wait for this number failed. `awaited` is
    /// called for the first wait.
    pub(crate) fn wake(&self, awaited: impl FnOnce() -> A, number: u64, waker: &Waker) -> Result<()> {
        let mut watch = lock(&self.0);
        let pid = std::process::id();
        if watch.as_ref().is_none_or(|watch| watch.pid != pid) {
            let awaited = awaited();
            let name = awaited.thread();
            let shared = Arc::new(Awaiting {
                awaited,
                state: Mutex::default(),
                changed: Condvar::new(),
            });
            let theirs = Arc::clone(&shared);
            start(name, move || theirs.watch())?;
            // That of the process that forked this one is another process's.
            std::mem::forget(watch.replace(Watching { shared, pid }));
        }
        let shared = watch.as_ref().map(|watch| Arc::clone(&watch.shared));
        drop(watch);
        let waker = waker.clone();
        let replaced = match shared {
            Some(shared) => {
                let mut state = lock(&shared.state);
                if let Some(error) = state.take_error(number) {
                    return Err(error);
                }
                if state.wakers.0.is_empty() {
                    shared.awaited.begin();
                }
                let replaced = state.wakers.set(number, waker);
                shared.changed.notify_one();
                replaced
            }
            None => None,
        };
        drop(replaced);
        Ok(())
    }

    /// Wake no task for this number any more. Returns the error if the thread's wait for it failed.
    pub(crate) fn forget(&self, number: u64) -> Option<Error> {
        let shared = lock(&self.0).as_ref().map(|watch| Arc::clone(&watch.shared))?;
        let (error, removed) = {
            let mut state = lock(&shared.state);
            (state.take_error(number), state.wakers.remove(number))
        };
        drop(removed);
        error
    }
}

impl<A: Awaited> Awaiting<A> {
    fn watch(&self) {
        loop {
            let mut state = lock(&self.state);
            while state.wakers.0.is_empty() && !state.over {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.over {
                return;
            }
            drop(state);
            let over = || lock(&self.state).over;
            let waited = self.awaited.wait(Deadline::after(SLEEP), &over);
            self.tell(waited);
        }
    }

    /// Wake the tasks after a wait.
    fn tell(&self, waited: Result<(), WaitError>) {
        let woken = match waited {
            Err(WaitError::TimedOut | WaitError::Interrupted) => return,
            Ok(()) => take(&mut lock(&self.state).wakers.0),
            // One task is told. If the others' waits fail too, so are they.
            Err(error) => lock(&self.state).fail_one(Error::wait(error)).into_iter().collect(),
        };
        for (_, waker) in woken {
            shield(|| waker.wake());
        }
    }
}

impl AwaitingState {
    /// Keep the error for one that waits. Returns its number and the waker to wake.
    fn fail_one(&mut self, error: Error) -> Option<(u64, Waker)> {
        let (number, waker) = self.wakers.0.pop()?;
        self.failed.push((number, error));
        Some((number, waker))
    }

    fn take_error(&mut self, number: u64) -> Option<Error> {
        let at = self.failed.iter().position(|(other, _)| *other == number)?;
        Some(self.failed.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    struct Nothing;

    impl Wake for Nothing {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn each_failed_wait_is_the_error_of_one_number() {
        let (_to, from) = crate::channel::<u8>().unwrap();
        let waker = Waker::from(Arc::new(Nothing));
        let wait = |number| from.wake_on_arrival(number, &waker);
        assert!(wait(1).is_ok() && wait(2).is_ok());
        let shared = lock(&from.watch().0).as_ref().map(|watch| Arc::clone(&watch.shared));
        let shared = shared.unwrap();
        let fail = || shared.tell(Err(procession_core::Error::Corrupt("a test").into()));

        fail();
        assert_eq!(lock(&shared.state).wakers.0.len(), 1, "the other still waits");
        assert!(wait(1).is_ok());
        assert!(wait(2).is_err());
        // A new wait waits anew: the error was told.
        assert!(wait(2).is_ok());
        fail();
        assert_eq!((1..3).filter_map(|number| from.watch().forget(number)).count(), 1);
        let state = lock(&shared.state);
        assert!(state.failed.is_empty() && state.wakers.0.is_empty());
    }

    #[test]
    fn a_failed_wait_is_the_error_of_a_select() {
        let (_to, from) = crate::channel::<u8>().unwrap();
        std::thread::scope(|scope| {
            let select = scope.spawn(|| {
                let mut select = crate::Select::new();
                select.recv(&from);
                select.ready_timeout(Duration::from_secs(20))
            });
            while !select.is_finished() {
                let shared = lock(&from.watch().0).as_ref().map(|watch| Arc::clone(&watch.shared));
                if let Some(shared) = shared {
                    shared.tell(Err(procession_core::Error::Corrupt("a test").into()));
                }
                std::thread::yield_now();
            }
            assert!(select.join().unwrap().is_err());
        });
    }
}
