//! Barriers: rounds, and what breaks them.

use super::*;

fn meet(barrier: &Barrier, deadline: Deadline) -> Result<usize, BarrierError> {
    match barrier.arrive(timeout())? {
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
                    let index = meet(&barrier, timeout()).unwrap();
                    board.add(1 + index);
                    let seen = board.get(0);
                    let fine = seen >= (round + 1) * PARTIES && seen < (round + 2) * PARTIES;
                    meet(&barrier, timeout()).unwrap();
                    fine
                })
            })
        })
        .collect();
    for child in children {
        assert_eq!(reap(child), 0);
    }
    assert_eq!([board.get(1), board.get(2), board.get(3)], [ROUNDS; 3]);
    assert_eq!(barrier.waiting().unwrap(), 0);
}

#[test]
fn the_action_may_call_its_barrier() {
    let barrier = Barrier::create(1).unwrap();
    let last = || match barrier.arrive(Deadline::Now) {
        Ok(Arrival::Last(last)) => last,
        _ => panic!("it is the only party"),
    };
    let acting = last();
    barrier.abort().unwrap();
    barrier.reset().unwrap();
    assert!(matches!(barrier.arrive(Deadline::Never), Err(BarrierError::Broken)));
    acting.release();
    assert!(!barrier.is_broken());
    last().release();
}

#[test]
fn the_death_of_a_participant_breaks_the_barrier() {
    let barrier = Barrier::create(4).unwrap();
    let join = || matches!(meet(&barrier, timeout()), Err(BarrierError::Broken));
    let children: Vec<_> = (1..=3)
        .map(|count| {
            let child = fork(join);
            wait_until(|| barrier.waiting().unwrap() == count);
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

/// Arrive at the barrier and wait until it breaks; no timeout breaks it.
fn is_told(barrier: &Barrier) -> bool {
    matches!(meet(barrier, Deadline::Never), Err(BarrierError::Broken))
}

/// Kill one of the waiters at the barrier: all others are told.
fn all_are_told(barrier: &Barrier, mut waiting: Vec<i32>, victim: usize) {
    let victim = waiting.remove(victim);
    kill(victim);
    reap(victim);
    let noticed = Instant::now() + Duration::from_secs(20);
    while !barrier.is_broken() && Instant::now() < noticed {
        std::thread::yield_now();
    }
    let broken = barrier.is_broken();
    for child in waiting {
        if !broken {
            kill(child);
        }
        assert_eq!(reap(child), if broken { 0 } else { -libc::SIGKILL });
    }
    assert!(broken, "the death went unnoticed");
}

/// A slot is taken and given back by timeout or by an exception, so that later arrivals have slots before those of
/// earlier ones.
#[test]
fn a_death_is_noticed_whatever_slots_the_parties_take() {
    const PARTIES: usize = 4;
    // `leaver` gives its slot up before the last waiter arrives (`PARTIES`: none does); `victim` is the waiter that is
    // killed then.
    for leaver in 0..PARTIES {
        for victim in 0..PARTIES - 1 {
            let barrier = Barrier::create(PARTIES as u32).unwrap();
            let (go, gone) = (Event::create().unwrap(), Event::create().unwrap());
            let waiting: Vec<_> = (0..PARTIES - 1)
                .map(|number| {
                    let child = fork(|| {
                        if number == leaver {
                            let Ok(Arrival::Waits(participant)) = barrier.arrive(timeout()) else {
                                return false;
                            };
                            go.wait(go.begin() & !1, timeout()).unwrap();
                            drop(participant);
                            gone.set();
                        }
                        is_told(&barrier)
                    });
                    wait_until(|| barrier.waiting().unwrap() == number + 1);
                    child
                })
                .collect();
            if leaver < PARTIES - 1 {
                go.set();
                gone.wait(gone.begin() & !1, timeout()).unwrap();
                wait_until(|| barrier.waiting().unwrap() == PARTIES - 1);
            }
            all_are_told(&barrier, waiting, victim);
        }
    }
}

#[test]
fn a_death_is_noticed_after_rounds_have_mixed_the_slots() {
    const PARTIES: u64 = 4;
    for rounds in 1..12 {
        let (barrier, board) = (Barrier::create(PARTIES as u32).unwrap(), board());
        let parties: Vec<_> = (0..PARTIES - 1)
            .map(|_| {
                fork(|| {
                    for _ in 0..rounds {
                        meet(&barrier, timeout()).unwrap();
                    }
                    board.add(0);
                    is_told(&barrier)
                })
            })
            .collect();
        for _ in 0..rounds {
            meet(&barrier, timeout()).unwrap();
        }
        wait_until(|| board.get(0) == PARTIES - 1 && barrier.waiting().unwrap() == PARTIES as usize - 1);
        let victim = rounds as usize % parties.len();
        all_are_told(&barrier, parties, victim);
    }
}

#[test]
fn death_in_the_action_breaks_the_barrier() {
    let barrier = Barrier::create(2).unwrap();
    let waiter = fork(|| matches!(meet(&barrier, timeout()), Err(BarrierError::Broken)));
    wait_until(|| barrier.waiting().unwrap() == 1);
    let actor = fork(|| {
        let Ok(Arrival::Last(_last)) = barrier.arrive(timeout()) else {
            return false;
        };
        forever()
    });
    wait_until(|| barrier.is_acting());
    // While the acting process lives, a process that times out is told which one it is.
    let other = fork(|| {
        let kept = barrier.arrive(Deadline::after(Duration::from_millis(5)));
        matches!(kept, Err(BarrierError::Kept(by)) if by == format!("process {actor}"))
    });
    assert_eq!(reap(other), 0);
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
    assert!(matches!(meet(&barrier, timeout()), Err(BarrierError::Broken)));
    barrier.reset().unwrap();
    for end in [Barrier::abort, Barrier::reset] {
        let waiter = fork(|| matches!(meet(&barrier, timeout()), Err(BarrierError::Broken)));
        wait_until(|| barrier.waiting().unwrap() == 1);
        end(&barrier).unwrap();
        assert_eq!(reap(waiter), 0);
        barrier.reset().unwrap();
    }
    let waiter = fork(|| meet(&barrier, timeout()).is_ok_and(|index| index == 0));
    wait_until(|| barrier.waiting().unwrap() == 1);
    assert_eq!(meet(&barrier, timeout()).unwrap(), 1);
    assert_eq!(reap(waiter), 0);
}

#[test]
fn a_released_party_sees_no_waiters() {
    for _ in 0..500 {
        let barrier = Barrier::create(4).unwrap();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    meet(&barrier, timeout()).unwrap();
                    assert_eq!(barrier.waiting().unwrap(), 0);
                });
            }
        });
    }
}
