//! The queue and the semaphore, compiled from the engine's own files, under long random schedules in which processes
//! die.
//!
//! `shuttle` runs each model some thousand times, each with another schedule; a failure prints the schedule, to be
//! replayed. A doomed process dies before one of its atomic operations, which the schedule chooses. Small models stand
//! for what surrounds the queue (arena, process table, messages, futex).

#![allow(dead_code, missing_docs, unused_imports)] // a model uses only part of each file
#![allow(clippy::unnecessary_wraps, clippy::unused_self)] // a model keeps the signatures of what it replaces

#[macro_use]
#[path = "model/derived.rs"]
mod derived;
#[path = "model/arena.rs"]
mod arena;
#[path = "model/cells.rs"]
pub mod cells;
#[path = "model/channel.rs"]
mod channel;
#[path = "model/shuttle_futex.rs"]
mod futex;
#[path = "model/liveness.rs"]
mod liveness;
#[path = "model/sync.rs"]
mod sync;
#[path = "model/trace.rs"]
mod trace;

pub use liveness::{family, Family};
mod ids {
    pub use procession_core::ids::{Handle, Kind, Owner};
}
pub use procession_core::{Deadline, Death, Error, Result, WaitError};

use channel::{Block, Message, Queue};
use futex::process;
use shuttle::rand::Rng;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use sync::{Lock, Semaphore};

/// How many schedules each model is run with, unless `PROCESSION_SCHEDULES` says otherwise.
const SCHEDULES: usize = 400;

/// Run a model under random schedules, and under half as many that preempt rarely (PCT, depth 3).
fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    let schedules = std::env::var("PROCESSION_SCHEDULES").map_or(SCHEDULES, |number| number.parse().expect("a number"));
    shuttle::check_random(model.clone(), schedules);
    shuttle::check_pct(model, schedules / 2, 3);
}

/// What happened to the messages.
#[derive(Default)]
struct Record {
    /// The messages for which `put` returned.
    put: Vec<u64>,
    got: HashMap<u64, u32>,
}

type SharedRecord = Arc<Mutex<Record>>;

const STOP: u64 = 99;

/// Put messages, `step` at a time.
fn produce(queue: &Queue, record: &SharedRecord, numbers: std::ops::Range<u64>, step: usize) {
    let numbers: Vec<_> = numbers.collect();
    for run in numbers.chunks(step) {
        if step == 1 {
            queue.put(&mut Some(Message::new(run[0])), Deadline::Never).unwrap();
        } else {
            let mut messages = run.iter().map(|&number| Message::new(number)).collect();
            queue.put_many(&mut messages, Deadline::Never).unwrap();
        }
        record.lock().unwrap().put.extend(run);
    }
}

/// Get messages, up to `step` at a time, until one says to stop.
fn consume(queue: &Queue, record: &SharedRecord, step: usize) {
    let mut run = Vec::new();
    loop {
        if step == 1 {
            run.push(queue.get(Deadline::Never).unwrap());
        } else {
            queue.get_many(step, Deadline::Never, &mut run).unwrap();
        }
        let mut stops = false;
        for number in run.drain(..).map(|incoming| incoming.number()) {
            stops |= number >= STOP;
            if number < STOP {
                *record.lock().unwrap().got.entry(number).or_default() += 1;
            }
        }
        if stops {
            return;
        }
    }
}

/// Run two producers and two consumers, some of which die, and check the invariants afterwards.
fn traffic(maxsize: u64, doomed_producers: usize, doomed_consumers: usize) {
    traffic_of_runs(maxsize, doomed_producers, doomed_consumers, 1);
}

/// As `traffic`, with so many messages at a time.
fn traffic_of_runs(maxsize: u64, doomed_producers: usize, doomed_consumers: usize, step: usize) {
    const EACH: u64 = 3;
    let queue = Queue::create(maxsize).unwrap();
    let record = SharedRecord::default();
    let run = |doomed: bool, body: Box<dyn FnOnce() + Send>| {
        let fuse = doomed.then(|| shuttle::rand::thread_rng().gen_range(1..90));
        process(fuse, body)
    };
    let producers: Vec<_> = (0..2)
        .map(|at| {
            let (queue, record) = (queue.clone(), record.clone());
            let first = 1 + at as u64 * EACH;
            run(
                at < doomed_producers,
                Box::new(move || produce(&queue, &record, first..first + EACH, step)),
            )
        })
        .collect();
    let consumers: Vec<_> = (0..2)
        .map(|at| {
            let (queue, record) = (queue.clone(), record.clone());
            run(at < doomed_consumers, Box::new(move || consume(&queue, &record, step)))
        })
        .collect();
    for producer in producers {
        producer.join();
    }
    // One for each consumer, if one of them takes as many as it can, dead or alive; some may stay in the queue.
    let stops = STOP..=STOP + step as u64;
    for stop in stops.clone() {
        queue.put(&mut Some(Message::new(stop)), Deadline::Never).unwrap();
    }
    for consumer in consumers {
        consumer.join();
    }
    let mut record = std::mem::take(&mut *record.lock().unwrap());
    while let Ok(rest) = queue.get(Deadline::Now) {
        if rest.number() < STOP {
            *record.got.entry(rest.number()).or_default() += 1;
        }
    }
    for (number, times) in &record.got {
        assert_eq!(*times, 1, "message {number} was got {times} times");
    }
    for number in &record.put {
        let lost = !record.got.contains_key(number);
        assert!(
            !lost || Block::of(*number).is_with_the_dead(),
            "message {number} was put, and no consumer got it"
        );
    }
    assert!(queue.is_empty().unwrap());
    assert_eq!(queue.len().unwrap(), 0);
    if maxsize != 0 {
        assert!(!queue.is_full().unwrap());
    }
    for number in (1..=2 * EACH).chain(stops) {
        assert!(
            !Block::of(number).is_in_transit(),
            "message {number} was left in the queue"
        );
    }
    arena::Object::destroy(&*queue);
    let dead = (doomed_producers + doomed_consumers) as u32;
    let leaked = cells::in_use();
    assert!(leaked <= dead, "{leaked} segments are lost, by at most {dead} deaths");
}

#[test]
fn an_unbounded_queue_delivers_each_message_once() {
    check(|| traffic(0, 0, 0));
}

#[test]
fn a_bounded_queue_delivers_each_message_once() {
    check(|| traffic(1, 0, 0));
}

#[test]
fn a_dead_producer_leaves_no_torn_message() {
    check(|| traffic(0, 1, 0));
}

#[test]
fn a_dead_consumer_loses_no_more_than_what_it_held() {
    check(|| traffic(0, 0, 1));
}

#[test]
fn deaths_on_both_sides_of_a_bounded_queue_let_the_others_go_on() {
    check(|| traffic(2, 1, 1));
}

#[test]
fn runs_of_messages_are_delivered_once() {
    check(|| traffic_of_runs(0, 0, 0, 3));
    check(|| traffic_of_runs(3, 0, 0, 2));
}

#[test]
fn deaths_amid_runs_of_messages_let_the_others_go_on() {
    check(|| traffic_of_runs(0, 1, 1, 3));
    check(|| traffic_of_runs(3, 1, 1, 2));
}

#[test]
fn a_semaphore_among_four_loses_no_wake() {
    check(|| {
        let semaphore = Semaphore::create(1, u32::MAX).unwrap();
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let semaphore = semaphore.clone();
                process(None, move || {
                    for _ in 0..2 {
                        semaphore.acquire(Deadline::Never).unwrap();
                        assert!(semaphore.release().unwrap());
                    }
                })
            })
            .collect();
        for taker in takers {
            taker.join();
        }
        assert_eq!(semaphore.value(), 1);
    });
}

#[test]
fn a_semaphore_that_recovers_loses_and_doubles_no_permit() {
    const PERMITS: u32 = 2;
    check(|| {
        let semaphore = Semaphore::recovering(PERMITS, PERMITS).unwrap();
        let inside = Arc::new(Mutex::new(Vec::new()));
        let users: Vec<_> = (0..4)
            .map(|at| {
                let (semaphore, inside) = (semaphore.clone(), inside.clone());
                let fuse = (at < 2).then(|| shuttle::rand::thread_rng().gen_range(1..60));
                process(fuse, move || {
                    for _ in 0..2 {
                        semaphore.acquire(Deadline::Never).unwrap();
                        let me = liveness::me().unwrap();
                        inside.lock().unwrap().push(me);
                        let living =
                            |among: &[ids::Owner]| among.iter().filter(|&&owner| liveness::is_alive(owner)).count();
                        assert!(living(&inside.lock().unwrap()) <= PERMITS as usize, "too many at once");
                        futex::point();
                        inside.lock().unwrap().retain(|&owner| owner != me);
                        assert!(semaphore.release().unwrap());
                    }
                })
            })
            .collect();
        for user in users {
            user.join();
        }
        for _ in 0..PERMITS {
            semaphore.acquire(Deadline::Never).unwrap();
        }
        assert!(!semaphore.try_acquire().unwrap(), "one too many");
    });
}

#[test]
fn a_lock_outlives_its_holders() {
    check(|| {
        let lock = Lock::create().unwrap();
        let inside = Arc::new(Mutex::new(None));
        let users: Vec<_> = (0..4)
            .map(|at| {
                let (lock, inside) = (lock.clone(), inside.clone());
                let fuse = (at < 2).then(|| shuttle::rand::thread_rng().gen_range(1..30));
                process(fuse, move || {
                    for _ in 0..2 {
                        while let Err(error) = lock.acquire(Deadline::Never) {
                            assert!(matches!(error, WaitError::OwnerDied(_)), "{error}");
                        }
                        let me = liveness::me().unwrap();
                        let before = inside.lock().unwrap().replace(me);
                        assert!(before.is_none_or(|other| !liveness::is_alive(other)), "two at once");
                        futex::point();
                        *inside.lock().unwrap() = None;
                        assert!(lock.release());
                    }
                })
            })
            .collect();
        for user in users {
            user.join();
        }
    });
}
