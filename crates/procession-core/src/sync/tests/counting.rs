//! Semaphores, and waiting itself.

use super::wait::FIRST_SLICE;
use super::*;
use crate::liveness;
use crate::sync::permits::Permits;
use crate::sync::waiters::Chunk;
use Ordering::Relaxed;

#[test]
fn a_semaphore_counts() {
    const EACH: u64 = 20_000;
    let (semaphore, board) = (Semaphore::create(2, SEM_VALUE_MAX).unwrap(), board());
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                for _ in 0..EACH {
                    semaphore.acquire(timeout()).unwrap();
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
            let victim = fork(|| semaphore.acquire(timeout()).is_ok() && semaphore.release().unwrap() && take());
            kill(victim);
            victims.push(victim);
        }
        semaphore.release().unwrap();
    }
    // A victim may have died while it held a permit, as with any semaphore: replace those.
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
fn an_interruptible_wait_sleeps_no_longer_than_it_has() {
    let began = Instant::now();
    let (event, mut wait) = (EventCount::default(), Interruptible::default());
    let mut slices = 0;
    while began.elapsed() < FIRST_SLICE * 10 {
        let lasted = began.elapsed();
        let next = wait.run(|| {
            // Called once more, so that the wait has surely begun; returns how long it would sleep.
            next_slice(SLICE, Deadline::Never)
        });
        assert!(
            next >= FIRST_SLICE && next <= began.elapsed().max(FIRST_SLICE),
            "{next:?}"
        );
        let end = wait.run(|| event.wait(Deadline::Never, || None::<()>));
        assert!(matches!(end, Err(WaitError::Interrupted)));
        assert!(began.elapsed() >= lasted + next);
        slices += 1;
    }
    // 1, 1, 2, 4 and 8 times the first: fewer where the machine is slow, never more.
    assert!(slices <= 5, "{slices}");
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
fn damaged_accounts_are_neither_free_nor_owned() {
    let holders: Ref<Chunk> = Ref::create().unwrap();
    let state: Ref<Permits> = Ref::create().unwrap();
    state.bound.store(2, Relaxed);
    state.word.store(2, Relaxed);
    let me = u64::from(liveness::me().unwrap().to_bits());
    let damaged = [1 << 32, 1 << 32 | me, 1 << 32 | 1 << 31 | me];
    for ([owner, _], word) in holders.pairs().zip(damaged) {
        owner.store(word, Relaxed);
    }
    assert!(permit_log::take(&state, &holders).unwrap() && permit_log::take(&state, &holders).unwrap());
    assert!(!permit_log::take(&state, &holders).unwrap());
    assert!(permit_log::give(&state, &holders).unwrap());
    assert!(!permit_log::reclaim(&state, &holders).unwrap());
    let left: Vec<_> = holders.pairs().take(3).map(|[owner, _]| owner.load(Relaxed)).collect();
    assert_eq!(left, damaged);
}
