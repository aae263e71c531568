//! The queue from outside: order, bounds, growth, many processes.

mod common;

use common::{child, wait};
use procession_core::arena::{Block, Ref};
use procession_core::channel::{Incoming, Message, Outgoing, Pipe, Queue};
use procession_core::{Deadline, WaitError};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

fn body(bytes: &[u8]) -> Outgoing<'_> {
    Outgoing {
        body: bytes,
        ..Outgoing::default()
    }
}

fn put(queue: &Queue, number: u64) {
    queue.send(body(&number.to_le_bytes()), Deadline::Never).unwrap();
}

fn number(incoming: &Incoming) -> u64 {
    u64::from_le_bytes(incoming.body().try_into().unwrap())
}

fn get(queue: &Queue) -> u64 {
    number(&queue.get(Deadline::Never).unwrap())
}

fn timed_out<T>(result: &Result<T, WaitError>) -> bool {
    matches!(result, Err(WaitError::TimedOut))
}

#[test]
fn messages_of_all_sizes_arrive_whole_and_in_order() {
    let queue = Queue::create(0).unwrap();
    let sizes = [0, 1, 7, 8, 103, 104, 105, 4096, 100_000, 3_000_000];
    for size in sizes {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 31 + size) as u8).collect();
        queue.send(body(&bytes), Deadline::Now).unwrap();
    }
    assert_eq!(queue.len().unwrap(), sizes.len() as u64);
    for size in sizes {
        let incoming = queue.get(Deadline::Now).unwrap();
        assert!(incoming
            .body()
            .iter()
            .enumerate()
            .all(|(at, &byte)| byte == (at * 31 + size) as u8));
        assert_eq!(incoming.body().len(), size);
    }
    assert!(timed_out(&queue.get(Deadline::Now)));
}

#[test]
fn buffers_become_blocks_of_the_receiver() {
    let queue = Queue::create(0).unwrap();
    let (large, small) = (vec![7; 200_000], [1, 2, 3]);
    let out = Outgoing {
        body: b"two buffers",
        buffers: &[&large, &small],
        handles: &[],
        ..Outgoing::default()
    };
    queue.send(out, Deadline::Now).unwrap();
    let mut incoming = queue.get(Deadline::Now).unwrap();
    let mut blocks = incoming.take_buffers();
    assert_eq!(incoming.body(), b"two buffers");
    drop(incoming);
    assert_eq!(blocks[0].as_slice(), large);
    assert_eq!(blocks[1].as_slice(), small);
    blocks[0].as_mut_slice().fill(9);
}

#[test]
fn a_queue_in_a_queue_outlives_the_sender_s_reference() {
    let outer = Queue::create(0).unwrap();
    let inner = Queue::create(0).unwrap();
    put(&inner, 42);
    let handle = inner.handle();
    let out = Outgoing {
        body: b"",
        buffers: &[],
        handles: &[handle],
        ..Outgoing::default()
    };
    outer.send(out, Deadline::Now).unwrap();
    drop(inner);
    let incoming = outer.get(Deadline::Now).unwrap();
    assert_eq!(incoming.handles(), [handle]);
    let inner = Ref::<Queue>::attach(incoming.handles()[0]).unwrap();
    drop(incoming);
    assert_eq!(get(&inner), 42);
    drop(inner);
    assert!(Ref::<Queue>::attach(handle).is_err());
}

#[test]
fn a_message_thrown_away_gives_its_references_back() {
    let outer = Queue::create(0).unwrap();
    let inner = Queue::create(0).unwrap();
    let handle = inner.handle();
    let out = Outgoing {
        body: b"",
        buffers: &[],
        handles: &[handle],
        ..Outgoing::default()
    };
    outer.send(out, Deadline::Now).unwrap();
    drop(Message::pack(out).unwrap());
    drop(inner);
    drop(outer);
    assert!(Ref::<Queue>::attach(handle).is_err());
}

#[test]
fn a_bounded_queue_is_full_and_has_room_again() {
    let queue = Queue::create(3).unwrap();
    for round in 0..100 {
        for at in 0..3 {
            put(&queue, round * 3 + at);
        }
        assert!(queue.is_full().unwrap());
        let mut fourth = Some(Message::pack(body(b"x")).unwrap());
        assert!(timed_out(&queue.put(&mut fourth, Deadline::Now)));
        assert!(timed_out(
            &queue.put(&mut fourth, Deadline::after(Duration::from_millis(1)))
        ));
        assert!(fourth.is_some());
        for at in 0..3 {
            assert_eq!(get(&queue), round * 3 + at);
        }
        assert!(queue.is_empty().unwrap());
    }
}

#[test]
fn a_waiting_put_goes_on_when_there_is_room() {
    let queue = Queue::create(1).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..5000).for_each(|at| put(&queue, at)));
        (0..5000).for_each(|at| assert_eq!(get(&queue), at));
    });
}

#[test]
fn task_done_and_join() {
    let queue = Queue::create(0).unwrap();
    assert!(!queue.task_done());
    queue.join(Deadline::Now).unwrap();
    put(&queue, 1);
    put(&queue, 2);
    assert!(timed_out(&queue.join(Deadline::after(Duration::from_millis(5)))));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                get(&queue);
                assert!(queue.task_done());
            }
        });
        queue.join(Deadline::Never).unwrap();
    });
    assert!(!queue.task_done());
}

#[test]
fn a_hundred_thousand_messages_wait_and_are_drained() {
    let queue = Queue::create(0).unwrap();
    for _ in 0..2 {
        (0..100_000).for_each(|at| put(&queue, at));
        assert_eq!(queue.len().unwrap(), 100_000);
        (0..100_000).for_each(|at| assert_eq!(get(&queue), at));
        assert!(queue.is_empty().unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn it_behaves_like_a_sequential_queue(maxsize in 0_u64..5, steps in prop::collection::vec(0_u8..5, 1..300)) {
        let queue = Queue::create(maxsize).unwrap();
        let mut model = VecDeque::new();
        for (at, step) in steps.into_iter().enumerate() {
            let room = maxsize == 0 || (model.len() as u64) < maxsize;
            if step <= 2 {
                let value = at as u64;
                let sent = queue.send(body(&value.to_le_bytes()), Deadline::Now);
                prop_assert_eq!(sent.is_ok(), room);
                if room {
                    model.push_back(value);
                }
            } else {
                let got = queue.get(Deadline::Now).ok().map(|incoming| number(&incoming));
                prop_assert_eq!(got, model.pop_front());
            }
            prop_assert_eq!(queue.len().unwrap(), model.len() as u64);
            prop_assert_eq!(queue.is_empty().unwrap(), model.is_empty());
            prop_assert_eq!(queue.is_full().unwrap(), maxsize != 0 && model.len() as u64 == maxsize);
        }
    }
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

#[test]
fn pipes_carry_frames_until_the_end_of_file() {
    let (a, b) = Pipe::pair().unwrap();
    assert!(!b.poll(Deadline::Now).unwrap());
    let large = vec![3; 1_000_000];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for frame in [&b""[..], b"short", &large] {
                a.send(frame).unwrap();
            }
        });
        assert_eq!(b.recv().unwrap().unwrap(), b"");
        assert!(b.poll(Deadline::Never).unwrap());
        assert_eq!(b.recv().unwrap().unwrap(), b"short");
        assert_eq!(b.recv().unwrap().unwrap(), large);
    });
    b.send(b"and back").unwrap();
    assert_eq!(a.recv().unwrap().unwrap(), b"and back");
    drop(a);
    assert!(b.poll(Deadline::Now).unwrap());
    assert_eq!(b.recv().unwrap(), None);
    assert!(b.send(b"nobody there").is_err());
}

#[test]
fn a_body_in_pieces_arrives_as_one() {
    let queue = Queue::create(0).unwrap();
    for sizes in [
        [0, 0, 0],
        [1, 0, 7],
        [100, 3, 1],
        [100, 4, 1],
        [0, 5, 300],
        [3000, 70_000, 1],
    ] {
        let pieces: Vec<Vec<u8>> = (1..).zip(sizes).map(|(byte, size)| vec![byte; size]).collect();
        let more: Vec<&[u8]> = pieces[1..].iter().map(Vec::as_slice).collect();
        for buffers in [&[][..], &[&[9; 20][..]][..]] {
            let out = Outgoing {
                body: &pieces[0],
                more: &more,
                buffers,
                ..Outgoing::default()
            };
            queue.send(out, Deadline::Now).unwrap();
            let mut incoming = queue.get(Deadline::Now).unwrap();
            assert_eq!(incoming.body(), pieces.concat());
            let taken: Vec<_> = incoming.take_buffers();
            assert!(taken.iter().map(Block::as_slice).eq(buffers.iter().copied()));
        }
    }
}
