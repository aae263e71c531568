//! Locks, semaphores, conditions, events, barriers.

use super::{handle, Operation};
use crate::stage::Values;
use procession_core::sync::{Arrival, Barrier, Condition, Event, Lock, RLock, Semaphore};
use procession_core::{Deadline, WaitError};
use std::mem::{forget, ManuallyDrop};
use std::time::Duration;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

/// Long enough to fall asleep.
fn shortly() -> Deadline {
    Deadline::after(Duration::from_millis(3))
}

/// An object's handle; the object stays.
fn keep<T>(object: T, handle: impl Fn(&T) -> procession_core::arena::Handle) -> Vec<u64> {
    vec![handle(&ManuallyDrop::new(object)).to_bits()]
}

/// Whatever the dead did with the lock: it can be had, at once or after its holder's death was reported, and excludes.
fn takes_lock(lock: &Lock) -> &'static str {
    let outcome = outcome_of(&|| lock.acquire(soon()));
    assert!(lock.is_mine() && !lock.try_acquire().expect("a lock"), "held twice");
    assert!(lock.release() && !lock.release() && lock.owner().is_none());
    outcome
}

fn takes_rlock(lock: &RLock) -> &'static str {
    let outcome = outcome_of(&|| lock.acquire(soon()));
    assert_eq!(lock.count(), 1);
    assert!(lock.try_acquire().expect("a lock"));
    assert_eq!(lock.count(), 2);
    assert!(lock.release() && lock.release() && !lock.release() && lock.owner().is_none());
    outcome
}

const DIED: &str = "its holder died";

fn outcome_of(acquire: &dyn Fn() -> Result<(), WaitError>) -> &'static str {
    match acquire() {
        Ok(()) => "free",
        Err(WaitError::OwnerDied(_)) => {
            acquire().expect("the lock, its death being reported");
            DIED
        }
        Err(end) => panic!("acquire: {end}"),
    }
}

/// An operation on a lock that the victim holds already, or not. `after`: what must be found once it has returned.
fn lock(name: &str, held: bool, act: fn(&Lock), after: &'static str) -> Operation {
    Operation::new(
        name,
        || keep(Lock::create().expect("a lock"), Lock::handle),
        move |values| {
            let lock = Lock::attach(handle(values[0])).expect("the lock");
            if held {
                lock.acquire(soon()).expect("the lock");
            }
            move || {
                act(&lock);
                forget(lock);
            }
        },
        move |values, done| {
            let outcome = takes_lock(&Lock::attach(handle(values[0])).expect("the lock"));
            assert!(!done || outcome == after);
            outcome.to_owned()
        },
    )
}

/// The same for a recursive lock.
fn rlock(name: &str, held: bool, act: fn(&RLock), after: &'static str) -> Operation {
    Operation::new(
        name,
        || keep(RLock::create().expect("a lock"), RLock::handle),
        move |values| {
            let lock = RLock::attach(handle(values[0])).expect("the lock");
            if held {
                lock.acquire(soon()).expect("the lock");
            }
            move || {
                act(&lock);
                forget(lock);
            }
        },
        move |values, done| {
            let outcome = takes_rlock(&RLock::attach(handle(values[0])).expect("the lock"));
            assert!(!done || outcome == after);
            outcome.to_owned()
        },
    )
}

/// A lock whose holder has died: the victim is told so, and takes it.
fn lock_of_the_dead() -> Operation {
    Operation::new(
        "lock acquire, its holder having died",
        || {
            let lock = Lock::create().expect("a lock");
            // SAFETY: one thread; the child leaves by `_exit`.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                lock.acquire(soon()).expect("the lock");
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) }
            }
            crate::trace::wait(pid);
            keep(lock, Lock::handle)
        },
        |values| {
            let lock = Lock::attach(handle(values[0])).expect("the lock");
            move || {
                assert_eq!(outcome_of(&|| lock.acquire(soon())), DIED);
                forget(lock);
            }
        },
        |values, done| {
            let outcome = takes_lock(&Lock::attach(handle(values[0])).expect("the lock"));
            assert!(!done || outcome == DIED);
            outcome.to_owned()
        },
    )
}

/// A lock that the root holds: the victim waits in vain, and leaves it as it was.
fn lock_in_vain() -> Operation {
    Operation::new(
        "lock acquire, held by another, timed out",
        || {
            let lock = Lock::create().expect("a lock");
            assert!(lock.try_acquire().expect("a lock"));
            keep(lock, Lock::handle)
        },
        |values| {
            let lock = Lock::attach(handle(values[0])).expect("the lock");
            move || {
                assert!(matches!(lock.acquire(shortly()), Err(WaitError::TimedOut)));
                forget(lock);
            }
        },
        |values, _| {
            let lock = Lock::attach(handle(values[0])).expect("the lock");
            assert!(lock.owner().is_some() && !lock.try_acquire().expect("a lock"));
            assert!(lock.release());
            takes_lock(&lock).to_owned()
        },
    )
}

fn locks() -> Vec<Operation> {
    let acquire = |lock: &Lock| lock.acquire(soon()).expect("the lock");
    let acquire_rlock = |lock: &RLock| lock.acquire(soon()).expect("the lock");
    vec![
        lock("lock acquire", false, acquire, DIED),
        lock("lock release", true, |lock| assert!(lock.release()), "free"),
        lock_in_vain(),
        lock_of_the_dead(),
        rlock("rlock acquire", false, acquire_rlock, DIED),
        rlock("rlock acquire again", true, acquire_rlock, DIED),
        rlock(
            "rlock acquire again, release",
            true,
            |lock| {
                lock.acquire(soon()).expect("the lock");
                assert!(lock.release());
            },
            DIED,
        ),
        rlock("rlock release", true, |lock| assert!(lock.release()), "free"),
    ]
}

/// A semaphore made with 2 of 3, of which the dead may have taken or given one.
fn counts(values: &Values, least: u32, most: u32) -> String {
    let semaphore = Semaphore::attach(handle(values[0])).expect("the semaphore");
    let value = semaphore.value();
    assert!((least..=most).contains(&value), "{value}, not from {least} to {most}");
    for _ in 0..value {
        semaphore.acquire(soon()).expect("a unit");
    }
    assert!(
        !semaphore.try_acquire().expect("a place") && matches!(semaphore.acquire(shortly()), Err(WaitError::TimedOut))
    );
    for _ in 0..3 {
        assert!(semaphore.release().expect("a place"));
    }
    assert!(!semaphore.release().expect("a place"), "above its bound");
    format!("value {value}")
}

fn semaphores() -> Vec<Operation> {
    let semaphore = |value| move || keep(Semaphore::create(value, 3).expect("a semaphore"), Semaphore::handle);
    let attach = |values: &Values| Semaphore::attach(handle(values[0])).expect("the semaphore");
    vec![
        Operation::new(
            "semaphore acquire",
            semaphore(2),
            move |values| {
                let semaphore = attach(values);
                move || {
                    semaphore.acquire(soon()).expect("a unit");
                    forget(semaphore);
                }
            },
            |values, done| counts(values, 1, if done { 1 } else { 2 }),
        ),
        Operation::new(
            "semaphore acquire, at zero, timed out",
            semaphore(0),
            move |values| {
                let semaphore = attach(values);
                move || {
                    assert!(semaphore.acquire(shortly()).is_err());
                    forget(semaphore);
                }
            },
            |values, _| counts(values, 0, 0),
        ),
        Operation::new(
            "semaphore release",
            semaphore(2),
            move |values| {
                let semaphore = attach(values);
                move || {
                    assert!(semaphore.release().expect("a place"));
                    forget(semaphore);
                }
            },
            |values, done| counts(values, if done { 3 } else { 2 }, 3),
        ),
    ]
}

/// Places of a condition before some are added.
const PLACES: usize = 56;

/// Whoever waits from now on is notified, also where places must be added: all who have been here leave the same memory.
fn notifies(condition: &Condition) {
    let mut waiters: Vec<_> = (0..=PLACES).map(|_| condition.enqueue().expect("a place")).collect();
    assert_eq!(condition.waiting(), PLACES + 1);
    condition.notify(2);
    assert_eq!(condition.waiting(), PLACES - 1);
    for waiter in &mut waiters[..2] {
        waiter.wait(soon()).expect("notified");
    }
    condition.notify_all();
    for waiter in &mut waiters[2..] {
        waiter.wait(soon()).expect("notified");
    }
    assert_eq!(condition.waiting(), 0);
}

fn conditions() -> Vec<Operation> {
    let condition = || keep(Condition::create().expect("a condition"), Condition::handle);
    let attach = |values: &Values| Condition::attach(handle(values[0])).expect("the condition");
    let survivor = move |values: &Values, _: bool| {
        let condition = attach(values);
        // The dead is passed over, or was not there.
        condition.notify_all();
        assert_eq!(condition.waiting(), 0);
        notifies(&condition);
        "notifies".to_owned()
    };
    let waits = move |seats: usize| {
        move |values: &Values| {
            let condition = attach(values);
            let others: Vec<_> = (0..seats).map(|_| condition.enqueue().expect("a place")).collect();
            move || {
                let mut waiter = condition.enqueue().expect("a place");
                assert!(waiter.wait(shortly()).is_err());
                forget((waiter, others, condition));
            }
        }
    };
    vec![
        Operation::new("condition wait, timed out", condition, waits(0), survivor),
        Operation::new(
            "condition wait, where places must be added",
            condition,
            waits(PLACES),
            survivor,
        ),
        Operation::new(
            "condition notify",
            move || {
                let condition = Condition::create().expect("a condition");
                (0..3).for_each(|_| forget(condition.enqueue().expect("a place")));
                keep(condition, Condition::handle)
            },
            move |values| {
                let condition = attach(values);
                move || {
                    condition.notify(2);
                    forget(condition);
                }
            },
            move |values, done| {
                let condition = attach(values);
                let waiting = condition.waiting();
                assert!((1..=3).contains(&waiting) && (!done || waiting == 1));
                condition.notify_all();
                assert_eq!(condition.waiting(), 0);
                notifies(&condition);
                format!("{} notified", 3 - waiting)
            },
        ),
    ]
}

fn events() -> Vec<Operation> {
    let event = |set| {
        move || {
            let event = Event::create().expect("an event");
            if set {
                event.set();
            }
            keep(event, Event::handle)
        }
    };
    let attach = |values: &Values| Event::attach(handle(values[0])).expect("the event");
    let survivor = move |values: &Values, _: bool| {
        let event = attach(values);
        let outcome = if event.is_set() { "set" } else { "not set" };
        event.set();
        event.wait(event.begin(), soon()).expect("set");
        event.clear();
        assert!(!event.is_set() && event.wait(event.begin(), shortly()).is_err());
        outcome.to_owned()
    };
    let operation = |name: &str, set: bool, act: fn(&Event), after: &'static str| {
        Operation::new(
            name,
            event(set),
            move |values| {
                let event = attach(values);
                move || {
                    act(&event);
                    forget(event);
                }
            },
            move |values, done| {
                let outcome = survivor(values, done);
                assert!(!done || outcome == after);
                outcome
            },
        )
    };
    vec![
        operation("event set", false, Event::set, "set"),
        operation("event clear", true, Event::clear, "not set"),
        operation(
            "event wait, timed out",
            false,
            |event| assert!(event.wait(event.begin(), shortly()).is_err()),
            "not set",
        ),
    ]
}

/// It can be reset, and then two can pass it.
fn passes(values: &Values, _: bool) -> String {
    let barrier = Barrier::attach(handle(values[0])).expect("the barrier");
    let outcome = format!(
        "{} waiting{}",
        barrier.waiting(),
        if barrier.is_broken() { ", broken" } else { "" }
    );
    barrier.reset().expect("a barrier");
    assert!(!barrier.is_broken() && barrier.waiting() == 0);
    for _ in 0..2 {
        let Ok(Arrival::Waits(mut first)) = barrier.arrive() else {
            panic!("the first of two")
        };
        let Ok(Arrival::Last(last)) = barrier.arrive() else {
            panic!("the second of two")
        };
        last.release();
        first.wait(soon()).expect("all are there");
    }
    outcome
}

fn barriers() -> Vec<Operation> {
    let empty = || keep(Barrier::create(2).expect("a barrier"), Barrier::handle);
    let one = || {
        let barrier = Barrier::create(2).expect("a barrier");
        let Ok(arrival) = barrier.arrive() else {
            panic!("a place")
        };
        forget(arrival);
        keep(barrier, Barrier::handle)
    };
    let operation = |name: &str, setup: fn() -> Vec<u64>, act: fn(&Barrier)| {
        Operation::new(
            name,
            setup,
            move |values| {
                let barrier = Barrier::attach(handle(values[0])).expect("the barrier");
                move || {
                    act(&barrier);
                    forget(barrier);
                }
            },
            passes,
        )
        .repaired_by(|values| {
            let barrier = Barrier::attach(handle(values[0])).expect("the barrier");
            let _ = barrier.reset();
            procession_core::roll::sweep();
        })
    };
    vec![
        operation("barrier arrive, timed out", empty, |barrier| match barrier.arrive() {
            Ok(Arrival::Waits(mut participant)) => {
                assert!(participant.wait(shortly()).is_err());
                forget(participant);
            }
            _ => panic!("the first of two"),
        }),
        operation("barrier arrive, the last", one, |barrier| match barrier.arrive() {
            Ok(Arrival::Last(last)) => last.release(),
            _ => panic!("the last of two"),
        }),
        operation("barrier reset", one, |barrier| barrier.reset().expect("a barrier")),
        operation("barrier abort", one, |barrier| barrier.abort().expect("a barrier")),
    ]
}

pub fn operations() -> Vec<Operation> {
    [locks(), semaphores(), conditions(), events(), barriers()]
        .into_iter()
        .flatten()
        .collect()
}
