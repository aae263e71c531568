//! Holders that die in different ways.

use super::*;
use crate::arena::Label;
use std::io::Read;
use std::os::unix::net::UnixStream;

fn rlock() -> RLock {
    RLock::create().unwrap()
}

#[test]
fn a_lock_fits_the_smallest_cell() {
    let here = ("/a/very/long/way/down/to/some/module/lock.py", 12);
    let options = Options {
        label: Label {
            name: None,
            made: Some(here),
        },
        ..Options::default()
    };
    let lock = Lock::with(options).unwrap();
    let holder = fork(|| lock.try_acquire().unwrap());
    assert_eq!(reap(holder), 0);
    let Err(WaitError::OwnerDied(death)) = lock.acquire(timeout()) else {
        panic!("the holder is dead");
    };
    assert_eq!(death.pid, holder as u32);
    assert_eq!((death.object, death.thread), ("Lock", None));
    let text = death.to_string();
    assert!(
        text.ends_with("holding the Lock made at .../way/down/to/some/module/lock.py:12"),
        "{text}"
    );
}

#[test]
fn a_new_holder_that_dies_before_it_reports_a_death_is_reported_itself() {
    let lock = Lock::create().unwrap();
    let holder = fork(|| lock.try_acquire().unwrap());
    assert_eq!(reap(holder), 0);
    let next = fork(|| lock.inherit(timeout()).unwrap().is_some());
    assert_eq!(reap(next), 0);
    let death = lock.inherit(timeout()).unwrap().expect("the new holder is dead, too");
    assert_eq!(death.pid, next as u32);
    assert!(lock.is_mine());
}

#[test]
fn a_silent_lock_is_handed_over() {
    let silent = Options {
        silent: true,
        ..Options::default()
    };
    let (lock, rlock) = (Lock::with(silent).unwrap(), RLock::with(silent).unwrap());
    let holder = fork(|| lock.try_acquire().unwrap() && rlock.try_acquire().unwrap());
    assert_eq!(reap(holder), 0);
    lock.acquire(timeout()).unwrap();
    rlock.acquire(timeout()).unwrap();
    assert!(lock.is_mine() && rlock.is_mine() && rlock.count() == 1);
}

#[test]
fn a_thread_that_ends_leaves_an_rlock_but_not_a_lock() {
    let (lock, rlock) = (Lock::create().unwrap(), rlock());
    let take = || rlock.try_acquire().unwrap() && lock.try_acquire().unwrap();
    assert!(std::thread::scope(|scope| scope.spawn(take).join()).unwrap());
    let elsewhere = fork(|| match rlock.acquire(timeout()) {
        Err(WaitError::OwnerDied(death)) => death.thread.is_some() && death.to_string().starts_with("thread "),
        _ => false,
    });
    assert_eq!(reap(elsewhere), 0);
    rlock.acquire(Deadline::Now).unwrap();
    let late = lock.acquire(Deadline::after(Duration::from_millis(60)));
    assert!(
        matches!(late, Err(WaitError::TimedOut)),
        "another thread may release it"
    );
    assert!(lock.release());
}

#[test]
fn a_new_thread_does_not_hold_what_an_ended_one_took() {
    let lock = rlock();
    for _ in 0..20 {
        std::thread::scope(|scope| {
            scope.spawn(|| match lock.acquire(Deadline::Now) {
                Ok(()) => assert_eq!(lock.count(), 1, "taken anew, not once more"),
                Err(end) => assert!(!matches!(end, WaitError::Other(_)), "{end}"),
            });
        });
    }
}

/// A process that dies slowly: it has memory that the kernel has to take down first.
#[test]
fn a_death_is_known_before_the_memory_of_the_dead_is_gone() {
    const SIZE: usize = 1 << 30;
    let lock = Lock::create().unwrap();
    let (mut told, tell) = UnixStream::pair().unwrap();
    let holder = fork(|| {
        let memory = std::hint::black_box(vec![1_u8; SIZE]);
        lock.acquire(Deadline::Now).unwrap();
        let _second = std::thread::spawn(|| loop {
            std::thread::park();
        });
        std::io::Write::write_all(&mut &tell, &[1]).unwrap();
        loop {
            std::thread::park();
            std::hint::black_box(&memory);
        }
    });
    told.read_exact(&mut [0]).unwrap();
    kill(holder);
    assert!(matches!(lock.acquire(timeout()), Err(WaitError::OwnerDied(_))));
    // The parent hears of the death after that, or at the same time.
    reap(holder);
    lock.acquire(Deadline::Now).unwrap();
}

/// Poll with `attempt` until it has the lock or learns of a death; returns the dead process's id in that case.
fn polled(mut attempt: impl FnMut() -> Result<bool, WaitError>) -> Option<u32> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match attempt() {
            Ok(true) => return None,
            Ok(false) => assert!(Instant::now() < end, "the dead process still holds it"),
            Err(WaitError::OwnerDied(death)) => return Some(death.pid),
            Err(end) => panic!("{end}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn polling_gets_what_the_dead_held_and_reports_each_death_once() {
    let (lock, rlock, semaphore) = (Lock::create().unwrap(), rlock(), recovering(1));
    let holder =
        fork(|| lock.try_acquire().unwrap() && rlock.try_acquire().unwrap() && semaphore.try_acquire().unwrap());
    assert_eq!(reap(holder), 0);
    assert_eq!(polled(|| lock.try_acquire()), Some(holder as u32));
    assert_eq!(polled(|| rlock.try_acquire()), Some(holder as u32));
    assert_eq!(polled(|| lock.try_acquire()), None);
    assert_eq!(polled(|| rlock.try_acquire()), None);
    assert_eq!(polled(|| Ok(semaphore.try_acquire()?)), None);
    assert!(!lock.try_acquire().unwrap() && lock.is_mine() && rlock.count() == 1);
}

fn recovering(value: u32) -> Semaphore {
    Semaphore::recovering(value, value).unwrap()
}

#[test]
fn permits_of_the_dead_come_back_to_a_recovering_semaphore() {
    let (semaphore, lossy) = (recovering(3), Semaphore::create(3, 3).unwrap());
    let holder = fork(|| (0..2).all(|_| semaphore.try_acquire().unwrap() && lossy.try_acquire().unwrap()));
    assert_eq!(reap(holder), 0);
    assert_eq!(lossy.value(), 1);
    for _ in 0..3 {
        semaphore.acquire(timeout()).unwrap();
    }
    assert!(!semaphore.try_acquire().unwrap());
    for _ in 0..3 {
        assert!(semaphore.release().unwrap());
    }
    assert!(!semaphore.release().unwrap(), "at its bound");
    assert_eq!(semaphore.value(), 3);
}

#[test]
fn a_waiter_gets_the_permit_of_a_killed_holder() {
    let (semaphore, ready) = (recovering(1), Event::create().unwrap());
    let holder = fork(|| {
        semaphore.acquire(Deadline::Now).unwrap();
        ready.set();
        loop {
            std::thread::park();
        }
    });
    ready.wait(ready.begin() & !1, timeout()).unwrap();
    let waiter = fork(|| semaphore.acquire(timeout()).is_ok());
    let asleep = || crate::liveness::members().iter().any(|member| !member.waits.is_empty());
    wait_until(asleep);
    kill(holder);
    assert_eq!(reap(waiter), 0);
    reap(holder);
    semaphore.acquire(timeout()).unwrap();
}

#[test]
fn more_processes_hold_permits_than_one_chunk_has_slots() {
    const MANY: u32 = 80;
    let (semaphore, go) = (recovering(MANY), Event::create().unwrap());
    let holders: Vec<_> = (0..MANY)
        .map(|_| {
            fork(|| {
                semaphore.acquire(timeout()).unwrap();
                go.wait(go.begin(), timeout()).is_ok()
            })
        })
        .collect();
    wait_until(|| semaphore.value() == 0);
    go.set();
    for holder in holders {
        assert_eq!(reap(holder), 0);
    }
    for _ in 0..MANY {
        semaphore.acquire(timeout()).unwrap();
    }
    assert_eq!(semaphore.value(), 0);
}

#[test]
fn a_kill_in_the_middle_of_an_operation_loses_and_gains_no_permit() {
    let semaphore = recovering(4);
    for round in 0..40_u64 {
        let victim = fork(|| loop {
            semaphore.acquire(timeout()).unwrap();
            semaphore.release().unwrap();
        });
        // Not synchronisation: it only varies the point of the kill.
        std::thread::sleep(Duration::from_micros(137 * (round % 11)));
        kill(victim);
        reap(victim);
        for _ in 0..4 {
            semaphore.acquire(timeout()).unwrap();
        }
        assert!(!semaphore.try_acquire().unwrap(), "round {round}");
        for _ in 0..4 {
            assert!(semaphore.release().unwrap());
        }
    }
}
