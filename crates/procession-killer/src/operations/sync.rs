//! Semaphores, conditions, events, barriers.

use super::{handle, in_a_child_that_dies, keep, shortly, soon, Operation};
use crate::battery::Clock;
use crate::stage::Values;
use procession_core::sync::{Arrival, Barrier, BarrierError, Condition, Event, Semaphore};
use procession_core::WaitError;
use std::mem::forget;

/// Check a semaphore made with 2 of 3, of which the dead process may have taken or given one.
fn counts(values: &Values, least: u32, most: u32) -> String {
    let semaphore = Semaphore::attach(handle(values[0])).expect("the semaphore");
    let value = semaphore.value();
    assert!((least..=most).contains(&value), "{value}, not from {least} to {most}");
    for _ in 0..value {
        semaphore.acquire(soon()).expect("a permit");
    }
    assert!(
        !semaphore.try_acquire().expect("a semaphore")
            && matches!(semaphore.acquire(shortly()), Err(WaitError::TimedOut))
    );
    for _ in 0..3 {
        assert!(semaphore.release().expect("a semaphore"));
    }
    assert!(!semaphore.release().expect("a semaphore"), "above its bound");
    format!("value {value}")
}

/// Other processes take a permit and give it back, or find none.
fn take_and_give(values: &Values, clock: &mut Clock) {
    let semaphore = Semaphore::attach(handle(values[0])).expect("the semaphore");
    for _ in 0..2 {
        clock.time("acquire and release the same semaphore", || {
            match semaphore.acquire(shortly()) {
                Ok(()) => assert!(semaphore.release().expect("a semaphore")),
                Err(end) => assert!(matches!(end, WaitError::TimedOut), "{end}"),
            }
        });
        clock.time("try the same semaphore", || {
            if semaphore.try_acquire().expect("a semaphore") {
                assert!(semaphore.release().expect("a semaphore"));
            }
        });
    }
}

fn semaphores() -> Vec<Operation> {
    let semaphore = |value| move || keep(Semaphore::create(value, 3).expect("a semaphore"), Semaphore::handle);
    let attach = |values: &Values| Semaphore::attach(handle(values[0])).expect("the semaphore");
    let all = vec![
        Operation::new(
            "semaphore acquire",
            semaphore(2),
            move |values| {
                let semaphore = attach(values);
                move || {
                    semaphore.acquire(soon()).expect("a permit");
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
                    assert!(semaphore.release().expect("a semaphore"));
                    forget(semaphore);
                }
            },
            |values, done| counts(values, if done { 3 } else { 2 }, 3),
        ),
    ];
    all.into_iter()
        .map(|operation| operation.beside(take_and_give))
        .collect()
}

/// Check a recovering semaphore made with 2 of 3: the survivor gets from `least` to `most` permits, including those that
/// the dead process held, and no more.
fn gives_back(values: &Values, least: u32, most: u32) -> String {
    let semaphore = Semaphore::attach(handle(values[0])).expect("the semaphore");
    for _ in 0..least {
        semaphore.acquire(soon()).expect("a permit");
    }
    let mut had = least;
    while semaphore.acquire(shortly()).is_ok() {
        had += 1;
    }
    assert!((least..=most).contains(&had), "{had}, not from {least} to {most}");
    for _ in 0..had {
        assert!(semaphore.release().expect("a semaphore"));
    }
    assert_eq!(semaphore.value(), had);
    format!("{had} permits")
}

fn recovering_semaphores() -> Vec<Operation> {
    let semaphore = || Semaphore::recovering(2, 3).expect("a semaphore");
    let operation = |name: &str, setup: fn(&Semaphore), before: fn(&Semaphore), act: fn(&Semaphore), adds: u32| {
        Operation::new(
            name,
            move || {
                let semaphore = semaphore();
                setup(&semaphore);
                keep(semaphore, Semaphore::handle)
            },
            move |values| {
                let semaphore = Semaphore::attach(handle(values[0])).expect("the semaphore");
                before(&semaphore);
                move || {
                    act(&semaphore);
                    forget(semaphore);
                }
            },
            move |values, done| gives_back(values, if done { 2 + adds } else { 2 }, 2 + adds),
        )
        .beside(take_and_give)
    };
    let nothing: fn(&Semaphore) = |_| ();
    let acquire: fn(&Semaphore) = |semaphore| semaphore.acquire(soon()).expect("a permit");
    let release: fn(&Semaphore) = |semaphore| assert!(semaphore.release().expect("a semaphore"));
    let dead_have_all: fn(&Semaphore) = |semaphore| {
        in_a_child_that_dies(|| (0..2).for_each(|_| semaphore.acquire(soon()).expect("a permit")));
    };
    vec![
        operation("recovering semaphore acquire", nothing, nothing, acquire, 0),
        operation("recovering semaphore release", nothing, acquire, release, 0),
        operation("recovering semaphore release, one more", nothing, nothing, release, 1),
        operation(
            "recovering semaphore acquire, its holder having died",
            dead_have_all,
            nothing,
            acquire,
            0,
        ),
    ]
}

/// Slots of a condition before some are added.
const SLOTS: usize = 56;

/// Check that later waiters are notified, also where slots must be added. After this check every survivor leaves the
/// same memory.
fn notifies(condition: &Condition) {
    let mut waiters: Vec<_> = (0..=SLOTS)
        .map(|_| condition.enqueue().expect("a waiter slot"))
        .collect();
    assert_eq!(condition.waiting().unwrap(), SLOTS + 1);
    condition.notify(2).unwrap();
    assert_eq!(condition.waiting().unwrap(), SLOTS - 1);
    for waiter in &mut waiters[..2] {
        waiter.wait(soon()).expect("notified");
    }
    condition.notify_all().unwrap();
    for waiter in &mut waiters[2..] {
        waiter.wait(soon()).expect("notified");
    }
    assert_eq!(condition.waiting().unwrap(), 0);
}

fn conditions() -> Vec<Operation> {
    let condition = || keep(Condition::create().expect("a condition"), Condition::handle);
    let attach = |values: &Values| Condition::attach(handle(values[0])).expect("the condition");
    let survivor = move |values: &Values, _: bool| {
        let condition = attach(values);
        // A dead waiter is passed over, or was not there.
        condition.notify_all().unwrap();
        assert_eq!(condition.waiting().unwrap(), 0);
        notifies(&condition);
        "notifies".to_owned()
    };
    let beside = move |values: &Values, clock: &mut Clock| {
        let condition = attach(values);
        clock.time("wait in the same condition", || {
            assert!(condition.enqueue().expect("a waiter slot").wait(shortly()).is_err());
        });
        clock.time("look at the same condition", || condition.waiting().unwrap());
    };
    let waits = move |slots: usize| {
        move |values: &Values| {
            let condition = attach(values);
            let others: Vec<_> = (0..slots)
                .map(|_| condition.enqueue().expect("a waiter slot"))
                .collect();
            move || {
                let mut waiter = condition.enqueue().expect("a waiter slot");
                assert!(waiter.wait(shortly()).is_err());
                forget((waiter, others, condition));
            }
        }
    };
    let all = vec![
        Operation::new("condition wait, timed out", condition, waits(0), survivor),
        Operation::new(
            "condition wait, where slots must be added",
            condition,
            waits(SLOTS),
            survivor,
        ),
        Operation::new(
            "condition notify",
            move || {
                let condition = Condition::create().expect("a condition");
                (0..3).for_each(|_| forget(condition.enqueue().expect("a waiter slot")));
                keep(condition, Condition::handle)
            },
            move |values| {
                let condition = attach(values);
                move || {
                    condition.notify(2).unwrap();
                    forget(condition);
                }
            },
            move |values, done| {
                let condition = attach(values);
                let waiting = condition.waiting().unwrap();
                assert!((1..=3).contains(&waiting) && (!done || waiting == 1));
                condition.notify_all().unwrap();
                assert_eq!(condition.waiting().unwrap(), 0);
                notifies(&condition);
                format!("{} notified", 3 - waiting)
            },
        ),
    ];
    all.into_iter().map(|operation| operation.beside(beside)).collect()
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
        let found = if event.is_set() { "set" } else { "not set" };
        event.set();
        event.wait(event.begin(), soon()).expect("set");
        event.clear();
        assert!(!event.is_set() && event.wait(event.begin(), shortly()).is_err());
        found.to_owned()
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
                let found = survivor(values, done);
                assert!(!done || found == after);
                found
            },
        )
        .beside(move |values, clock| {
            let event = attach(values);
            clock.time("the same operation on the same event", || act(&event));
            clock.time("wait for the same event", || {
                let _ = event.wait(event.begin(), shortly());
            });
        })
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

/// Check that the barrier can be reset, and that its parties then pass it.
fn passes(values: &Values, _: bool) -> String {
    let barrier = Barrier::attach(handle(values[0])).expect("the barrier");
    let found = format!(
        "{} waiting{}",
        barrier.waiting().unwrap(),
        if barrier.is_broken() { ", broken" } else { "" }
    );
    barrier.reset().expect("a barrier");
    assert!(!barrier.is_broken() && barrier.waiting().unwrap() == 0);
    for _ in 0..2 {
        let mut others: Vec<_> = (1..barrier.parties())
            .map(|_| match barrier.arrive(soon()) {
                Ok(Arrival::Waits(participant)) => participant,
                _ => panic!("not the last"),
            })
            .collect();
        let Ok(Arrival::Last(last)) = barrier.arrive(soon()) else {
            panic!("the last")
        };
        last.release();
        for other in &mut others {
            other.wait(soon()).expect("all are there");
        }
    }
    found
}

/// Arrive, and wait a little for the others if they are missing.
fn arrive(barrier: &Barrier) {
    match barrier.arrive(soon()) {
        Ok(Arrival::Waits(mut participant)) => {
            let _ = participant.wait(shortly());
            forget(participant);
        }
        Ok(Arrival::Last(last)) => last.release(),
        Err(BarrierError::Broken | BarrierError::Kept(_)) => {}
        Err(end) => panic!("arrive: {end}"),
    }
}

/// A barrier for three at which two wait, one of them in a slot before that of an earlier one.
fn after_rounds() -> Vec<u64> {
    let barrier = Barrier::create(3).expect("a barrier");
    let waits = || match barrier.arrive(soon()) {
        Ok(Arrival::Waits(participant)) => participant,
        _ => panic!("not the last"),
    };
    for round in 0..3 {
        let (first, mut second) = (waits(), waits());
        if round == 1 {
            barrier.reset().expect("a barrier");
            assert!(second.wait(soon()).is_err());
            continue;
        }
        // It leaves, as by an exception, and another participant takes its slot.
        drop(first);
        let mut third = waits();
        let Ok(Arrival::Last(last)) = barrier.arrive(soon()) else {
            panic!("the last of three")
        };
        last.release();
        second.wait(soon()).expect("all are there");
        third.wait(soon()).expect("all are there");
    }
    let (first, second) = (waits(), waits());
    drop(first);
    forget((waits(), second));
    keep(barrier, Barrier::handle)
}

fn barriers() -> Vec<Operation> {
    let empty = || keep(Barrier::create(2).expect("a barrier"), Barrier::handle);
    let one = || {
        let barrier = Barrier::create(2).expect("a barrier");
        let Ok(arrival) = barrier.arrive(soon()) else {
            panic!("the barrier refuses a party")
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
            procession_core::liveness::sweep();
        })
        .beside(|values, clock| {
            let barrier = Barrier::attach(handle(values[0])).expect("the barrier");
            clock.time("look at the same barrier", || {
                (barrier.waiting().unwrap(), barrier.is_broken())
            });
            // Another party arrives: it finds others missing, comes too late, or is the last.
            clock.time("arrive at the same barrier", || match barrier.arrive(shortly()) {
                Ok(Arrival::Waits(mut participant)) => drop(participant.wait(shortly())),
                Ok(Arrival::Last(last)) => last.release(),
                Err(BarrierError::Broken | BarrierError::Kept(_)) => {}
                Err(end) => panic!("arrive: {end}"),
            });
        })
    };
    vec![
        operation("barrier arrive, timed out", empty, arrive),
        operation("barrier arrive, the last", one, arrive),
        // After rounds in which parties arrived in another order each time, gave up, and were turned away.
        operation("barrier arrive, the last, after other rounds", after_rounds, arrive),
        operation("barrier leave", empty, |barrier| drop(barrier.arrive(soon()))),
        operation("barrier reset", one, |barrier| barrier.reset().expect("a barrier")),
        operation("barrier abort", one, |barrier| barrier.abort().expect("a barrier")),
    ]
}

pub fn operations() -> Vec<Operation> {
    [
        semaphores(),
        recovering_semaphores(),
        conditions(),
        events(),
        barriers(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
