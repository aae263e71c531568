//! Which process holds a lock, and which one inherits it.

use super::*;

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
    assert!(!lock.release(), "no thread holds it");
    assert!(!rlock.release());
}

#[test]
fn any_thread_may_release_a_lock_but_only_its_holder_an_rlock() {
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
fn an_access_holds_an_rlock() {
    const EACH: u64 = 20_000;
    let (lock, board) = (RLock::create().unwrap(), board());
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                for _ in 0..EACH {
                    let access = || board.0[0].store(board.get(0) + 1, Ordering::Relaxed);
                    if lock.try_hold(access).is_none() {
                        lock.acquire(Deadline::Never).unwrap();
                        assert_eq!(lock.try_hold(access), Some(()), "it is ours");
                        assert!(lock.count() == 1 && lock.release());
                    }
                }
                !lock.is_mine()
            })
        })
        .collect();
    for child in children {
        assert_eq!(reap(child), 0);
    }
    assert_eq!(board.get(0), 4 * EACH);
    assert!(lock.owner().is_none() && !lock.release());
}

#[test]
fn a_death_inside_an_access_is_reported() {
    let lock = RLock::create().unwrap();
    let child = fork(|| lock.try_hold(|| -> () { std::process::abort() }).is_some());
    assert_eq!(reap(child), -libc::SIGABRT);
    let mut ran = false;
    assert!(lock.try_hold(|| ran = true).is_none() && !ran);
    assert!(matches!(lock.acquire(Deadline::Never), Err(WaitError::OwnerDied(_))));
    assert!(lock.try_hold(|| ran = true).is_some() && ran);
}

#[test]
fn a_lock_times_out_and_a_probe_does_not_wait() {
    let lock = Lock::create().unwrap();
    lock.acquire(Deadline::Now).unwrap();
    for deadline in [Deadline::Now, Deadline::after(Duration::from_millis(20))] {
        assert!(matches!(lock.acquire(deadline), Err(WaitError::TimedOut)));
    }
}

fn one_inherits(acquire: impl Fn(Deadline) -> Result<(), WaitError>, release: impl Fn() -> bool, kind: Kind) {
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
                match acquire(timeout()) {
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
    assert_eq!(board.get(1), 1, "exactly one waiter inherits");
    assert_eq!(board.get(2), 3, "all waiters got the lock");
    reap(holder);
    acquire(Deadline::Now).unwrap();
}

#[test]
fn the_death_of_a_locks_holder_is_reported_to_exactly_one_waiter() {
    let lock = Lock::create().unwrap();
    one_inherits(|deadline| lock.acquire(deadline), || lock.release(), Kind::Lock);
}

#[test]
fn the_death_of_an_rlocks_holder_is_reported_to_exactly_one_waiter() {
    let lock = RLock::create().unwrap();
    one_inherits(|deadline| lock.acquire(deadline), || lock.release(), Kind::RLock);
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
        lock.acquire(timeout()).unwrap();
        board.add(0);
        lock.release()
    };
    let victims: Vec<_> = (0..3).map(|_| fork(wait)).collect();
    let others: Vec<_> = (0..3).map(|_| fork(wait)).collect();
    wait_until(|| asleep(Kind::Lock) == 6);
    for &victim in &victims {
        kill(victim);
    }
    lock.release();
    for other in others {
        assert_eq!(reap(other), 0);
    }
    assert_eq!(board.get(0), 3);
    for victim in victims {
        reap(victim);
    }
}
