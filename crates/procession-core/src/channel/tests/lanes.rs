//! Lanes: which messages are handed over, what names them in a descriptor, and what deaths leave.

use super::super::{Lane, Message, Outgoing};
use super::child;
use crate::{Deadline, Error, Result, WaitError};

/// Run `work` in a child that then ends. All of the family know that it is dead.
fn in_a_child_that_dies(work: impl FnOnce()) {
    super::in_a_child_that_dies(work);
    crate::liveness::sweep();
}

/// The slots of a lane.
const SLOTS: usize = 31;

fn message(body: &[u8]) -> Message {
    let out = Outgoing {
        body,
        ..Outgoing::default()
    };
    Message::pack(out).unwrap()
}

fn hands_over(lane: &Lane, body: &[u8]) -> bool {
    let posted = lane.post(message(body)).unwrap().expect("a slot");
    posted.hand_over().is_ok()
}

/// Send through a descriptor. Returns the header of the frame.
fn name(lane: &Lane, body: &[u8]) -> Option<i32> {
    let posted = lane.post(message(body)).unwrap()?;
    let Ok(named) = posted.announce() else { panic!("plain") };
    let frame = named.frame();
    named.written();
    Some(i32::from_be_bytes(frame))
}

fn open(lane: &Lane, header: i32) -> Result<Vec<u8>> {
    let incoming = lane.open(header)?;
    lane.settle();
    Ok(incoming.body().to_vec())
}

fn left(lane: &Lane) -> Option<Vec<u8>> {
    lane.take_left().unwrap().map(|incoming| incoming.body().to_vec())
}

fn is_bad(result: &Result<Vec<u8>>) -> bool {
    matches!(result, Err(Error::Corrupt(_)))
}

/// How many messages fit into the slots.
fn room(lane: &Lane) -> usize {
    let headers: Vec<_> = std::iter::from_fn(|| name(lane, b"x")).collect();
    for &header in &headers {
        open(lane, header).unwrap();
    }
    headers.len()
}

#[test]
fn only_a_receiver_that_waits_is_handed_a_message() {
    let lane = Lane::create().unwrap();
    assert!(!lane.is_awaited() && !hands_over(&lane, b"a"));
    assert!(lane.begin().unwrap() && lane.is_awaited());
    assert!(!lane.begin().unwrap(), "one receiver at a time");
    assert!(hands_over(&lane, b"b"));
    assert!(!lane.is_awaited() && !hands_over(&lane, b"c"));
    assert_eq!(lane.withdraw().unwrap().unwrap().body(), b"b");
    assert!(lane.begin().unwrap());
    assert!(lane.withdraw().unwrap().is_none());
    assert!(!lane.is_awaited() && !hands_over(&lane, b"d"));
    assert_eq!(room(&lane), SLOTS);
}

#[test]
fn what_was_announced_comes_first() {
    let lane = Lane::create().unwrap();
    let header = name(&lane, b"a").unwrap();
    assert!(lane.is_pending() && !lane.begin().unwrap());
    assert_eq!(open(&lane, header).unwrap(), b"a");
    assert!(!lane.is_pending() && lane.begin().unwrap());
    // A sender that has not seen the receiver.
    let frame = lane.announce().unwrap();
    assert!(!lane.is_awaited() && !hands_over(&lane, b"b"));
    frame.written();
    assert!(lane.withdraw().unwrap().is_none());
    lane.settle();
    assert!(!lane.is_pending());
}

#[test]
fn a_frame_that_is_not_written_is_taken_back() {
    let lane = Lane::create().unwrap();
    drop(lane.announce().unwrap());
    assert!(!lane.is_pending());
    let posted = lane.post(message(&[7; 5000])).unwrap().unwrap();
    let Ok(named) = posted.announce() else { panic!("plain") };
    let header = i32::from_be_bytes(named.frame());
    drop(named);
    assert!(!lane.is_pending() && is_bad(&open(&lane, header)));
    assert_eq!(room(&lane), SLOTS);
}

#[test]
fn a_plain_pipe_stays_plain() {
    let lane = Lane::create().unwrap();
    let header = name(&lane, b"before").unwrap();
    assert!(lane.begin().is_ok());
    lane.go_plain();
    assert!(lane.is_plain() && lane.announce().is_none() && !lane.begin().unwrap());
    let posted = lane.post(message(b"after")).unwrap().unwrap();
    let Err(posted) = posted.announce() else {
        panic!("not plain")
    };
    assert!(posted.hand_over().is_err());
    // What was named before is still there.
    assert_eq!(open(&lane, header).unwrap(), b"before");
}

#[test]
fn a_receiver_that_waits_does_not_keep_a_pipe_from_becoming_plain() {
    let lane = Lane::create().unwrap();
    assert!(lane.begin().unwrap());
    assert!(hands_over(&lane, b"a"));
    lane.go_plain();
    assert_eq!(lane.withdraw().unwrap().unwrap().body(), b"a");
    let other = Lane::create().unwrap();
    assert!(other.begin().unwrap());
    other.go_plain();
    assert!(!hands_over(&other, b"b") && other.withdraw().unwrap().is_none());
}

#[test]
fn frames_that_no_sender_wrote() {
    let lane = Lane::create().unwrap();
    let header = name(&lane, b"a").unwrap();
    for wrong in [
        -1,
        -2,
        -3,
        header + 1,
        header - 1,
        header - 32,
        header + 32,
        i32::MIN,
        i32::MIN + 1,
        0,
        i32::MAX,
    ] {
        assert!(is_bad(&open(&lane, wrong)), "{wrong}");
    }
    assert_eq!(open(&lane, header).unwrap(), b"a");
    assert!(is_bad(&open(&lane, header)), "twice");
}

#[test]
fn bytes_and_slots_are_bounded() {
    let lane = Lane::create().unwrap();
    let large = vec![1; 20 << 20];
    let header = name(&lane, &large).expect("one message of any size");
    assert!(name(&lane, &large[..5000]).is_none(), "no second one");
    assert!(name(&lane, b"small").is_some());
    assert_eq!(open(&lane, header).unwrap(), large);
    let megabytes: Vec<_> = std::iter::from_fn(|| name(&lane, &large[..3 << 20])).collect();
    assert_eq!(megabytes.len(), 5);
}

#[test]
fn a_sender_waits_until_there_is_room() {
    let lane = Lane::create().unwrap();
    let large = vec![1; 9 << 20];
    let waits = |deadline| lane.wait_for_room(large.len(), deadline);
    waits(Deadline::Now).unwrap();
    let header = name(&lane, &large).unwrap();
    assert!(matches!(waits(Deadline::Now), Err(WaitError::TimedOut)));
    let waiter = child(|| waits(Deadline::Never).unwrap());
    assert_eq!(open(&lane, header).unwrap().len(), large.len());
    super::end(waiter);
    // Slots are room, too; and in a plain pipe no sender waits for any.
    while name(&lane, b"x").is_some() {}
    assert!(matches!(lane.wait_for_room(1, Deadline::Now), Err(WaitError::TimedOut)));
    lane.go_plain();
    lane.wait_for_room(1, Deadline::Now).unwrap();
}

#[test]
fn a_message_handed_to_the_dead_is_taken_by_the_next() {
    let lane = Lane::create().unwrap();
    let waits = || assert!(lane.begin().unwrap());
    in_a_child_that_dies(waits);
    assert!(hands_over(&lane, b"a"));
    assert!(lane.has_left());
    assert_eq!(left(&lane).unwrap(), b"a");
    assert!(!lane.has_left() && left(&lane).is_none());
    // A receiver that had begun to take it, before it died.
    in_a_child_that_dies(waits);
    assert!(hands_over(&lane, &[8; 3000]));
    in_a_child_that_dies(|| assert_eq!(left(&lane).unwrap(), [8; 3000]));
    assert!(left(&lane).is_none() && lane.begin().unwrap());
    assert!(hands_over(&lane, b"c"));
    assert_eq!(lane.withdraw().unwrap().unwrap().body(), b"c");
    assert_eq!(room(&lane), SLOTS);
}

#[test]
fn a_receiver_that_is_known_to_be_dead_is_handed_nothing() {
    let lane = Lane::create().unwrap();
    in_a_child_that_dies(|| assert!(lane.begin().unwrap()));
    assert!(!lane.is_awaited());
    assert!(lane.begin().unwrap() && lane.withdraw().unwrap().is_none());
}

#[test]
fn a_message_of_a_living_receiver_is_not_taken() {
    let lane = Lane::create().unwrap();
    let (read, write) = rustix::pipe::pipe().unwrap();
    let (done_read, done_write) = rustix::pipe::pipe().unwrap();
    let pid = child(|| {
        assert!(lane.begin().unwrap());
        rustix::io::write(&write, b".").unwrap();
        rustix::io::read(&done_read, &mut [0; 1]).unwrap();
        assert_eq!(lane.withdraw().unwrap().unwrap().body(), b"its own");
    });
    rustix::io::read(&read, &mut [0; 1]).unwrap();
    assert!(hands_over(&lane, b"its own"));
    assert!(!lane.has_left() && left(&lane).is_none() && !lane.begin().unwrap());
    assert!(lane.withdraw().unwrap().is_none());
    rustix::io::write(&done_write, b".").unwrap();
    super::end(pid);
}

#[test]
fn slots_that_the_dead_had_claimed_or_taken_are_used_again() {
    let lane = Lane::create().unwrap();
    for _ in 0..3 {
        in_a_child_that_dies(|| {
            let me = crate::liveness::me().unwrap();
            lane.claim(me).unwrap();
        });
        let header = name(&lane, &[3; 9000]).unwrap();
        in_a_child_that_dies(|| {
            let me = crate::liveness::me().unwrap();
            lane.begin_to_open(header, me).unwrap();
        });
    }
    assert_eq!(room(&lane), SLOTS);
}

#[test]
fn messages_end_with_the_lane() {
    crate::family().unwrap();
    let before = crate::arena::counters().unwrap();
    let lane = Lane::create().unwrap();
    for _ in 0..5 {
        name(&lane, &vec![5; 100_000]).unwrap();
    }
    assert!(lane.begin().is_ok());
    drop(lane);
    let after = crate::arena::counters().unwrap();
    assert_eq!((before.transit, before.objects), (after.transit, after.objects));
}
