//! Conditions: their order, and notifications that went to waiters that died.

use super::*;
use crate::arena::Block;
use crate::Error;

#[test]
fn a_pulse_wakes_all_waiters() {
    let (event, board) = (Event::create().unwrap(), board());
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                let begun = event.begin();
                board.add(0);
                event.wait(begun, timeout()).is_ok()
            })
        })
        .collect();
    wait_until(|| board.get(0) == 4);
    kill(waiters[0]);
    event.set();
    event.clear();
    for waiter in &waiters[1..] {
        assert_eq!(reap(*waiter), 0);
    }
    reap(waiters[0]);
    assert!(!event.is_set());
    let late = event.wait(event.begin(), Deadline::after(Duration::from_millis(10)));
    assert!(matches!(late, Err(WaitError::TimedOut)));
    event.set();
    event.wait(event.begin(), Deadline::Now).unwrap();
}

/// A child that waits in a condition and then records in which order it was woken.
fn enqueue(condition: &Condition, board: &Board, mark: usize) -> i32 {
    let before = condition.waiting().unwrap();
    let child = fork(|| {
        let mut waiter = condition.enqueue().unwrap();
        if waiter.wait(timeout()).is_err() {
            return false;
        }
        board.0[mark].store(board.add(0) + 1, Ordering::SeqCst);
        true
    });
    wait_until(|| condition.waiting().unwrap() == before + 1);
    child
}

#[test]
fn a_condition_notifies_in_order_and_skips_the_dead() {
    let (condition, board) = (Condition::create().unwrap(), board());
    condition.notify(1).unwrap();
    let children: Vec<_> = (1..=6).map(|mark| enqueue(&condition, &board, mark)).collect();
    kill(children[1]);
    reap(children[1]);
    for _ in 0..3 {
        let done = board.get(0);
        condition.notify(1).unwrap();
        wait_until(|| board.get(0) == done + 1);
    }
    let order: Vec<_> = (1..=6).map(|mark| board.get(mark)).collect();
    assert_eq!(order, [1, 0, 2, 3, 0, 0]);
    condition.notify_all().unwrap();
    for (at, child) in children.into_iter().enumerate() {
        if at != 1 {
            assert_eq!(reap(child), 0);
        }
    }
    assert_eq!(condition.waiting().unwrap(), 0);
}

#[test]
fn a_notification_that_a_dead_waiter_got_goes_to_the_next() {
    let (condition, board) = (Condition::create().unwrap(), board());
    let stopped = fork(|| {
        let _waiter = condition.enqueue().unwrap();
        forever()
    });
    wait_until(|| condition.waiting().unwrap() == 1);
    let next = enqueue(&condition, &board, 1);
    condition.notify(1).unwrap();
    assert_eq!(board.get(1), 0, "the first waiter is alive, and got it");
    kill(stopped);
    reap(stopped);
    assert_eq!(reap(next), 0);
}

#[test]
fn a_waiter_that_leaves_passes_its_notification_on() {
    let (condition, board) = (Condition::create().unwrap(), board());
    let mut late = condition.enqueue().unwrap();
    assert!(matches!(
        late.wait(Deadline::after(Duration::from_millis(5))),
        Err(WaitError::TimedOut)
    ));
    assert_eq!(condition.waiting().unwrap(), 0);
    let leaver = condition.enqueue().unwrap();
    let next = enqueue(&condition, &board, 1);
    condition.notify(1).unwrap();
    drop(leaver);
    assert_eq!(reap(next), 0);
}

#[test]
fn a_long_queue_of_waiters_is_notified_in_order_too() {
    const LENGTH: usize = 150;
    let condition = Condition::create().unwrap();
    let mut waiters: Vec<_> = (0..LENGTH).map(|_| condition.enqueue().unwrap()).collect();
    assert_eq!(condition.waiting().unwrap(), LENGTH);
    condition.notify(100).unwrap();
    for (at, waiter) in waiters.iter_mut().enumerate() {
        assert_eq!(waiter.wait(Deadline::Now).is_ok(), at < 100, "waiter {at}");
    }
    assert_eq!(condition.waiting().unwrap(), 0);
}

/// A process without address space for a part of the list of waiters must not take them for none.
#[test]
fn waiters_out_of_reach_are_an_error() {
    let limit = |bytes| {
        let limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: `limit` outlives the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    };
    let (condition, board) = (Condition::create().unwrap(), board());
    let looker = fork(|| {
        board.add(0);
        wait_until(|| board.get(1) == 1);
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = text.split_whitespace().next().unwrap().parse().unwrap();
        limit(pages * 4096 + (1 << 20)); // less than a window
        let out_of_reach = [
            condition.waiting().map(drop),
            condition.notify(1),
            condition.notify_all(),
        ];
        let all_fail = out_of_reach
            .iter()
            .all(|end| matches!(end, Err(Error::Exhausted { .. })));
        limit(libc::RLIM_INFINITY);
        let left = condition.waiting().unwrap();
        condition.notify_all().unwrap();
        all_fail && left > 0 && condition.waiting().unwrap() == 0
    });
    wait_until(|| board.get(0) == 1);
    // Windows that the child has not mapped.
    let filling: Vec<_> = (0..40_000).map(|_| Block::alloc(500).unwrap()).collect();
    let mut waiters: Vec<_> = (0..100).map(|_| condition.enqueue().unwrap()).collect();
    board.add(1);
    assert_eq!(reap(looker), 0);
    for waiter in &mut waiters {
        waiter.wait(Deadline::Now).unwrap();
    }
    drop(filling);
}
