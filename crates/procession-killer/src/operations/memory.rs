//! Blocks, objects, references.

use super::{handle, Operation};
use crate::battery::Clock;
use crate::stage::Values;
use procession_core::arena::{Block, Label, Ref, Token};
use procession_core::channel::{Outgoing, Queue};
use procession_core::shared::SharedBytes;
use procession_core::sync::{Event, Lock, Semaphore};
use procession_core::{family, Deadline};
use std::mem::{forget, ManuallyDrop};

/// The sizes of small cells, and some of large ones.
const SIZES: [usize; 21] = [
    64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 65536,
    300_000, 1_200_000,
];

/// Check that blocks of this length do not overlap.
fn are_distinct(length: usize) {
    let mut blocks: Vec<_> = (0..4).map(|_| Block::alloc(length).expect("memory")).collect();
    for (number, block) in (1..).zip(&mut blocks) {
        let bytes = block.as_mut_slice();
        (bytes[0], bytes[length - 1]) = (number, number);
    }
    for (number, block) in (1..).zip(&blocks) {
        assert_eq!((block.as_slice()[0], block.as_slice()[length - 1]), (number, number));
    }
}

fn block(length: usize, first: bool) -> Operation {
    let name = format!(
        "block alloc and free, {length} bytes{}",
        if first { ", the first" } else { "" }
    );
    Operation::new(
        name,
        move || {
            // Neighbours in use, and a hole between.
            let mut blocks: Vec<_> = (0..if first { 0 } else { 3 })
                .map(|_| Block::alloc(length).expect("memory"))
                .collect();
            if !first {
                blocks.remove(1);
            }
            forget(blocks);
            vec![]
        },
        move |_| move || drop(Block::alloc(length).expect("memory")),
        move |_, _| {
            are_distinct(length);
            "works".to_owned()
        },
    )
}

fn in_transit(length: usize) -> Operation {
    Operation::new(
        format!("block take, {length} bytes"),
        move || {
            let mut block = Block::alloc(length).expect("memory");
            block.as_mut_slice()[0] = 5;
            vec![block.send().to_bits()]
        },
        move |values| {
            let token = values[0];
            move || {
                let block = Block::take(Token::from_bits(token), length).expect("the block");
                assert_eq!(block.as_slice()[0], 5);
                forget(block);
            }
        },
        move |values, done| {
            let found = match Block::take(Token::from_bits(values[0]), length) {
                Ok(block) => {
                    assert!(!done && block.as_slice()[0] == 5);
                    "still there"
                }
                Err(_) => "taken",
            };
            are_distinct(length);
            found.to_owned()
        },
    )
}

fn lock() -> Vec<u64> {
    vec![ManuallyDrop::new(Lock::create().expect("a lock")).handle().to_bits()]
}

fn works(values: &Values, _: bool) -> String {
    let lock = Lock::attach(handle(values[0])).expect("the lock, to which the root refers");
    assert!(lock.try_acquire().expect("a lock") && lock.release());
    drop(Lock::create().expect("a lock"));
    "there".to_owned()
}

/// Other processes refer to the object for a while, too.
fn beside(values: &Values, clock: &mut Clock) {
    let lock = clock.time("attach to the same object", || {
        Lock::attach(handle(values[0])).expect("the lock")
    });
    clock.time("clone and drop", || drop(lock.clone()));
    clock.time("drop the same object", || drop(lock));
}

/// A label of both parts.
const LABEL: Label<'static> = Label {
    name: Some("orders"),
    made: Some(("shop.py", 7)),
};

/// What another process finds of an object with a name: the name is the object's as long as it has a reference.
fn is_called(values: &Values) -> Event {
    let event = Event::attach(handle(values[0])).expect("the event, to which the root refers");
    assert_eq!(event.name().as_deref(), Some("orders"));
    event
}

/// Objects with names, beside one that others have.
fn named() -> Operation {
    let event = || {
        let event = ManuallyDrop::new(Event::labelled(LABEL).expect("an event"));
        vec![event.handle().to_bits()]
    };
    let create = |_: &Values| || drop(Event::labelled(LABEL).expect("an event"));
    Operation::new("named object create and drop", event, create, |values, _| {
        is_called(values).set();
        // Cells that had labels are used again without one, and with another.
        let plain: Vec<_> = (0..3).map(|_| Event::create().expect("an event")).collect();
        assert!(plain.iter().all(|event| event.name().is_none()));
        let short = Label {
            name: Some("b"),
            made: None,
        };
        let event = Event::labelled(short).expect("an event");
        assert_eq!(event.name().as_deref(), Some("b"));
        "there".to_owned()
    })
    .beside(|values, clock| {
        clock.time("read the name of the same object", || drop(is_called(values)));
        clock.time("create and drop another", || {
            drop(Event::labelled(LABEL).expect("an event"));
        });
    })
}

fn references() -> Vec<Operation> {
    let all = vec![
        Operation::new(
            "object create and drop",
            lock,
            |_| || drop(Lock::create().expect("a lock")),
            works,
        ),
        Operation::new(
            "handle attach",
            lock,
            |values| {
                let handle = handle(values[0]);
                move || forget(Lock::attach(handle).expect("the lock"))
            },
            works,
        ),
        Operation::new(
            "handle drop",
            lock,
            |values| {
                let lock = Lock::attach(handle(values[0])).expect("the lock");
                move || drop(lock)
            },
            works,
        ),
        Operation::new(
            "handle clone and drop",
            lock,
            |values| {
                let lock = Lock::attach(handle(values[0])).expect("the lock");
                move || {
                    drop(lock.clone());
                    forget(lock);
                }
            },
            works,
        ),
        Operation::new(
            "the last reference to a full queue drops",
            lock,
            |values| {
                let (queue, lock) = (Queue::create(0).expect("a queue"), handle(values[0]));
                for _ in 0..37 {
                    queue
                        .send(
                            Outgoing {
                                body: &[1; 200],
                                buffers: &[&[2; 100]],
                                handles: &[lock],
                                ..Outgoing::default()
                            },
                            Deadline::Now,
                        )
                        .expect("room");
                }
                move || drop::<Ref<Queue>>(queue)
            },
            works,
        ),
        Operation::new(
            "semaphore that recovers create and drop",
            lock,
            |_| || drop(Semaphore::recovering(2, 3).expect("a semaphore")),
            works,
        ),
        Operation::new(
            "shared bytes create and drop",
            lock,
            |_| || drop(SharedBytes::create(100_000).expect("memory")),
            works,
        ),
    ];
    all.into_iter().map(|operation| operation.beside(beside)).collect()
}

/// Memory is given back to the system, and allocated again.
fn trim() -> Operation {
    Operation::new(
        "idle memory given back",
        || {
            for length in [200, 100_000, 1_200_000] {
                drop(Block::alloc(length).expect("memory"));
            }
            forget(Block::alloc(5000).expect("memory"));
            vec![]
        },
        |_| || family().expect("a family").arena().trim(0).expect("no failure"),
        |_, _| {
            [200, 5000, 100_000, 1_200_000].into_iter().for_each(are_distinct);
            let arena = family().expect("a family").arena();
            arena.trim(0).expect("no failure");
            assert_eq!(arena.bytes().idle, 0);
            "works".to_owned()
        },
    )
}

pub fn operations() -> Vec<Operation> {
    let mut all: Vec<_> = SIZES.into_iter().map(|length| block(length, false)).collect();
    all.extend([
        block(256, true),
        block(300_000, true),
        in_transit(500),
        in_transit(200_000),
        trim(),
    ]);
    all.extend(references());
    all.push(named());
    all
}
