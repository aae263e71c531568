//! The thread that watches a pool while tasks wait for results of its calls.

use super::{shield, start, Wakers};
use crate::Result;
use procession_core::pool::{Job, Pool};
use procession_core::{Deadline, WaitError};
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// The longest sleep of the thread, for the reason that `watch` has for its own.
const SLEEP: Duration = Duration::from_secs(3600);

/// The watch of one pool.
pub(crate) struct Completions {
    pool: Pool,
    state: Mutex<CompletionsState>,
}

#[derive(Default)]
struct CompletionsState {
    /// Each under the number of its job: a job has one future, which is dropped before the job's number is free.
    wakers: Wakers,
    /// Whether the thread runs.
    running: bool,
}

impl Completions {
    pub(crate) fn new(pool: Pool) -> Self {
        let state = Mutex::default();
        Self { pool, state }
    }

    fn lock(&self) -> MutexGuard<'_, CompletionsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wake the task once the job is complete. The pool is this process's.
    pub(crate) fn wake(self: &Arc<Self>, job: &Job, waker: &Waker) -> Result<()> {
        let waker = waker.clone();
        let replaced = {
            let mut state = self.lock();
            if !state.running {
                let theirs = Arc::clone(self);
                start("procession-pool", move || theirs.run())?;
                state.running = true;
            }
            state.wakers.set(job.id().into(), waker)
        };
        drop(replaced);
        // Behind the waker: from here on the thread may find the job complete.
        job.announce();
        Ok(())
    }

    pub(crate) fn forget(&self, job: &Job) {
        let removed = self.lock().wakers.remove(job.id().into());
        drop(removed);
    }

    fn run(&self) {
        loop {
            let told = self.pool.next_completed(Deadline::after(SLEEP));
            let woken: Vec<Waker> = match told {
                Err(WaitError::TimedOut | WaitError::Interrupted) => continue,
                Ok(Some(job)) => self.lock().wakers.remove(job.into()).into_iter().collect(),
                // The pool has ended; or it cannot be waited for, as the next polls find out themselves.
                Ok(None) | Err(_) => {
                    let mut state = self.lock();
                    state.running = false;
                    take(&mut state.wakers.0).into_iter().map(|(_, waker)| waker).collect()
                }
            };
            let over = !matches!(told, Ok(Some(_)));
            for waker in woken {
                shield(|| waker.wake());
            }
            if over {
                return;
            }
        }
    }
}
