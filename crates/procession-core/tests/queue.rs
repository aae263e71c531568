//! The queue from outside: order, bounds, growth. `queue_concurrent` has many producers and consumers.

mod common;

use common::queues::{body, get, get_many, number, packed, put, put_many, timed_out};
use procession_core::arena::{Block, Ref};
use procession_core::channel::{Message, Outgoing, Pipe, Queue};
use procession_core::{Deadline, WaitError};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

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

#[test]
fn many_at_once_arrive_in_order_across_segments() {
    let queue = Queue::create(0).unwrap();
    let mut next = 0;
    for count in [1, 2, 34, 35, 36, 100, 1000, 7] {
        put_many(&queue, next..next + count);
        assert_eq!(queue.len().unwrap(), count);
        assert_eq!(get_many(&queue, count as usize - 1).len() as u64, count - 1);
        assert_eq!(
            get_many(&queue, 5),
            [next + count - 1],
            "the rest, and no wait for more"
        );
        next += count;
    }
    put_many(&queue, []);
    assert!(queue.is_empty().unwrap());
    for _ in 0..next {
        assert!(queue.task_done());
    }
    assert!(!queue.task_done());
}

#[test]
fn what_there_is_no_room_for_stays_with_the_producer() {
    let queue = Queue::create(3).unwrap();
    put(&queue, 0);
    let mut rest = packed(1..6);
    assert!(timed_out(&queue.put_many(&mut rest, Deadline::Now)));
    assert_eq!(rest.len(), 3);
    assert!(timed_out(
        &queue.put_many(&mut rest, Deadline::after(Duration::from_millis(1)))
    ));
    assert_eq!((get(&queue), get(&queue)), (0, 1));
    assert!(timed_out(&queue.put_many(&mut rest, Deadline::Now)));
    assert_eq!(rest.len(), 1);
    assert_eq!(get_many(&queue, 9), [2, 3, 4]);
    queue.put_many(&mut rest, Deadline::Now).unwrap();
    assert_eq!(get_many(&queue, 9), [5]);
}

#[test]
fn blocks_of_many_messages_are_the_receiver_s() {
    let queue = Queue::create(0).unwrap();
    let large = vec![7; 200_000];
    let out = Outgoing {
        body: &[9; 3000],
        buffers: &[&large],
        ..Outgoing::default()
    };
    let mut messages = (0..3).map(|_| Message::pack(out).unwrap()).collect();
    queue.put_many(&mut messages, Deadline::Now).unwrap();
    let mut got = Vec::new();
    queue.get_many(3, Deadline::Now, &mut got).unwrap();
    assert_eq!(got.len(), 3);
    for mut incoming in got {
        assert_eq!(incoming.body(), [9; 3000]);
        assert_eq!(incoming.take_buffers()[0].as_slice(), large);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn it_behaves_like_a_sequential_queue(maxsize in 0_u64..5, steps in prop::collection::vec(0_u8..9, 1..300)) {
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
            } else if step <= 4 {
                let got = queue.get(Deadline::Now).ok().map(|incoming| number(&incoming));
                prop_assert_eq!(got, model.pop_front());
            } else if step <= 6 {
                let mut messages = packed((0..3).map(|more| at as u64 * 1000 + more));
                let sent = queue.put_many(&mut messages, Deadline::Now);
                prop_assert_eq!(sent.is_ok(), messages.is_empty());
                let fit = if maxsize == 0 { 3 } else { 3.min(maxsize - model.len() as u64) };
                prop_assert_eq!(3 - messages.len() as u64, fit);
                model.extend((0..fit).map(|more| at as u64 * 1000 + more));
            } else {
                let mut got = Vec::new();
                while got.len() < 3 && queue.get_many(3 - got.len(), Deadline::Now, &mut got).is_ok() {}
                let expected: Vec<_> = model.drain(..model.len().min(3)).collect();
                prop_assert_eq!(got.iter().map(number).collect::<Vec<_>>(), expected);
            }
            prop_assert_eq!(queue.len().unwrap(), model.len() as u64);
            prop_assert_eq!(queue.is_empty().unwrap(), model.is_empty());
            prop_assert_eq!(queue.is_full().unwrap(), maxsize != 0 && model.len() as u64 == maxsize);
        }
    }
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

#[test]
fn a_wait_ends_early_when_it_is_told_to() {
    let queue = Queue::create(0).unwrap();
    let deadline = Deadline::after(Duration::from_secs(30));
    let over = AtomicBool::new(false);
    let is_over = || over.load(SeqCst);
    std::thread::scope(|threads| {
        let one = threads.spawn(|| queue.get_or(deadline, is_over).map(drop));
        let many = threads.spawn(|| queue.get_many_or(3, deadline, &mut Vec::new(), is_over));
        over.store(true, SeqCst);
        queue.wake_consumers();
        for waiter in [one, many] {
            assert!(matches!(waiter.join().unwrap(), Err(WaitError::Interrupted)));
        }
    });
    assert_eq!(queue.extent(), 0);
    put(&queue, 1);
    assert_eq!(queue.extent(), 1);
    // A message that is there needs no wait.
    assert!(queue.get_or(deadline, is_over).is_ok());
}
