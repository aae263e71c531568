//! The waiting primitives, compiled from the engine's own files, under every order of their atomic operations that the
//! memory model allows.
//!
//! `loom` runs each model again and again, once for each schedule and for each value that a relaxed load may see.
//! Sleeps never time out here: `loom` reports a lost wake-up as a deadlock. Small models stand for what surrounds the
//! primitives (process table, arena, futex).

#![allow(dead_code, missing_docs, unused_imports)] // a model uses only part of each file
#![allow(clippy::unnecessary_wraps, clippy::unused_self)] // a model keeps the signatures of what it replaces

#[macro_use]
#[path = "model/derived.rs"]
mod derived;
#[path = "model/arena.rs"]
mod arena;
pub mod cells {}
#[path = "model/loom_futex.rs"]
mod futex;
#[path = "model/liveness.rs"]
mod liveness;
#[path = "model/sync.rs"]
mod sync;
#[path = "model/trace.rs"]
mod trace;
#[path = "model/loom_words.rs"]
mod words;

mod ids {
    pub use procession_core::ids::{Handle, Kind, Owner};
}
pub use procession_core::{Deadline, Death, Error, Result, WaitError};

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use std::sync::Arc;
use sync::wait::EventCount;
use sync::{Event, Lock, Semaphore};
use words::check;

/// Run `body` as a process of its own.
fn process(body: impl FnOnce() + 'static) -> thread::JoinHandle<()> {
    thread::spawn(body)
}

#[test]
fn an_eventcount_loses_no_wake() {
    check(3, || {
        let event = words::zeroed::<EventCount>();
        let token = Arc::new(AtomicU32::new(0));
        let waiter = {
            let (event, token) = (event.clone(), token.clone());
            process(move || {
                event
                    .wait(Deadline::Never, || (token.load(Ordering::Relaxed) == 1).then_some(()))
                    .unwrap();
            })
        };
        token.store(1, Ordering::Relaxed);
        event.notify(1);
        waiter.join().unwrap();
    });
}

#[test]
fn two_tokens_reach_two_waiters_of_an_eventcount() {
    check(2, || {
        let event = words::zeroed::<EventCount>();
        let tokens = Arc::new(AtomicU32::new(0));
        let take = |tokens: &AtomicU32| {
            tokens
                .fetch_update(Ordering::SeqCst, Ordering::Relaxed, |value| value.checked_sub(1))
                .ok()
        };
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let (event, tokens) = (event.clone(), tokens.clone());
                process(move || {
                    event.wait(Deadline::Never, || take(&tokens)).unwrap();
                })
            })
            .collect();
        for _ in 0..2 {
            tokens.fetch_add(1, Ordering::SeqCst);
            event.notify(1);
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(tokens.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_lock_excludes_and_loses_no_wake() {
    check(2, || {
        let lock = Lock::create().unwrap();
        // What the lock protects; only the lock orders the accesses to it.
        let inside = loom::sync::Arc::new(loom::cell::UnsafeCell::new(0));
        let body = |lock: Lock, inside: loom::sync::Arc<loom::cell::UnsafeCell<i32>>| {
            lock.acquire(Deadline::Never).unwrap();
            // SAFETY: the lock is held; loom checks that no other thread is here, and that earlier writes are visible.
            inside.with_mut(|value| unsafe { *value += 1 });
            assert!(lock.release());
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (lock, inside) = (lock.clone(), inside.clone());
                process(move || body(lock, inside))
            })
            .collect();
        body(lock.clone(), inside.clone());
        for other in others {
            other.join().unwrap();
        }
        // SAFETY: all others have ended.
        assert_eq!(inside.with(|value| unsafe { *value }), 3);
        assert_eq!(lock.owner(), None);
    });
}

#[test]
fn of_two_waiters_for_a_dead_holder_one_gets_the_error() {
    check(2, || {
        let lock = Lock::create().unwrap();
        let errors = Arc::new(AtomicU32::new(0));
        let holder = {
            let lock = lock.clone();
            process(move || {
                lock.acquire(Deadline::Never).unwrap();
                liveness::die();
            })
        };
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let (lock, errors) = (lock.clone(), errors.clone());
                process(move || match lock.acquire(Deadline::Never) {
                    Ok(()) => assert!(lock.release()),
                    Err(WaitError::OwnerDied(_)) => {
                        errors.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(other) => panic!("{other}"),
                })
            })
            .collect();
        holder.join().unwrap();
        for waiter in waiters {
            waiter.join().unwrap();
        }
        // Neither got the error if both had the lock before the holder took it.
        let errors = errors.load(Ordering::Relaxed);
        if lock.owner().is_none() {
            assert!(errors <= 1);
        } else {
            assert_eq!(errors, 0, "the dead holder was found, so the lock is free");
        }
    });
}

#[test]
fn a_semaphore_gives_what_was_released() {
    check(2, || {
        let semaphore = Semaphore::create(0, u32::MAX).unwrap();
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let semaphore = semaphore.clone();
                process(move || semaphore.acquire(Deadline::Never).unwrap())
            })
            .collect();
        for _ in 0..2 {
            assert!(semaphore.release().unwrap());
        }
        for taker in takers {
            taker.join().unwrap();
        }
        assert_eq!(semaphore.value(), 0);
    });
}

#[test]
fn a_semaphore_that_recovers_keeps_its_permits() {
    check(2, || {
        let semaphore = Semaphore::recovering(1, 1).unwrap();
        let user = {
            let semaphore = semaphore.clone();
            process(move || {
                semaphore.acquire(Deadline::Never).unwrap();
                assert!(semaphore.release().unwrap());
            })
        };
        let holder = {
            let semaphore = semaphore.clone();
            process(move || {
                semaphore.acquire(Deadline::Never).unwrap();
                liveness::die();
            })
        };
        user.join().unwrap();
        holder.join().unwrap();
        semaphore.acquire(Deadline::Never).unwrap();
        assert!(!semaphore.try_acquire().unwrap());
    });
}

#[test]
fn an_event_that_is_set_wakes_all() {
    check(2, || {
        let event = Event::create().unwrap();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let event = event.clone();
                process(move || event.wait(event.begin(), Deadline::Never).unwrap())
            })
            .collect();
        event.set();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}
