//! The queue with producers and consumers at once, in threads and in processes.

mod common;

use common::queues::{body, get, get_many, put, put_many};
use common::{child, wait};
use procession_core::arena::Ref;
use procession_core::channel::Queue;
use procession_core::Deadline;
use std::collections::{HashMap, HashSet};

#[test]
fn a_waiting_put_goes_on_when_there_is_room() {
    let queue = Queue::create(1).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..5000).for_each(|at| put(&queue, at)));
        (0..5000).for_each(|at| assert_eq!(get(&queue), at));
    });
}

#[test]
fn many_more_than_fit_go_through_a_small_queue() {
    let queue = Queue::create(7).unwrap();
    let got: Vec<u64> = std::thread::scope(|scope| {
        scope.spawn(|| put_many(&queue, 0..5000));
        let mut got = Vec::new();
        while got.len() < 5000 {
            got.extend(get_many(&queue, 4));
        }
        got
    });
    assert!(got.into_iter().eq(0..5000));
}

/// Every value comes once, and one consumer sees the values of one producer in order.
fn check(got: &[Vec<u64>], producers: u64, each: u64) {
    let mut all = HashSet::new();
    for sequence in got {
        let mut last = HashMap::new();
        for &value in sequence {
            assert!(all.insert(value), "{value} came twice");
            let (producer, at) = (value >> 32, value & 0xffff_ffff);
            let before = last.insert(producer, at);
            assert!(
                before.is_none_or(|before| before < at),
                "producer {producer}: {before:?} before {at}"
            );
        }
    }
    assert_eq!(all.len() as u64, producers * each);
}

#[test]
fn threads_many_to_many() {
    const EACH: u64 = 20_000;
    for maxsize in [0, 1, 10] {
        let queue = Queue::create(maxsize).unwrap();
        let got: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let queue = &queue;
            for producer in 0..3 {
                scope.spawn(move || (0..EACH).for_each(|at| put(queue, producer << 32 | at)));
            }
            let consumers: Vec<_> = (0..3)
                .map(|_| scope.spawn(move || (0..EACH).map(|_| get(queue)).collect()))
                .collect();
            consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect()
        });
        check(&got, 3, EACH);
    }
}

#[test]
fn runs_of_messages_many_to_many() {
    const EACH: u64 = 21_000;
    for maxsize in [0, 1, 10, 100] {
        let queue = Queue::create(maxsize).unwrap();
        let got: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let queue = &queue;
            for producer in 0..3 {
                scope.spawn(move || {
                    for first in (0..EACH).step_by(50) {
                        put_many(queue, (first..first + 50).map(|at| producer << 32 | at));
                    }
                });
            }
            let consumers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(move || {
                        let mut got = Vec::new();
                        while got.len() < EACH as usize {
                            got.extend(get_many(queue, 40.min(EACH as usize - got.len())));
                        }
                        got
                    })
                })
                .collect();
            consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect()
        });
        check(&got, 3, EACH);
    }
}

#[test]
fn processes_many_to_many() {
    const EACH: u64 = 10_000;
    let queue = Queue::create(0).unwrap();
    let results: Vec<Ref<Queue>> = (0..3).map(|_| Queue::create(0).unwrap()).collect();
    let mut children = Vec::new();
    for producer in 0..3 {
        let queue = &queue;
        children.push(child(move || {
            (0..EACH).for_each(|at| put(queue, producer << 32 | at));
        }));
    }
    for result in &results {
        children.push(child(|| (0..EACH).for_each(|_| put(result, get(&queue)))));
    }
    for pid in children {
        assert_eq!(wait(pid), 0);
    }
    let got: Vec<Vec<u64>> = results
        .iter()
        .map(|result| (0..EACH).map(|_| get(result)).collect())
        .collect();
    check(&got, 3, EACH);
    assert!(queue.is_empty().unwrap());
}

#[test]
fn what_a_child_put_outlives_it() {
    let queue = Queue::create(0).unwrap();
    let big = vec![5; 20_000_000];
    let pid = child(|| queue.send(body(&big), Deadline::Now).unwrap());
    assert_eq!(wait(pid), 0);
    assert!(!queue.is_empty().unwrap());
    assert_eq!(queue.get(Deadline::Now).unwrap().body(), big);
}
