//! Put and get of all kinds.

use super::{handle, shortly, Operation};
use crate::battery::Clock;
use crate::stage::Values;
use procession_core::arena::Ref;
use procession_core::channel::{Incoming, Message, Outgoing, Queue};
use procession_core::ids::Handle;
use procession_core::sync::Lock;
use procession_core::{Deadline, WaitError};
use std::time::Duration;

/// The number of slots of a segment.
const SEGMENT: u64 = 35;
/// The number of the victim's message, or of its first.
pub(super) const MINE: u64 = 90;

/// The first number of messages of other processes, beside the victim.
const OTHERS: u64 = 100;
/// Added to the number of a message that another process took out and put in again.
const AGAIN: u64 = 150;

/// How messages are made.
#[derive(Clone, Copy)]
pub(super) enum Make {
    Inline,
    /// A body and a buffer of many bytes, and a handle: all that a message can contain. Zeros except for a few bytes:
    /// states that differ only in how far a copy has got would only repeat each other.
    Large,
}

const BODY: usize = 5000;
const BUFFER: usize = 70_000;

fn marked(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for place in [0, length / 2, length - 1] {
        bytes[place] = number as u8 + 1;
    }
    bytes
}

/// Pass the parts of a message on.
pub(super) fn outgoing<T>(make: Make, number: u64, object: Handle, pass: impl FnOnce(Outgoing<'_>) -> T) -> T {
    match make {
        Make::Inline => pass(Outgoing {
            body: &number.to_le_bytes(),
            ..Outgoing::default()
        }),
        Make::Large => pass(Outgoing {
            body: &marked(number, BODY),
            buffers: &[&marked(number, BUFFER)],
            handles: &[object],
            ..Outgoing::default()
        }),
    }
}

fn send(queue: &Queue, make: Make, number: u64, object: Handle, deadline: Deadline) -> Result<(), WaitError> {
    outgoing(make, number, object, |out| queue.send(out, deadline))
}

/// Check that a message is complete, and return its number.
pub(super) fn number_of(mut incoming: Incoming, make: Make) -> u64 {
    match make {
        Make::Inline => u64::from_le_bytes(incoming.body().try_into().expect("8 bytes")),
        Make::Large => {
            let number = u64::from(incoming.body()[0]) - 1;
            assert_eq!(incoming.body(), marked(number, BODY), "a torn body");
            let buffers = incoming.take_buffers();
            assert_eq!(buffers.len(), 1);
            assert_eq!(buffers[0].as_slice(), marked(number, BUFFER), "a torn buffer");
            let lock = Lock::attach(incoming.handles()[0]).expect("the object that came along");
            assert!(lock.try_acquire().expect("a lock") && lock.release());
            number
        }
    }
}

fn drain(queue: &Queue, make: Make) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        match queue.get(Deadline::Now) {
            Ok(incoming) => numbers.push(number_of(incoming, make)),
            Err(WaitError::TimedOut) => return numbers,
            Err(error) => panic!("get: {error}"),
        }
    }
}

/// A queue that `passed` messages went through, with `held` in it; and a lock for messages to refer to.
fn stock(make: Make, maxsize: u64, passed: u64, held: u64) -> Vec<u64> {
    let queue = std::mem::ManuallyDrop::new(Queue::create(maxsize).expect("a queue"));
    let lock = std::mem::ManuallyDrop::new(Lock::create().expect("a lock"));
    for number in 0..passed {
        send(&queue, Make::Inline, number, lock.handle(), Deadline::Now).expect("room");
        queue.get(Deadline::Now).expect("a message");
        assert!(queue.task_done());
    }
    for number in 0..held {
        send(&queue, make, number, lock.handle(), Deadline::Now).expect("room");
    }
    vec![queue.handle().to_bits(), lock.handle().to_bits()]
}

/// Check that the queue works, within its bounds, and counts right: `drained` messages were put and not yet dealt with,
/// or up to `lost` fewer.
fn still_works(queue: &Queue, object: Handle, maxsize: u64, drained: u64, lost: u64) {
    assert!(queue.is_empty().expect("a queue") && !queue.is_full().expect("a queue"));
    let mut dealt_with = 0;
    while queue.task_done() {
        dealt_with += 1;
    }
    assert!(
        (drained - lost..=drained).contains(&dealt_with),
        "{dealt_with} tasks to be dealt with, not {drained} less {lost}"
    );
    queue
        .join(Deadline::after(Duration::from_secs(5)))
        .expect("all was dealt with");
    for number in 0..SEGMENT + 5 {
        send(
            queue,
            Make::Inline,
            number,
            object,
            Deadline::after(Duration::from_secs(5)),
        )
        .expect("room");
        let incoming = queue.get(Deadline::after(Duration::from_secs(5))).expect("a message");
        assert_eq!(number_of(incoming, Make::Inline), number);
    }
    let most = if maxsize == 0 { 3 } else { maxsize };
    for number in 0..most {
        send(queue, Make::Inline, number, object, Deadline::Now).expect("room");
    }
    if maxsize != 0 {
        let more = send(queue, Make::Inline, 0, object, Deadline::Now);
        assert!(matches!(more, Err(WaitError::TimedOut)), "more than {maxsize} messages");
    }
    assert_eq!(queue.len().expect("a queue"), most);
    assert_eq!(drain(queue, Make::Inline), (0..most).collect::<Vec<_>>());
}

/// What other processes do with the same queue: look, put, take a message out and put it in again.
fn beside(make: Make) -> impl Fn(&Values, &mut Clock) {
    move |values, clock| {
        let object = handle(values[1]);
        let queue = clock.time("attach to the same queue", || {
            Ref::<Queue>::attach(handle(values[0])).expect("the queue")
        });
        let put = |number: u64, clock: &mut Clock| {
            let end = clock.time("put into the same queue", || {
                send(&queue, make, number, object, shortly())
            });
            match end {
                Ok(()) | Err(WaitError::TimedOut) => {}
                Err(error) => panic!("put: {error}"),
            }
            end.is_ok()
        };
        look(&queue, clock);
        for number in OTHERS..OTHERS + 2 {
            put(number, clock);
        }
        match clock.time("get from the same queue", || queue.get(shortly())) {
            Ok(incoming) => {
                let number = number_of(incoming, make);
                assert!(queue.task_done());
                let again = if number < OTHERS { AGAIN + number } else { number };
                assert!(put(again, clock), "there was room");
            }
            Err(WaitError::TimedOut) => {}
            Err(error) => panic!("get: {error}"),
        }
        look(&queue, clock);
        clock.time("drop the same queue", || drop(queue));
    }
}

fn look(queue: &Queue, clock: &mut Clock) {
    clock.time("look at the same queue", || {
        queue.is_empty().expect("a queue");
        queue.is_full().expect("a queue");
        queue.len().expect("a queue");
        let _ = queue.join(shortly());
    });
}

/// The numbers without those of other processes' own messages. A message that another process took out and put in again
/// counts at its original place.
fn own(got: &[u64]) -> Vec<u64> {
    let (mut own, others): (Vec<u64>, Vec<u64>) = got.iter().partition(|&&number| number < OTHERS);
    for number in others.into_iter().filter(|&number| number >= AGAIN) {
        let place = own.iter().position(|&at| at > number - AGAIN).unwrap_or(own.len());
        own.insert(place, number - AGAIN);
    }
    own
}

pub fn repair(values: &Values) {
    if let Ok(queue) = Ref::<Queue>::attach(handle(values[0])) {
        let _ = queue.is_empty();
        let _ = queue.is_full();
    }
    procession_core::liveness::sweep();
}

/// Put a message.
fn put(name: &str, make: Make, maxsize: u64, passed: u64, held: u64) -> Operation {
    let is_full = maxsize != 0 && held == maxsize;
    let victim = move |queue: &Queue, object| {
        let end = send(queue, make, MINE, object, Deadline::Now);
        assert_eq!(end.is_err(), is_full);
    };
    putting(
        format!("queue put, {name}"),
        make,
        maxsize,
        passed,
        held,
        u64::from(!is_full),
        victim,
    )
}

/// Put several messages at once.
fn put_many(name: &str, make: Make, maxsize: u64, passed: u64, held: u64, number: u64) -> Operation {
    let victim = move |queue: &Queue, object| {
        let pack = |number| outgoing(make, number, object, Message::pack).expect("memory");
        let mut messages = (MINE..MINE + number).map(pack).collect();
        queue.put_many(&mut messages, Deadline::Now).expect("room");
    };
    putting(
        format!("queue put_many, {name}"),
        make,
        maxsize,
        passed,
        held,
        number,
        victim,
    )
}

/// The `victim` puts `number` messages into a queue with `held` in it.
fn putting(
    name: String,
    make: Make,
    maxsize: u64,
    passed: u64,
    held: u64,
    number: u64,
    victim: impl Fn(&Queue, Handle) + Copy + 'static,
) -> Operation {
    Operation::new(
        name,
        move || stock(make, maxsize, passed, held),
        move |values| {
            let (queue, object) = (
                Ref::<Queue>::attach(handle(values[0])).expect("the queue"),
                handle(values[1]),
            );
            move || {
                victim(&queue, object);
                std::mem::forget(queue);
            }
        },
        move |values, done| {
            let queue = Ref::<Queue>::attach(handle(values[0])).expect("the queue");
            let got = drain(&queue, make);
            let own = own(&got);
            let (before, mine) = own.split_at(held as usize);
            assert_eq!(before, (0..held).collect::<Vec<_>>(), "what was there before");
            let there = mine.len() as u64;
            let first = (MINE..MINE + number).take(mine.len());
            assert!(first.eq(mine.iter().copied()), "{mine:?} beside what was there");
            assert!(there == number || !done, "put had returned");
            still_works(&queue, handle(values[1]), maxsize, got.len() as u64, 0);
            match there {
                0 => "not there".to_owned(),
                _ if there < number => "some there".to_owned(),
                _ => "there".to_owned(),
            }
        },
    )
    .repaired_by(repair)
    .beside(beside(make))
}

/// Get a message.
fn get(name: &str, make: Make, maxsize: u64, passed: u64, held: u64) -> Operation {
    getting(
        format!("queue get, {name}"),
        make,
        maxsize,
        passed,
        held,
        1,
        move |queue| {
            let got = queue.get(Deadline::Now);
            assert!(got.is_ok() || held == 0);
            std::mem::forget(got);
        },
    )
}

/// Get several messages at once.
fn get_many(name: &str, make: Make, maxsize: u64, passed: u64, held: u64, most: u64) -> Operation {
    getting(
        format!("queue get_many, {name}"),
        make,
        maxsize,
        passed,
        held,
        most,
        move |queue| {
            let mut got = Vec::new();
            queue
                .get_many(most as usize, Deadline::Now, &mut got)
                .expect("messages");
            std::mem::forget(got);
        },
    )
}

/// The `victim` takes up to `most` messages out of a queue with `held` in it.
fn getting(
    name: String,
    make: Make,
    maxsize: u64,
    passed: u64,
    held: u64,
    most: u64,
    victim: impl Fn(&Queue) + Copy + 'static,
) -> Operation {
    Operation::new(
        name,
        move || stock(make, maxsize, passed, held),
        move |values| {
            let queue = Ref::<Queue>::attach(handle(values[0])).expect("the queue");
            move || {
                victim(&queue);
                std::mem::forget(queue);
            }
        },
        move |values, done| {
            let queue = Ref::<Queue>::attach(handle(values[0])).expect("the queue");
            let all = drain(&queue, make);
            let mut got = own(&all);
            // What a dead consumer held may come after what was behind it.
            got.sort_unstable();
            let missing: Vec<_> = (0..held).filter(|number| !got.contains(number)).collect();
            assert_eq!(got.len() + missing.len(), held as usize, "{got:?}: twice, or never put");
            let gone = missing.len() as u64;
            assert!(gone <= most.min(held), "{missing:?} are gone");
            assert!(gone > 0 || !done || held == 0, "got twice");
            // The victim may have got what others had put into an empty queue.
            let others = all.iter().filter(|&&number| number >= OTHERS).count();
            // A message counts as never put if its consumer died before it had taken all of it.
            let taken = gone.max(u64::from(held == 0 && others == 1));
            still_works(&queue, handle(values[1]), maxsize, all.len() as u64 + taken, taken);
            match gone {
                0 => "still there".to_owned(),
                _ if gone < most.min(held) => "some taken".to_owned(),
                _ => "taken".to_owned(),
            }
        },
    )
    .repaired_by(repair)
    .beside(beside(make))
}

/// A message that its sender takes out again, and that refers to an object that this process holds anyway.
fn pass() -> Operation {
    Operation::new(
        "queue put, get and drop, large, of what is held",
        || stock(Make::Large, 0, 3, 0),
        |values| {
            let queue = Ref::<Queue>::attach(handle(values[0])).expect("the queue");
            let lock = Lock::attach(handle(values[1])).expect("the lock");
            move || {
                send(&queue, Make::Large, MINE, lock.handle(), Deadline::Now).expect("room");
                drop(queue.get(Deadline::Now).expect("a message"));
                std::mem::forget((queue, lock));
            }
        },
        |values, done| {
            let queue = Ref::<Queue>::attach(handle(values[0])).expect("the queue");
            let got = drain(&queue, Make::Large);
            assert!(got.is_empty() || got == [MINE] && !done, "{got:?}");
            still_works(&queue, handle(values[1]), 0, 1, 1);
            if got.is_empty() { "not there" } else { "there" }.to_owned()
        },
    )
    .repaired_by(repair)
    .beside(|values, clock| look(&Ref::<Queue>::attach(handle(values[0])).expect("the queue"), clock))
}

pub fn operations() -> Vec<Operation> {
    use Make::{Inline, Large};
    let mut all = vec![
        put("the first", Inline, 0, 0, 0),
        put("inline", Inline, 0, 3, 1),
        put("inline, bounded", Inline, 4, 3, 1),
        put("inline, bounded, full", Inline, 4, 3, 4),
        put("inline, at the end of a segment", Inline, 0, SEGMENT, 0),
        put("large", Large, 0, 3, 1),
        put("large, bounded, at the end of a segment", Large, 4, SEGMENT - 1, 1),
        put_many("inline", Inline, 0, 3, 1, 3),
        put_many("inline, bounded", Inline, 8, 3, 1, 3),
        put_many("inline, at the end of a segment", Inline, 0, SEGMENT - 2, 1, 3),
        put_many("large", Large, 0, 3, 1, 2),
        get("inline", Inline, 0, 3, 3),
        get("inline, bounded, full", Inline, 4, 3, 4),
        get("empty", Inline, 0, 3, 0),
        get("inline, leaving a segment", Inline, 0, SEGMENT - 1, 3),
        get_many("inline", Inline, 0, 3, 4, 3),
        get_many("inline, bounded, full", Inline, 4, 3, 4, 9),
        get_many("inline, leaving a segment", Inline, 0, SEGMENT - 2, 3, 9),
        get_many("large", Large, 0, 3, 3, 2),
        get("large", Large, 0, 3, 2),
        get("large, leaving a segment", Large, 4, SEGMENT - 1, 2),
    ];
    all.push(pass());
    all.extend(super::mailbox::operations());
    all
}
