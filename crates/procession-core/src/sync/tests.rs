//! The primitives between real processes, some of which are killed. Each test needs a process of its own (cargo nextest gives it one).

use super::wait::{next_slice, EventCount, Interruptible, SLICE};
use super::*;
use crate::arena::{Kind, Object, Ref};
use crate::roll::tests::{fork, kill, reap, wait_until};
use crate::{Deadline, WaitError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shared words for a test's book-keeping.
#[repr(C)]
struct Board([AtomicU64; 16]);

// SAFETY: atomics only.
unsafe impl Object for Board {
    const KIND: Kind = Kind::Event;
    const NAME: &'static str = "test board";
}

impl Board {
    fn get(&self, at: usize) -> u64 {
        self.0[at].load(Ordering::SeqCst)
    }

    fn add(&self, at: usize) -> u64 {
        self.0[at].fetch_add(1, Ordering::SeqCst)
    }
}

fn board() -> Ref<Board> {
    Ref::create().unwrap()
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// Long enough to never end in a test that works.
fn patience() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// How many processes of the family are announced as waiting for this kind of object.
fn asleep(kind: Kind) -> usize {
    let members = crate::roll::members();
    members
        .iter()
        .filter(|member| member.waits.iter().any(|wait| wait.0 == kind as u32))
        .count()
}

#[test]
fn a_lock_excludes() {
    const EACH: u64 = 20_000;
    let (lock, rlock, board) = (Lock::create().unwrap(), RLock::create().unwrap(), board());
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                for _ in 0..EACH {
                    lock.acquire(Deadline::Never).unwrap();
                    let value = board.get(0);
                    board.0[0].store(value + 1, Ordering::Relaxed);
                    assert!(lock.is_mine());
                    assert!(lock.release());
                    rlock.acquire(Deadline::Never).unwrap();
                    rlock.acquire(Deadline::Now).unwrap();
                    let value = board.get(1);
                    board.0[1].store(value + 1, Ordering::Relaxed);
                    assert!(rlock.release() && rlock.is_mine() && rlock.release());
                }
                true
            })
        })
        .collect();
    for child in children {
        assert_eq!(reap(child), 0);
    }
    assert_eq!((board.get(0), board.get(1)), (4 * EACH, 4 * EACH));
    assert!(!lock.release(), "nobody holds it");
    assert!(!rlock.release());
}

#[test]
fn anybody_may_release_a_lock_but_only_its_holder_an_rlock() {
    let (lock, rlock) = (Lock::create().unwrap(), RLock::create().unwrap());
    lock.acquire(Deadline::Never).unwrap();
    rlock.acquire(Deadline::Never).unwrap();
    let child = fork(|| {
        let inherited = lock.is_mine() || rlock.is_mine();
        !inherited && !rlock.release() && lock.release()
    });
    assert_eq!(reap(child), 0);
    assert!(lock.try_acquire().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(!rlock.is_mine() && !rlock.release() && lock.release()));
    });
    assert!(rlock.is_mine());
    assert_eq!(rlock.release_save(), 1);
    assert!(rlock.owner().is_none());
    rlock.inherit_restore(3, Deadline::Now).unwrap();
    assert_eq!(rlock.count(), 3);
}

#[test]
fn a_lock_times_out_and_a_probe_does_not_wait() {
    let lock = Lock::create().unwrap();
    lock.acquire(Deadline::Now).unwrap();
    for deadline in [Deadline::Now, Deadline::after(Duration::from_millis(20))] {
        assert!(matches!(lock.acquire(deadline), Err(WaitError::TimedOut)));
    }
}

fn one_heir(acquire: impl Fn(Deadline) -> Result<(), WaitError>, release: impl Fn() -> bool, kind: Kind) {
    let board = board();
    let holder = fork(|| {
        acquire(Deadline::Now).unwrap();
        board.add(0);
        forever()
    });
    wait_until(|| board.get(0) == 1);
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            fork(|| loop {
                match acquire(patience()) {
                    Ok(()) => {
                        board.add(2);
                        return release();
                    }
                    Err(WaitError::OwnerDied(_)) => board.add(1),
                    Err(_) => return false,
                };
            })
        })
        .collect();
    wait_until(|| asleep(kind) == 3);
    kill(holder);
    for waiter in waiters {
        assert_eq!(reap(waiter), 0);
    }
    assert_eq!(board.get(1), 1, "one heir, and one only");
    assert_eq!(board.get(2), 3, "all of them got the lock");
    reap(holder);
    acquire(Deadline::Now).unwrap();
}

#[test]
fn the_death_of_a_locks_holder_is_told_to_exactly_one() {
    let lock = Lock::create().unwrap();
    one_heir(|deadline| lock.acquire(deadline), || lock.release(), Kind::Lock);
}

#[test]
fn the_death_of_an_rlocks_holder_is_told_to_exactly_one() {
    let lock = RLock::create().unwrap();
    one_heir(|deadline| lock.acquire(deadline), || lock.release(), Kind::RLock);
}

#[test]
fn a_probe_learns_of_a_dead_holder() {
    let lock = Lock::create().unwrap();
    let holder = fork(|| lock.try_acquire().unwrap());
    assert_eq!(reap(holder), 0);
    let mut died = 0;
    wait_until(|| match lock.acquire(Deadline::Now) {
        Ok(()) => true,
        Err(WaitError::OwnerDied(_)) => {
            died += 1;
            false
        }
        Err(_) => false,
    });
    assert_eq!(died, 1);
}

#[test]
fn a_killed_waiter_leaves_the_lock_to_the_others() {
    let (lock, board) = (Lock::create().unwrap(), board());
    lock.acquire(Deadline::Now).unwrap();
    let wait = || {
        lock.acquire(patience()).unwrap();
        board.add(0);
        lock.release()
    };
    let victims: Vec<_> = (0..3).map(|_| fork(wait)).collect();
    let heirs: Vec<_> = (0..3).map(|_| fork(wait)).collect();
    wait_until(|| asleep(Kind::Lock) == 6);
    for &victim in &victims {
        kill(victim);
    }
    lock.release();
    for heir in heirs {
        assert_eq!(reap(heir), 0);
    }
    assert_eq!(board.get(0), 3);
    for victim in victims {
        reap(victim);
    }
}

#[test]
fn a_semaphore_counts() {
    const EACH: u64 = 20_000;
    let (semaphore, board) = (Semaphore::create(2, SEM_VALUE_MAX).unwrap(), board());
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                for _ in 0..EACH {
                    semaphore.acquire(patience()).unwrap();
                    assert!(board.add(0) < 2, "three at once");
                    board.0[0].fetch_sub(1, Ordering::SeqCst);
                    assert!(semaphore.release().unwrap());
                }
                true
            })
        })
        .collect();
    for child in children {
        assert_eq!(reap(child), 0);
    }
    assert_eq!(semaphore.value(), 2);
}

#[test]
fn a_bounded_semaphore_knows_its_bound() {
    let semaphore = Semaphore::create(1, 1).unwrap();
    assert!(!semaphore.release().unwrap());
    assert!(semaphore.try_acquire().unwrap() && !semaphore.try_acquire().unwrap());
    assert!(semaphore.release().unwrap() && !semaphore.release().unwrap());
    let full = Semaphore::create(SEM_VALUE_MAX, SEM_VALUE_MAX).unwrap();
    assert!(!full.release().unwrap());
}

#[test]
fn units_pass_between_processes_though_waiters_are_killed() {
    const UNITS: u64 = 2_000;
    let (semaphore, board) = (Semaphore::create(0, SEM_VALUE_MAX).unwrap(), board());
    let take = || loop {
        if semaphore.acquire(Deadline::after(Duration::from_secs(60))).is_err() {
            return false;
        }
        if board.add(0) + 1 >= UNITS {
            return true;
        }
    };
    let mut victims = Vec::new();
    let takers: Vec<_> = (0..2).map(|_| fork(take)).collect();
    for unit in 0..UNITS {
        if unit % 100 == 0 {
            let victim = fork(|| semaphore.acquire(patience()).is_ok() && semaphore.release().unwrap() && take());
            kill(victim);
            victims.push(victim);
        }
        semaphore.release().unwrap();
    }
    // A victim may have died with a unit in its hand, as with any semaphore: make those up.
    for _ in 0..victims.len() + takers.len() {
        semaphore.release().unwrap();
    }
    for taker in takers {
        assert_eq!(reap(taker), 0);
    }
    for victim in victims {
        reap(victim);
    }
}

#[test]
fn a_pulse_wakes_all_who_wait() {
    let (event, board) = (Event::create().unwrap(), board());
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                let begun = event.begin();
                board.add(0);
                event.wait(begun, patience()).is_ok()
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

/// A child that waits in a condition and then writes down when it was woken.
fn in_line(condition: &Condition, board: &Board, mark: usize) -> i32 {
    let before = condition.waiting();
    let child = fork(|| {
        let mut waiter = condition.enqueue().unwrap();
        if waiter.wait(patience()).is_err() {
            return false;
        }
        board.0[mark].store(board.add(0) + 1, Ordering::SeqCst);
        true
    });
    wait_until(|| condition.waiting() == before + 1);
    child
}

#[test]
fn a_condition_notifies_in_order_and_skips_the_dead() {
    let (condition, board) = (Condition::create().unwrap(), board());
    condition.notify(1);
    let children: Vec<_> = (1..=6).map(|mark| in_line(&condition, &board, mark)).collect();
    kill(children[1]);
    reap(children[1]);
    for _ in 0..3 {
        let done = board.get(0);
        condition.notify(1);
        wait_until(|| board.get(0) == done + 1);
    }
    let order: Vec<_> = (1..=6).map(|mark| board.get(mark)).collect();
    assert_eq!(order, [1, 0, 2, 3, 0, 0]);
    condition.notify_all();
    for (at, child) in children.into_iter().enumerate() {
        if at != 1 {
            assert_eq!(reap(child), 0);
        }
    }
    assert_eq!(condition.waiting(), 0);
}

#[test]
fn a_notification_eaten_by_the_dead_goes_to_the_next() {
    let (condition, board) = (Condition::create().unwrap(), board());
    let stopped = fork(|| {
        let _waiter = condition.enqueue().unwrap();
        forever()
    });
    wait_until(|| condition.waiting() == 1);
    let heir = in_line(&condition, &board, 1);
    condition.notify(1);
    assert_eq!(board.get(1), 0, "the first in line is alive, and got it");
    kill(stopped);
    reap(stopped);
    assert_eq!(reap(heir), 0);
}

#[test]
fn who_leaves_the_line_passes_its_notification_on() {
    let (condition, board) = (Condition::create().unwrap(), board());
    let mut late = condition.enqueue().unwrap();
    assert!(matches!(
        late.wait(Deadline::after(Duration::from_millis(5))),
        Err(WaitError::TimedOut)
    ));
    assert_eq!(condition.waiting(), 0);
    let quitter = condition.enqueue().unwrap();
    let heir = in_line(&condition, &board, 1);
    condition.notify(1);
    drop(quitter);
    assert_eq!(reap(heir), 0);
}

#[test]
fn a_long_line_is_served_in_order_too() {
    const LENGTH: usize = 150;
    let condition = Condition::create().unwrap();
    let mut line: Vec<_> = (0..LENGTH).map(|_| condition.enqueue().unwrap()).collect();
    assert_eq!(condition.waiting(), LENGTH);
    condition.notify(100);
    for (at, waiter) in line.iter_mut().enumerate() {
        assert_eq!(waiter.wait(Deadline::Now).is_ok(), at < 100, "place {at}");
    }
    assert_eq!(condition.waiting(), 0);
}

fn meet(barrier: &Barrier, deadline: Deadline) -> Result<usize, BarrierError> {
    match barrier.arrive()? {
        Arrival::Last(last) => {
            let index = last.index();
            last.release();
            Ok(index)
        }
        Arrival::Waits(mut participant) => {
            participant.wait(deadline)?;
            Ok(participant.index())
        }
    }
}

#[test]
fn a_barrier_keeps_rounds_apart() {
    const PARTIES: u64 = 3;
    const ROUNDS: u64 = 2_000;
    let (barrier, board) = (Barrier::create(PARTIES as u32).unwrap(), board());
    let children: Vec<_> = (0..PARTIES)
        .map(|_| {
            fork(|| {
                (0..ROUNDS).all(|round| {
                    board.add(0);
                    let index = meet(&barrier, patience()).unwrap();
                    board.add(1 + index);
                    let seen = board.get(0);
                    let fine = seen >= (round + 1) * PARTIES && seen < (round + 2) * PARTIES;
                    meet(&barrier, patience()).unwrap();
                    fine
                })
            })
        })
        .collect();
    for child in children {
        assert_eq!(reap(child), 0);
    }
    assert_eq!([board.get(1), board.get(2), board.get(3)], [ROUNDS; 3]);
    assert_eq!(barrier.waiting(), 0);
}

#[test]
fn the_death_of_a_participant_breaks_the_barrier() {
    let barrier = Barrier::create(4).unwrap();
    let join = || matches!(meet(&barrier, patience()), Err(BarrierError::Broken));
    let children: Vec<_> = (1..=3)
        .map(|count| {
            let child = fork(join);
            wait_until(|| barrier.waiting() == count);
            child
        })
        .collect();
    kill(children[1]);
    reap(children[1]);
    assert_eq!(reap(children[0]), 0);
    assert_eq!(reap(children[2]), 0);
    assert!(barrier.is_broken());
    barrier.reset().unwrap();
    assert!(!barrier.is_broken());
}

#[test]
fn death_in_the_action_breaks_the_barrier() {
    let barrier = Barrier::create(2).unwrap();
    let waiter = fork(|| matches!(meet(&barrier, patience()), Err(BarrierError::Broken)));
    wait_until(|| barrier.waiting() == 1);
    let actor = fork(|| {
        let Ok(Arrival::Last(_last)) = barrier.arrive() else {
            return false;
        };
        forever()
    });
    wait_until(|| barrier.is_acting());
    kill(actor);
    reap(actor);
    assert_eq!(reap(waiter), 0);
    assert!(barrier.is_broken());
}

#[test]
fn a_barrier_breaks_by_timeout_abort_and_reset() {
    let barrier = Barrier::create(2).unwrap();
    let late = meet(&barrier, Deadline::after(Duration::from_millis(5)));
    assert!(matches!(late, Err(BarrierError::Broken)) && barrier.is_broken());
    assert!(matches!(meet(&barrier, patience()), Err(BarrierError::Broken)));
    barrier.reset().unwrap();
    for end in [Barrier::abort, Barrier::reset] {
        let waiter = fork(|| matches!(meet(&barrier, patience()), Err(BarrierError::Broken)));
        wait_until(|| barrier.waiting() == 1);
        end(&barrier).unwrap();
        assert_eq!(reap(waiter), 0);
        barrier.reset().unwrap();
    }
    let waiter = fork(|| meet(&barrier, patience()).is_ok_and(|index| index == 0));
    wait_until(|| barrier.waiting() == 1);
    assert_eq!(meet(&barrier, patience()).unwrap(), 1);
    assert_eq!(reap(waiter), 0);
}

#[test]
fn an_interruptible_wait_sleeps_no_longer_than_it_has() {
    let began = Instant::now();
    let (event, mut wait) = (EventCount::default(), Interruptible::default());
    let mut slices = 0;
    while began.elapsed() < Duration::from_millis(100) {
        let lasted = began.elapsed();
        let next = wait.run(|| {
            // Once more, so that the wait has surely begun: it tells what it would sleep.
            next_slice(SLICE, Deadline::Never)
        });
        assert!(
            next >= Duration::from_millis(2) && next <= began.elapsed().max(Duration::from_millis(2)),
            "{next:?}"
        );
        let end = wait.run(|| event.wait(Deadline::Never, || None::<()>));
        assert!(matches!(end, Err(WaitError::Interrupted)));
        assert!(began.elapsed() >= lasted + next);
        slices += 1;
    }
    // 2, 2, 4, 8, 16, 32 and 64 ms: fewer where the machine is slow, never more.
    assert!(slices <= 7, "{slices}");
    let end = wait.run(|| event.wait(Deadline::after(Duration::from_millis(1)), || None::<()>));
    assert!(matches!(end, Err(WaitError::TimedOut)), "the deadline is kept");
    assert_eq!(
        next_slice(SLICE, Deadline::Never),
        SLICE,
        "other waits have long slices"
    );
}

#[test]
fn a_timeout_is_honoured_and_a_true_condition_needs_no_wait() {
    let event = EventCount::default();
    assert_eq!(event.wait(Deadline::Now, || Some(7)).unwrap(), 7);
    let late = event.wait(Deadline::after(Duration::from_millis(20)), || None::<()>);
    assert!(matches!(late, Err(WaitError::TimedOut)));
}

#[test]
fn tokens_are_neither_lost_nor_doubled() {
    const EACH: u64 = 20_000;
    let event = EventCount::default();
    let tokens = AtomicU64::new(0);
    let taken = AtomicU64::new(0);
    let take = || {
        tokens
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |value| value.checked_sub(1))
            .ok()
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    event.wait(Deadline::Never, take).unwrap();
                    taken.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..EACH * 3 / 2 {
                    tokens.fetch_add(1, Ordering::SeqCst);
                    event.notify(1);
                }
            });
        }
    });
    assert_eq!((taken.into_inner(), tokens.into_inner()), (EACH * 3, 0));
}

#[test]
fn whom_a_barrier_lets_go_sees_nobody_wait() {
    for _ in 0..500 {
        let barrier = Barrier::create(4).unwrap();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    meet(&barrier, patience()).unwrap();
                    assert_eq!(barrier.waiting(), 0);
                });
            }
        });
    }
}
