//! The thread that watches the children whose end tasks wait for.

use super::{shield, start};
use crate::children::Running;
use crate::{Error, Result};
use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags};
use rustix::io::{read, write};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// What the thread and the tasks share.
struct EndsWatch {
    /// Written to when `awaited` has changed.
    changed: OwnedFd,
    awaited: Mutex<Vec<AwaitedChild>>,
    /// The process whose thread it is.
    pid: u32,
}

struct AwaitedChild {
    /// That of the wait.
    number: u64,
    running: Arc<Running>,
    waker: Waker,
}

static WATCH: Mutex<Option<Arc<EndsWatch>>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wake the task once the child has ended. The first call starts the thread.
pub(crate) fn wake(number: u64, running: &Arc<Running>, waker: &Waker) -> Result<()> {
    watch()?.wake(number, running, waker);
    Ok(())
}

/// Wake this task no more.
pub(crate) fn forget(number: u64) {
    let watch = lock(&WATCH).clone();
    if let Some(watch) = watch.filter(|watch| watch.pid == std::process::id()) {
        watch.forget(number);
    }
}

/// This process's watch; starts its thread with the first call.
fn watch() -> Result<Arc<EndsWatch>> {
    let mut watch = lock(&WATCH);
    let pid = std::process::id();
    if let Some(watch) = watch.as_ref().filter(|watch| watch.pid == pid) {
        return Ok(Arc::clone(watch));
    }
    let changed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let changed = changed.map_err(|error| Error::engine(procession_core::Error::os("eventfd", error)))?;
    let new = Arc::new(EndsWatch {
        changed,
        awaited: Mutex::default(),
        pid,
    });
    let theirs = Arc::clone(&new);
    start("procession-join", move || theirs.run())?;
    *watch = Some(Arc::clone(&new));
    Ok(new)
}

fn take(awaited: &mut Vec<AwaitedChild>, number: u64) -> Option<AwaitedChild> {
    let at = awaited.iter().position(|one| one.number == number)?;
    Some(awaited.swap_remove(at))
}

impl EndsWatch {
    /// Wake the task once the child has ended.
    fn wake(&self, number: u64, running: &Arc<Running>, waker: &Waker) {
        let new = AwaitedChild {
            number,
            running: Arc::clone(running),
            waker: waker.clone(),
        };
        let replaced = {
            let mut awaited = lock(&self.awaited);
            let replaced = take(&mut awaited, number);
            awaited.push(new);
            replaced
        };
        // Behind the lock: to drop a waker may drop other futures.
        drop(replaced);
        self.tell();
    }

    fn forget(&self, number: u64) {
        let removed = take(&mut lock(&self.awaited), number);
        drop(removed);
        self.tell();
    }

    fn tell(&self) {
        // Fails only if it was told before.
        let _ = write(&self.changed, &1_u64.to_ne_bytes());
    }

    fn run(&self) {
        loop {
            let children: Vec<(u64, Arc<Running>)> = lock(&self.awaited)
                .iter()
                .map(|one| (one.number, Arc::clone(&one.running)))
                .collect();
            let sentinels: Vec<_> = children.iter().map(|(_, running)| running.child.sentinel()).collect();
            let mut fds: Vec<_> = sentinels.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            fds.push(PollFd::new(&self.changed, PollFlags::IN));
            // An interruption leaves no event. Should the kernel lack memory to poll, all tasks look for themselves.
            let failed = match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => false,
                Err(_) => true,
            };
            let _ = read(&self.changed, &mut [0; 8]);
            let ended = children.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
            let ended: HashSet<u64> = ended.map(|((number, _), _)| *number).collect();
            let woken: Vec<AwaitedChild> = {
                let mut awaited = lock(&self.awaited);
                let (woken, left) = std::mem::take(&mut *awaited)
                    .into_iter()
                    .partition(|one| failed || ended.contains(&one.number));
                *awaited = left;
                woken
            };
            for one in woken {
                shield(|| {
                    one.waker.wake();
                    drop(one.running);
                });
            }
            shield(|| drop(children));
        }
    }
}
