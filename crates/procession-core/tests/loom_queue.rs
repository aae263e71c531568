//! The queue's slots and segments, compiled from the engine's own files, under every order of their atomic operations
//! that the memory model allows.
//!
//! Segments have two slots and are reused at once. As in `loom.rs`, small models stand for what surrounds the queue
//! (arena, process table, messages, futex). No process waits here: `loom.rs` covers waiting, and `shuttle.rs` covers
//! longer schedules and deaths.

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

pub use liveness::{family, Family};
mod ids {
    pub use procession_core::ids::{Handle, Kind, Owner};
}
pub use procession_core::{Deadline, Death, Error, Result, WaitError};

use channel::{is_a_poller_behind, Block, Message, Poller, Queue};
use futex::AtomicU64;
use loom::thread;
use sync::primitive::Ordering::SeqCst;

fn check(model: impl Fn() + Sync + Send + 'static) {
    words::check(2, move || {
        futex::block(0); // create it before any other thread exists
        model();
    });
}

/// The threads, with the messages that each one got.
type Ends = Vec<thread::JoinHandle<Vec<u64>>>;

fn producer(queue: &arena::Ref<Queue>, numbers: std::ops::RangeInclusive<u64>) -> thread::JoinHandle<Vec<u64>> {
    let queue = queue.clone();
    thread::spawn(move || {
        for number in numbers {
            queue.put(&mut Some(Message::new(number)), Deadline::Now).unwrap();
        }
        Vec::new()
    })
}

fn consumer(queue: &arena::Ref<Queue>, times: usize) -> thread::JoinHandle<Vec<u64>> {
    let queue = queue.clone();
    thread::spawn(move || (0..times).filter_map(|_| take(&queue)).collect())
}

fn take(queue: &Queue) -> Option<u64> {
    match queue.get(Deadline::Now) {
        Ok(incoming) => Some(incoming.number()),
        Err(WaitError::TimedOut) => None,
        Err(other) => panic!("{other}"),
    }
}

/// Once all threads have ended: each message was got once, and nothing is left.
fn finish(queue: &arena::Ref<Queue>, ends: Ends, messages: u64) -> Vec<Vec<u64>> {
    let mut got: Vec<_> = ends.into_iter().map(|end| end.join().unwrap()).collect();
    got.push(std::iter::from_fn(|| take(queue)).collect());
    let mut all: Vec<_> = got.concat();
    all.sort_unstable();
    assert_eq!(all, (1..=messages).collect::<Vec<_>>());
    assert!(queue.is_empty().unwrap());
    arena::Object::destroy(&**queue);
    assert_eq!(cells::in_use(), 0, "segments are lost");
    got
}

#[test]
fn two_producers_make_the_first_segment_at_once() {
    check(|| {
        let queue = Queue::create(0).unwrap();
        let ends = vec![producer(&queue, 1..=1), producer(&queue, 2..=2)];
        finish(&queue, ends, 2);
    });
}

#[test]
fn a_consumer_takes_beside_two_producers() {
    check(|| {
        let queue = Queue::create(0).unwrap();
        queue.put(&mut Some(Message::new(1)), Deadline::Now).unwrap();
        let ends = vec![producer(&queue, 2..=2), producer(&queue, 3..=3), consumer(&queue, 1)];
        finish(&queue, ends, 3);
    });
}

#[test]
fn messages_of_one_producer_come_in_its_order_across_segments() {
    check(|| {
        let queue = Queue::create(0).unwrap();
        queue.put(&mut Some(Message::new(1)), Deadline::Now).unwrap();
        let ends = vec![producer(&queue, 2..=3), consumer(&queue, 2)];
        let got = finish(&queue, ends, 3);
        assert_eq!(got.concat(), [1, 2, 3]);
    });
}

#[test]
fn two_consumers_get_different_messages() {
    check(|| {
        let queue = Queue::create(0).unwrap();
        for number in 1..=2 {
            queue.put(&mut Some(Message::new(number)), Deadline::Now).unwrap();
        }
        let ends = vec![consumer(&queue, 1), consumer(&queue, 1)];
        let got = finish(&queue, ends, 2);
        assert!(got[0].len() == 1 && got[1].len() == 1, "both messages were there");
    });
}

#[test]
fn a_producer_knows_whether_a_descriptor_shows_its_message() {
    check(|| {
        let queue = Queue::create(0).unwrap();
        let poller = Poller::new(&queue);
        let readable = words::zeroed::<AtomicU64>();
        readable.store(1, SeqCst);
        queue.put(&mut Some(Message::new(1)), Deadline::Now).unwrap();
        let end = {
            let (queue, readable) = (queue.clone(), readable.clone());
            thread::spawn(move || {
                queue.put(&mut Some(Message::new(2)), Deadline::Now).unwrap();
                if !is_a_poller_behind(&queue) {
                    assert_eq!(readable.load(SeqCst), 1, "a message is there, and no poller behind");
                }
            })
        };
        assert_eq!(take(&queue), Some(1));
        if poller.may_clear(&queue) {
            readable.store(0, SeqCst);
        }
        end.join().unwrap();
    });
}
