//! A mutex that is never locked in a new child of fork: a fork waits until no thread holds one.
//!
//! For state that a child may still look at. A thread that holds such a mutex must not lock another one, and must not
//! fork.

use super::atfork::ForkHooks;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Read by each thread that holds a mutex, written by a thread that forks.
static FORKS: RwLock<()> = RwLock::new(());
static HOOKS: ForkHooks = ForkHooks::new(before_fork, after_fork, after_fork_child);

thread_local! {
    static FORKING: RefCell<Option<RwLockWriteGuard<'static, ()>>> = const { RefCell::new(None) };
}

extern "C" fn before_fork() {
    // A thread that has already destroyed its thread-locals forks unprotected.
    let _ = FORKING.try_with(|held| {
        held.borrow_mut()
            .get_or_insert_with(|| FORKS.write().unwrap_or_else(PoisonError::into_inner));
    });
}

extern "C" fn after_fork() {
    let _ = FORKING.try_with(RefCell::take);
}

extern "C" fn after_fork_child() {
    HOOKS.mark_installed();
    after_fork();
}

/// The mutex.
#[derive(Debug, Default)]
pub(crate) struct ForkMutex<T>(Mutex<T>);

/// The mutex, locked.
pub(crate) struct ForkMutexGuard<'a, T> {
    // In this order: a fork goes on after the mutex is free.
    value: MutexGuard<'a, T>,
    #[expect(dead_code, reason = "dropping it is its use")]
    no_fork: RwLockReadGuard<'static, ()>,
}

impl<T> ForkMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Lock it, whether or not a thread panicked with it.
    pub(crate) fn lock(&self) -> ForkMutexGuard<'_, T> {
        // Fails only if memory runs out; then forks do not wait.
        let _ = HOOKS.install();
        let no_fork = FORKS.read().unwrap_or_else(PoisonError::into_inner);
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ForkMutexGuard { value, no_fork }
    }
}

impl<T> Deref for ForkMutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for ForkMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn no_child_inherits_it_locked() {
        let mutex = ForkMutex::new(0);
        let (locked, is_locked) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut value = mutex.lock();
                locked.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(100));
                *value = 1;
            });
            is_locked.recv().unwrap();
            // SAFETY: the child only locks, and leaves by `_exit`.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: SIGALRM ends a child that waits for ever.
                unsafe { libc::alarm(5) };
                let value = *mutex.lock();
                // SAFETY: ends the process.
                unsafe { libc::_exit(value) }
            }
            let mut status = 0;
            // SAFETY: `status` outlives the call.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert!(libc::WIFEXITED(status), "it waits for a thread that it does not have");
            assert_eq!(libc::WEXITSTATUS(status), 1, "the fork came after the change");
        });
        assert_eq!(*mutex.lock(), 1);
    }
}
