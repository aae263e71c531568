//! Deaths of processes at chosen points. The processes belong to the family and stop where they are told.

mod lanes;
mod polling;

use super::layout::Queue;
use super::segment::{Link, QueueSlot, SlotState, SLOTS};
use super::{Incoming, Message, Outgoing};
use crate::arena::{Block, Ref};
use crate::ids::Handle;
use crate::{family, Deadline};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::SeqCst;

/// Run `work` in a child of fork. On return the child is gone, and known to be gone.
fn in_a_child_that_dies(work: impl FnOnce()) {
    end(child(work));
}

/// Run `work` in a child of fork.
fn child(work: impl FnOnce()) -> i32 {
    family().unwrap().me();
    // SAFETY: the child runs `work` and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        // SAFETY: always sound.
        unsafe { libc::_exit(i32::from(!fine)) };
    }
    pid
}

/// Wait for a child's end.
fn end(pid: i32) {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
}

fn put(queue: &Queue, bytes: &[u8]) {
    let out = Outgoing {
        body: bytes,
        ..Outgoing::default()
    };
    queue.send(out, Deadline::Now).unwrap();
}

fn put_with_buffers(queue: &Queue) {
    let buffer = vec![6; 30_000];
    let out = Outgoing {
        body: b"buffers",
        buffers: &[&buffer, &buffer],
        handles: &[],
        ..Outgoing::default()
    };
    queue.send(out, Deadline::Now).unwrap();
}

fn get(queue: &Queue) -> Incoming {
    queue.get(Deadline::Now).unwrap()
}

fn is_empty(queue: &Queue) -> bool {
    queue.get(Deadline::Now).is_err()
}

/// Take the slot of the oldest message and stop there.
fn take(queue: &Queue) -> &'static QueueSlot {
    let found = queue.walk().unwrap().full.unwrap();
    let me = family().unwrap().me();
    let from = found.view.stamp(SlotState::Full, None);
    let slot = found.view.slot(found.ticket).unwrap();
    assert!(slot.change(from, found.view.stamp(SlotState::Taken, Some(me))));
    slot
}

/// A process dies after it claimed as many slots of the queue as it could get, at most `most`.
fn check_that_claims_are_skipped(queue: &Queue, most: u64, claimed: u64) {
    put(queue, b"before");
    in_a_child_that_dies(|| {
        let run = queue.claim(family().unwrap().me(), most).unwrap().unwrap();
        assert_eq!(run.len, claimed);
    });
    put(queue, b"after");
    assert_eq!(get(queue).body(), b"before");
    assert_eq!(get(queue).body(), b"after");
    assert!(is_empty(queue));
    assert!(queue.task_done() && queue.task_done() && !queue.task_done());
    queue.join(Deadline::Now).unwrap();
}

#[test]
fn a_claim_of_the_dead_is_skipped() {
    check_that_claims_are_skipped(&Queue::create(0).unwrap(), 1, 1);
}

#[test]
fn a_run_of_claims_of_the_dead_is_skipped() {
    // There is room for two more.
    check_that_claims_are_skipped(&Queue::create(3).unwrap(), 9, 2);
}

/// A process that may map no more memory is asked whether a queue that it has never seen contains a segment.
#[test]
fn a_process_that_cannot_look_takes_no_segment_for_left() {
    let (mut asking, mut asked) = UnixStream::pair().unwrap();
    let pid = child(|| {
        let mut words = [[0; 8]; 2];
        asked.read_exact(words.as_flattened_mut()).unwrap();
        let [handle, link] = words.map(u64::from_le_bytes);
        let none = libc::rlimit {
            rlim_cur: 1,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const none) }, 0);
        let handle = Handle::from_bits(handle).unwrap();
        assert!(Ref::<Queue>::attach(handle).is_err(), "it can look");
        assert!(Queue::has(handle, Link(link)));
    });
    // The queue lies beyond what the child has mapped.
    let _far: Vec<_> = (0..64).map(|_| Block::alloc(8 << 20).unwrap()).collect();
    let queues: Vec<_> = (0..5000).map(|_| Queue::create(0).unwrap()).collect();
    let queue = queues.last().unwrap();
    put(queue, b"x");
    for word in [queue.handle().to_bits(), queue.front.segment.load(SeqCst)] {
        asking.write_all(&word.to_le_bytes()).unwrap();
    }
    end(pid);
}

#[test]
fn messages_behind_a_slow_producer_are_taken_one_by_one() {
    let queue = Queue::create(0).unwrap();
    let me = family().unwrap().me();
    let run = queue.claim(me, 1).unwrap().unwrap();
    put(&queue, b"b");
    put(&queue, b"c");
    let mut got = Vec::new();
    queue.get_many(9, Deadline::Now, &mut got).unwrap();
    assert_eq!(got.len(), 1, "its producer may have put a message before the next one");
    let out = Outgoing {
        body: b"a",
        ..Outgoing::default()
    };
    run.fill(run.first, Message::pack(out).unwrap(), me);
    queue.get_many(9, Deadline::Now, &mut got).unwrap();
    queue.get_many(9, Deadline::Now, &mut got).unwrap();
    let bodies: Vec<_> = got.iter().map(Incoming::body).collect();
    assert_eq!(bodies, [b"b", b"a", b"c"]);
}

#[test]
fn join_does_not_wait_for_a_put_that_will_never_be() {
    let queue = Queue::create(0).unwrap();
    in_a_child_that_dies(|| {
        queue.claim(family().unwrap().me(), 1).unwrap().unwrap();
    });
    queue.join(Deadline::after(std::time::Duration::from_secs(30))).unwrap();
}

#[test]
fn claims_of_the_dead_make_room_in_a_full_queue() {
    let queue = Queue::create(2).unwrap();
    for _ in 0..SLOTS {
        in_a_child_that_dies(|| {
            let me = family().unwrap().me();
            queue.claim(me, 1).unwrap().unwrap();
            queue.claim(me, 1).unwrap().unwrap();
            assert!(queue.claim(me, 1).unwrap().is_none());
        });
        put(&queue, b"a");
        put(&queue, b"b");
        assert!(queue.is_full().unwrap());
        assert_eq!((get(&queue).body(), get(&queue).body()), (&b"a"[..], &b"b"[..]));
    }
}

#[test]
fn a_message_half_handed_over_is_given_back() {
    let queue = Queue::create(0).unwrap();
    let free = |queue: &Queue| {
        // The same cells are used again, and nothing of the previous round is left.
        put_with_buffers(queue);
        let mut incoming = get(queue);
        incoming.take_buffers().iter().map(Block::as_ptr).collect::<Vec<_>>()
    };
    let before = free(&queue);
    for _ in 0..100 {
        in_a_child_that_dies(|| {
            let run = queue.claim(family().unwrap().me(), 1).unwrap().unwrap();
            let buffer = vec![6; 30_000];
            let out = Outgoing {
                body: b"never seen",
                buffers: &[&buffer, &buffer],
                handles: &[],
                ..Outgoing::default()
            };
            run.first.header.post(Message::pack(out).unwrap());
        });
        assert!(is_empty(&queue));
    }
    let mut after = free(&queue);
    after.sort_unstable();
    let near = before.iter().any(|ptr| {
        after
            .iter()
            .any(|other| (*ptr as usize).abs_diff(*other as usize) < 4 << 20)
    });
    assert!(near, "{before:?} and {after:?}: memory was not given back");
}

#[test]
fn a_message_whose_slot_a_dead_consumer_took_is_put_back() {
    let queue = Queue::create(0).unwrap();
    for (bytes, buffers) in [(&b"small"[..], false), (&[5; 5000], false), (b"buffers", true)] {
        if buffers {
            put_with_buffers(&queue);
        } else {
            put(&queue, bytes);
        }
        in_a_child_that_dies(|| {
            take(&queue);
        });
        put(&queue, b"next");
        assert!(!queue.is_empty().unwrap());
        // `next` comes first: it was there before the dead consumer's message was found and put back.
        assert_eq!(get(&queue).body(), b"next");
        assert_eq!(get(&queue).body(), bytes);
        assert!(is_empty(&queue));
    }
}

#[test]
fn a_message_that_a_dead_consumer_had_half_taken_is_skipped() {
    let queue = Queue::create(0).unwrap();
    put_with_buffers(&queue);
    in_a_child_that_dies(|| {
        let incoming = take(&queue).header.open().unwrap();
        std::mem::forget(incoming);
    });
    assert!(is_empty(&queue));
    assert_eq!(queue.len().unwrap(), 0);
    put(&queue, b"next");
    assert_eq!(get(&queue).body(), b"next");
}

#[test]
fn a_process_that_recovers_a_slot_may_die_too() {
    let queue = Queue::create(0).unwrap();
    in_a_child_that_dies(|| {
        queue.claim(family().unwrap().me(), 1).unwrap().unwrap();
    });
    in_a_child_that_dies(|| {
        let me = family().unwrap().me();
        queue
            .visit(|view, _, slot, stamp| {
                assert_eq!(stamp.state(), Some(SlotState::Claimed));
                assert!(slot.change(stamp, view.stamp(SlotState::Clearing, Some(me))));
                false
            })
            .unwrap();
    });
    assert!(is_empty(&queue));
    put(&queue, b"next");
    assert_eq!(get(&queue).body(), b"next");
}

#[test]
fn a_slow_producer_holds_up_neither_others_nor_the_bound() {
    let queue = Queue::create(2).unwrap();
    let me = family().unwrap().me();
    let run = queue.claim(me, 1).unwrap().unwrap();
    for _ in 0..3 * SLOTS {
        put(&queue, b"quick");
        assert!(queue.is_full().unwrap());
        assert_eq!(get(&queue).body(), b"quick");
        assert!(!queue.is_full().unwrap());
    }
    let out = Outgoing {
        body: b"slow",
        ..Outgoing::default()
    };
    run.fill(run.first, Message::pack(out).unwrap(), me);
    put(&queue, b"last");
    assert!(queue.is_full().unwrap());
    assert_eq!((get(&queue).body(), get(&queue).body()), (&b"slow"[..], &b"last"[..]));
    assert!(is_empty(&queue));
}

#[test]
fn a_link_to_a_segment_used_anew_leads_nowhere() {
    let queue = Queue::create(0).unwrap();
    put(&queue, b"x");
    let old = take_view(&queue);
    assert_eq!(get(&queue).body(), b"x");
    let other: Vec<Ref<Queue>> = (0..10).map(|_| Queue::create(0).unwrap()).collect();
    drop(queue);
    // Its cell is free now, and used for one of these.
    for queue in &other {
        put(queue, b"y");
    }
    let me = family().unwrap().me();
    for slot in old.slots() {
        assert!(!slot.change(
            old.stamp(SlotState::Free, None),
            old.stamp(SlotState::Claimed, Some(me))
        ));
    }
    assert!(!old.append(old.link));
    assert!(other.iter().all(|queue| get(queue).body() == b"y"));
}

fn take_view(queue: &Queue) -> super::segment::SegmentView {
    queue.walk().unwrap().full.unwrap().view
}
