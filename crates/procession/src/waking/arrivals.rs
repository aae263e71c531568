//! The thread that watches a receiver's queue while tasks wait for a value.

use super::{shield, start, Wakers};
use crate::channel::is_left_by;
use crate::{Error, Result};
use procession_core::arena::Ref;
use procession_core::channel::Queue;
use procession_core::ids::Handle;
use procession_core::{Deadline, WaitError};
use std::mem::take;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// The longest sleep of the thread. Not for ever: what it waits for is not all that its process waits for, and the
/// engine ends endless waits if it takes them for the only ones.
const SLEEP: Duration = Duration::from_secs(3600);

/// The watch of one receiver, if a task of this process has waited for it.
#[derive(Default)]
pub(crate) struct Arrivals(Mutex<Option<ReceiverWatch>>);

struct ReceiverWatch {
    shared: Arc<Awaiting>,
    /// The process whose thread it is.
    pid: u32,
}

struct Awaiting {
    queue: Ref<Queue>,
    senders: Handle,
    state: Mutex<AwaitingState>,
    changed: Condvar,
}

#[derive(Default)]
struct AwaitingState {
    wakers: Wakers,
    /// Errors of the thread's waits, each for the next wait under this number.
    failed: Vec<(u64, Error)>,
    /// The receiver is dropped.
    over: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arrivals {
    /// Wake the task once there is a value, or no sender any more. Returns the error if the thread's wait for this
    /// number failed.
    pub(crate) fn wake(&self, queue: &Ref<Queue>, senders: Handle, number: u64, waker: &Waker) -> Result<()> {
        let mut watch = lock(&self.0);
        let pid = std::process::id();
        if watch.as_ref().is_none_or(|watch| watch.pid != pid) {
            let shared = Arc::new(Awaiting {
                queue: queue.clone(),
                senders,
                state: Mutex::default(),
                changed: Condvar::new(),
            });
            let theirs = Arc::clone(&shared);
            start("procession-recv", move || theirs.watch())?;
            // That of the process that forked this one is another process's.
            std::mem::forget(watch.replace(ReceiverWatch { shared, pid }));
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

    /// End the thread. The caller wakes the queue's consumers afterwards, of which it is one.
    pub(crate) fn end(&self) {
        let watch = lock(&self.0).take();
        match watch {
            Some(watch) if watch.pid == std::process::id() => {
                lock(&watch.shared.state).over = true;
                watch.shared.changed.notify_one();
            }
            other => std::mem::forget(other),
        }
    }
}

impl Awaiting {
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
            let over = || is_left_by(self.senders) || lock(&self.state).over;
            let waited = self.queue.wait_until_ready_or(Deadline::after(SLEEP), over);
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
        let shared = lock(&from.arrivals().0).as_ref().map(|watch| Arc::clone(&watch.shared));
        let shared = shared.unwrap();
        let fail = || shared.tell(Err(procession_core::Error::Corrupt("a test").into()));

        fail();
        assert_eq!(lock(&shared.state).wakers.0.len(), 1, "the other still waits");
        assert!(wait(1).is_ok());
        assert!(wait(2).is_err());
        // A new wait waits anew: the error was told.
        assert!(wait(2).is_ok());
        fail();
        assert_eq!((1..3).filter_map(|number| from.arrivals().forget(number)).count(), 1);
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
                let shared = lock(&from.arrivals().0).as_ref().map(|watch| Arc::clone(&watch.shared));
                if let Some(shared) = shared {
                    shared.tell(Err(procession_core::Error::Corrupt("a test").into()));
                }
                std::thread::yield_now();
            }
            assert!(select.join().unwrap().is_err());
        });
    }
}
