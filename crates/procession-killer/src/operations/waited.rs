//! Operations for which a process sleeps. Those of a pool are in `pools`.

use super::{handle, Victim};
use crate::live::{After, Death, Waited};
use crate::stage::{board, Values};
use procession_core::arena::Ref;
use procession_core::channel::{Message, Outgoing, Queue};
use procession_core::sync::{Arrival, Barrier, BarrierError, Condition, Event, Lock, Semaphore};
use procession_core::{Deadline, WaitError};
use std::mem::forget;
use std::time::{Duration, Instant};

/// A deadline that no correct operation reaches. It is long because other processes are single-stepped meanwhile.
pub(super) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(300))
}

/// Longer than any slice, on a busy machine: a process that has not noticed by then never will.
const NOTICED: Duration = Duration::from_secs(8);

/// Record that the bystander has what it waited for.
fn through() {
    board().mark();
}

/// Wait until the bystander is through. It is owed what it waits for, so it needs no help.
fn is_through_alone() {
    let begin = Instant::now();
    while !board().is_marked() {
        assert!(begin.elapsed() < NOTICED, "the bystander sleeps on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn operation<F: FnOnce() + 'static>(
    name: &'static str,
    setup: fn() -> (Vec<u64>, After),
    sleeper: Option<fn(&Values)>,
    victim: fn(&Values) -> F,
) -> Waited {
    let victim: Victim = Box::new(move |values| Box::new(victim(values)));
    Waited {
        name,
        setup,
        sleeper,
        victim,
        repairer: |_| {
            procession_core::liveness::sweep();
        },
    }
}

fn repaired_by(mut operations: Vec<Waited>, repairer: fn(&Values)) -> Vec<Waited> {
    for operation in &mut operations {
        operation.repairer = repairer;
    }
    operations
}

fn pack(number: u8) -> Message {
    let out = Outgoing {
        body: &[number],
        ..Outgoing::default()
    };
    Message::pack(out).expect("memory")
}

fn send(queue: &Queue, number: u8) {
    queue.put(&mut Some(pack(number)), soon()).expect("room");
}

fn number(queue: &Queue, deadline: Deadline) -> Result<u8, WaitError> {
    queue.get(deadline).map(|incoming| incoming.body()[0])
}

/// All that is in the queue.
fn numbers(queue: &Queue) -> Vec<u8> {
    std::iter::from_fn(|| number(queue, Deadline::Now).ok()).collect()
}

fn attach_queue(values: &Values) -> Ref<Queue> {
    Ref::attach(handle(values[0])).expect("the queue")
}

/// An empty queue: the victim puts messages into it, of which the bystander gets one. `check` looks at the others.
fn empty_queue(check: fn(&[u8])) -> (Vec<u64>, After) {
    let queue = Queue::create(0).expect("a queue");
    let values = vec![queue.handle().to_bits()];
    let after = move |death: Death| {
        let there = death.returned || !queue.is_empty().expect("a queue") || board().is_marked();
        if !there {
            send(&queue, 9);
        }
        is_through_alone();
        check(&numbers(&queue));
        if there { "put" } else { "not put" }.to_owned()
    };
    (values, Box::new(after))
}

fn sleeping_get(values: &Values) {
    let got = number(&attach_queue(values), soon()).expect("a message");
    assert!(got == 7 || got == 9);
    through();
}

/// A full queue of 1 and 2: the victim takes messages from it, and the bystander puts 3. `check` looks at what the
/// victim left, and is told whether it had taken anything, and whether its call had returned.
fn full_queue(check: fn(&[u8], bool, bool)) -> (Vec<u64>, After) {
    let queue = Queue::create(2).expect("a queue");
    send(&queue, 1);
    send(&queue, 2);
    let values = vec![queue.handle().to_bits()];
    let after = move |death: Death| {
        let taken = death.returned || !queue.is_full().expect("a queue") || board().is_marked();
        let mut got = Vec::new();
        if !taken {
            got.push(number(&queue, soon()).expect("a message"));
        }
        is_through_alone();
        got.append(&mut numbers(&queue));
        got.sort_unstable();
        check(&got, taken, death.returned);
        if taken { "taken" } else { "not taken" }.to_owned()
    };
    (values, Box::new(after))
}

fn sleeping_put(values: &Values) {
    send(&attach_queue(values), 3);
    through();
}

fn queues() -> Vec<Waited> {
    vec![
        operation(
            "queue put, a get sleeps",
            || empty_queue(|rest| assert_eq!(rest, [], "more than one message")),
            Some(sleeping_get),
            |values| {
                let queue = attach_queue(values);
                move || {
                    send(&queue, 7);
                    forget(queue);
                }
            },
        ),
        operation(
            "queue put_many, a get sleeps",
            || empty_queue(|rest| assert!(matches!(rest, [] | [8]), "{rest:?}")),
            Some(sleeping_get),
            |values| {
                let queue = attach_queue(values);
                move || {
                    let mut messages = [7, 8].into_iter().map(pack).collect();
                    queue.put_many(&mut messages, soon()).expect("room");
                    forget(queue);
                }
            },
        ),
        operation(
            "queue get, a put sleeps",
            || full_queue(|got, taken, _| assert_eq!(got, if taken { &[2, 3][..] } else { &[1, 2, 3] })),
            Some(sleeping_put),
            |values| {
                let queue = attach_queue(values);
                move || {
                    assert_eq!(number(&queue, Deadline::Now).expect("a message"), 1);
                    forget(queue);
                }
            },
        ),
        operation(
            "queue get_many, a put sleeps",
            || {
                full_queue(|got, taken, returned| {
                    assert!(got.contains(&3) && (taken || got == [1, 2, 3]), "{got:?}");
                    assert!(!returned || got == [3], "{got:?}");
                })
            },
            Some(sleeping_put),
            |values| {
                let queue = attach_queue(values);
                move || {
                    let mut got = Vec::new();
                    queue.get_many(9, Deadline::Now, &mut got).expect("messages");
                    assert_eq!(got.len(), 2);
                    forget((queue, got));
                }
            },
        ),
        operation(
            "queue task_done, a join sleeps",
            || {
                let queue = Queue::create(0).expect("a queue");
                send(&queue, 1);
                number(&queue, soon()).expect("a message");
                let values = vec![queue.handle().to_bits()];
                let after = move |_| {
                    let said = !queue.task_done();
                    is_through_alone();
                    assert!(!queue.task_done(), "said twice");
                    if said { "said" } else { "not said" }.to_owned()
                };
                (values, Box::new(after))
            },
            Some(|values| {
                attach_queue(values).join(soon()).expect("all dealt with");
                through();
            }),
            |values| {
                let queue = attach_queue(values);
                move || {
                    assert!(queue.task_done());
                    forget(queue);
                }
            },
        ),
    ]
}

fn locks() -> Vec<Waited> {
    vec![
        operation(
            "lock release, an acquire sleeps",
            || {
                let lock = Lock::create().expect("a lock");
                let values = vec![lock.handle().to_bits()];
                let after = move |_| {
                    is_through_alone();
                    assert!(lock.try_acquire().expect("a lock"), "held by no process");
                    "acquired".to_owned()
                };
                (values, Box::new(after))
            },
            Some(|values| {
                let lock = Lock::attach(handle(values[0])).expect("the lock");
                match lock.acquire(soon()) {
                    Ok(()) => {}
                    Err(WaitError::OwnerDied(_)) => lock.acquire(soon()).expect("the lock"),
                    Err(end) => panic!("acquire: {end}"),
                }
                assert!(lock.release());
                through();
            }),
            |values| {
                let lock = Lock::attach(handle(values[0])).expect("the lock");
                assert!(lock.try_acquire().expect("a lock"));
                move || {
                    assert!(lock.release());
                    forget(lock);
                }
            },
        ),
        operation(
            "lock wait until free, an acquire sleeps",
            || {
                let lock = Lock::create().expect("a lock");
                assert!(lock.try_acquire().expect("a lock"));
                let values = vec![lock.handle().to_bits()];
                let after = move |_| {
                    assert!(lock.release(), "it took nothing");
                    is_through_alone();
                    assert!(lock.try_acquire().expect("a lock"), "held by no process");
                    "acquired".to_owned()
                };
                (values, Box::new(after))
            },
            Some(|values| {
                let lock = Lock::attach(handle(values[0])).expect("the lock");
                lock.acquire(soon()).expect("the lock");
                assert!(lock.release());
                through();
            }),
            |values| {
                let lock = Lock::attach(handle(values[0])).expect("the lock");
                move || {
                    let waited = lock.wait_until_free_or(Deadline::Now, || false);
                    assert!(matches!(waited, Err(WaitError::TimedOut)));
                    forget(lock);
                }
            },
        ),
        operation(
            "semaphore release, an acquire sleeps",
            || {
                let semaphore = Semaphore::create(0, 5).expect("a semaphore");
                let values = vec![semaphore.handle().to_bits()];
                let after = move |death: Death| {
                    let given = death.returned || semaphore.value() > 0 || board().is_marked();
                    if !given {
                        assert!(semaphore.release().expect("a semaphore"));
                    }
                    is_through_alone();
                    assert_eq!(semaphore.value(), 0, "one was given, and taken");
                    if given { "given" } else { "not given" }.to_owned()
                };
                (values, Box::new(after))
            },
            Some(|values| {
                let semaphore = Semaphore::attach(handle(values[0])).expect("the semaphore");
                semaphore.acquire(soon()).expect("a permit");
                through();
            }),
            |values| {
                let semaphore = Semaphore::attach(handle(values[0])).expect("the semaphore");
                move || {
                    assert!(semaphore.release().expect("a semaphore"));
                    forget(semaphore);
                }
            },
        ),
    ]
}

fn arrive(barrier: &Barrier) -> Arrival {
    let Ok(arrival) = barrier.arrive(soon()) else {
        panic!("the barrier refuses a party")
    };
    arrival
}

fn notices() -> Vec<Waited> {
    vec![
        operation(
            "condition notify, a wait sleeps",
            || {
                let condition = Condition::create().expect("a condition");
                let values = vec![condition.handle().to_bits()];
                let after = move |death: Death| {
                    let notified = death.returned || condition.waiting().unwrap() == 0;
                    if !notified {
                        condition.notify(1).unwrap();
                    }
                    is_through_alone();
                    if notified { "notified" } else { "not notified" }.to_owned()
                };
                (values, Box::new(after))
            },
            Some(|values| {
                let condition = Condition::attach(handle(values[0])).expect("the condition");
                condition
                    .enqueue()
                    .expect("a waiter slot")
                    .wait(soon())
                    .expect("notified");
                through();
            }),
            |values| {
                let condition = Condition::attach(handle(values[0])).expect("the condition");
                move || {
                    condition.notify(1).unwrap();
                    forget(condition);
                }
            },
        ),
        operation(
            "event set, a wait sleeps",
            || {
                let event = Event::create().expect("an event");
                let values = vec![event.handle().to_bits()];
                let after = move |death: Death| {
                    let set = death.returned || event.is_set();
                    if !set {
                        event.set();
                    }
                    is_through_alone();
                    if set { "set" } else { "not set" }.to_owned()
                };
                (values, Box::new(after))
            },
            Some(|values| {
                let event = Event::attach(handle(values[0])).expect("the event");
                event.wait(event.begin(), soon()).expect("set");
                through();
            }),
            |values| {
                let event = Event::attach(handle(values[0])).expect("the event");
                move || {
                    event.set();
                    forget(event);
                }
            },
        ),
    ]
}

fn arrivals() -> Vec<Waited> {
    vec![operation(
        "barrier arrive, the other sleeps",
        || {
            let barrier = Barrier::create(2).expect("a barrier");
            let values = vec![barrier.handle().to_bits()];
            let after = move |death: Death| {
                // A victim that died before it had arrived does not break the barrier: a third process may come.
                std::thread::sleep(Duration::from_millis(60));
                let arrived =
                    death.returned || board().is_marked() || barrier.is_broken() || barrier.waiting().unwrap() == 0;
                if !arrived {
                    match arrive(&barrier) {
                        Arrival::Last(last) => last.release(),
                        Arrival::Waits(_) => panic!("the bystander waits"),
                    }
                }
                is_through_alone();
                let broken = barrier.is_broken();
                assert!(!broken || !death.returned);
                if broken { "broken" } else { "passed" }.to_owned()
            };
            (values, Box::new(after))
        },
        Some(|values| {
            let barrier = Barrier::attach(handle(values[0])).expect("the barrier");
            match arrive(&barrier) {
                Arrival::Waits(mut participant) => match participant.wait(soon()) {
                    Ok(()) | Err(BarrierError::Broken | BarrierError::Kept(_)) => through(),
                    Err(end) => panic!("wait: {end}"),
                },
                Arrival::Last(_) => panic!("the first of two"),
            }
        }),
        |values| {
            let barrier = Barrier::attach(handle(values[0])).expect("the barrier");
            move || match arrive(&barrier) {
                Arrival::Last(last) => last.release(),
                Arrival::Waits(_) => panic!("the bystander waits"),
            }
        },
    )]
}

pub fn operations() -> Vec<Waited> {
    let queues = repaired_by(queues(), super::queue::repair);
    [queues, locks(), notices(), arrivals(), super::pools::operations()]
        .into_iter()
        .flatten()
        .collect()
}
