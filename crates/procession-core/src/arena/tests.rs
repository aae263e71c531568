//! The module as its users see it. Each test needs a process of its own (cargo nextest gives it one).

mod back;
mod death;
mod fork;
mod limits;
mod model;
mod storm;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::*;
use crate::ids::Kind;
use crate::Error;

/// An object type for the tests.
#[repr(C)]
pub(super) struct Counter {
    value: AtomicU64,
}

// SAFETY: one atomic, any value of which is valid.
unsafe impl Object for Counter {
    const KIND: Kind = Kind::Event;
    const NAME: &'static str = "counter";
}

fn counters() -> Counters {
    super::counters().unwrap()
}

#[test]
fn blocks_of_all_sizes_hold_what_was_written() {
    let mut blocks = Vec::new();
    for (number, len) in [0, 1, 64, 65, 1000, 32 << 10, (32 << 10) + 1, 64 << 10, 1 << 20, 5 << 20]
        .into_iter()
        .enumerate()
    {
        let mut block = Block::alloc(len).unwrap();
        assert_eq!(block.len(), len);
        assert_eq!(block.as_ptr() as usize % 64, 0);
        block.as_mut_slice().fill(number as u8);
        blocks.push(block);
    }
    for (number, block) in blocks.iter().enumerate() {
        assert!(block.as_slice().iter().all(|&byte| byte == number as u8));
    }
    drop(blocks);
    assert_eq!(counters(), Counters::default());
}

#[test]
fn a_block_goes_through_transit_once() {
    for len in [100, 200_000] {
        let mut block = Block::alloc(len).unwrap();
        block.as_mut_slice().fill(7);
        let token = block.token();
        assert!(Block::take(token, len).is_err(), "not sent yet");
        assert_eq!(block.send(), token);
        assert!(matches!(Block::take(token, 10_000_000), Err(Error::Corrupt(_))));
        let block = Block::take(token, len).unwrap();
        assert!(block.as_slice().iter().all(|&byte| byte == 7));
        assert!(matches!(Block::take(token, len), Err(Error::Stale("block"))));
        Block::discard(token);
        drop(block);
        assert!(Block::take(token, len).is_err());
        let token = Block::alloc(len).unwrap().send();
        Block::discard(token);
        Block::discard(token);
        assert!(Block::take(token, len).is_err());
    }
    assert_eq!(counters(), Counters::default());
}

/// A compare-and-swap that loses to a change of receiver has not lost the block.
#[test]
fn a_block_is_taken_and_discarded_while_its_receiver_changes() {
    let receivers = [Receiver::of(1), Receiver::me()];
    let (given, tokens) = std::sync::mpsc::sync_channel::<Token>(0);
    let redirecting = std::thread::spawn(move || {
        for token in tokens {
            (0..200).for_each(|turn| drop(Block::redirect(token, receivers[turn % 2])));
        }
    });
    for round in 0..3000 {
        let token = Block::alloc(100).unwrap().send_to(receivers[0]);
        given.send(token).unwrap();
        if round % 2 == 0 {
            drop(Block::take(token, 100).unwrap());
        } else {
            Block::discard(token);
            assert!(Block::take(token, 100).is_err());
        }
    }
    drop(given);
    redirecting.join().unwrap();
    assert_eq!(counters(), Counters::default());
}

#[test]
fn references_are_counted() {
    let first = Ref::<Counter>::create().unwrap();
    assert_eq!(first.value.load(SeqCst), 0);
    let second = first.clone();
    let third = Ref::<Counter>::attach(first.handle()).unwrap();
    third.value.store(5, SeqCst);
    assert_eq!(second.value.load(SeqCst), 5);
    let handle = first.handle();
    assert_eq!(
        (counters().objects, counters().refs),
        (1, 1),
        "one entry per process and object"
    );
    let holder = Ref::<Counter>::create().unwrap();
    drop((first, second));
    assert!(link(&holder.value, handle).unwrap());
    drop(third);
    assert_eq!(
        (counters().objects, counters().refs),
        (2, 2),
        "the other object keeps it"
    );
    let again = Ref::<Counter>::attach(handle).unwrap();
    assert_eq!(again.value.load(SeqCst), 5);
    unlink(&holder.value).unwrap();
    drop(again);
    assert_eq!(counters().objects, 1);
    assert!(matches!(Ref::<Counter>::attach(handle), Err(Error::Stale("counter"))));
    assert!(!link(&holder.value, handle).unwrap());
    unlink(&holder.value).unwrap();
    assert_eq!(
        Ref::<Counter>::create().unwrap().value.load(SeqCst),
        0,
        "used again, and zeroed"
    );
}

#[test]
fn references_are_sent_with_their_block() {
    for len in [100, 100_000] {
        let object = Ref::<Counter>::create().unwrap();
        let handle = object.handle();
        let mut block = Block::alloc(len).unwrap();
        block.refer(&[handle, handle]).unwrap();
        drop(object);
        assert_eq!((counters().objects, counters().refs), (1, 2), "in {len} bytes");
        let token = block.send();
        let block = Block::take(token, len).unwrap();
        assert_eq!(block.handles(), [handle, handle]);
        Block::discard(block.send());
        assert_eq!(
            counters(),
            Counters {
                owned: 1,
                ..Counters::default()
            },
            "all but the reference log"
        );
        let mut block = Block::alloc(len).unwrap();
        assert!(matches!(block.refer(&[handle]), Err(Error::Stale(_))));
        assert!(block.refer(&vec![handle; len / 8 + 1]).is_err());
        assert!(
            Block::alloc(len).unwrap().handles().is_empty(),
            "of what was there before"
        );
    }
}

#[test]
fn threads_refer_to_one_object_at_once() {
    let object = Ref::<Counter>::create().unwrap();
    let handle = object.handle();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for _ in 0..500 {
                    let attached = (thread % 2 == 0).then(|| Ref::<Counter>::attach(handle).unwrap());
                    let mut block = Block::alloc(64).unwrap();
                    block.refer(&[handle; 3]).unwrap();
                    drop(attached);
                    Block::discard(block.send());
                }
            });
        }
    });
    assert_eq!((counters().objects, counters().refs, counters().other), (1, 1, 0));
}

#[test]
fn every_kind_has_its_number() {
    let known = (0..=u8::MAX).filter_map(|number| Some((number, Kind::from_number(number)?)));
    let found: Vec<u8> = known
        .map(|(number, kind)| (number == kind as u8).then_some(number).unwrap())
        .collect();
    assert_eq!(found, (1..=25).collect::<Vec<u8>>());
}

#[test]
fn what_an_object_refers_to_goes_with_it_however_long_the_chain() {
    type Link = crate::sync::ending::Chunk;
    let mut first = Ref::<Link>::create().unwrap();
    for _ in 0..20_000 {
        let before = Ref::<Link>::create().unwrap();
        let words = std::ptr::from_ref::<Link>(&before).cast::<AtomicU64>();
        // SAFETY: the last word of a chunk is the handle of the next one.
        assert!(link(unsafe { &*words.add(size_of::<Link>() / 8 - 1) }, first.handle()).unwrap());
        first = before;
    }
    assert_eq!(counters().objects, 20_001);
    drop(first);
    assert_eq!((counters().objects, counters().other), (0, 0));
}
