//! Deadlocks between threads and processes that wait as programs do, and what looks like one.

use super::super::deadlock::{mode, set_mode, Mode};
use super::*;
use crate::Error;

/// A lock that belongs to the thread that took it.
#[derive(Clone)]
enum Owned {
    Scoped(Lock),
    Again(RLock),
}

impl Owned {
    fn numbered(number: usize) -> Self {
        if number % 2 == 0 {
            Self::Scoped(Lock::create().unwrap())
        } else {
            Self::Again(RLock::create().unwrap())
        }
    }

    fn acquire(&self) -> Result<(), WaitError> {
        match self {
            Self::Scoped(lock) => lock.enter(Deadline::Never),
            Self::Again(lock) => lock.acquire(Deadline::Never),
        }
    }

    fn release(&self) {
        assert!(match self {
            Self::Scoped(lock) => lock.release(),
            Self::Again(lock) => lock.release(),
        });
    }
}

const HOLDS: usize = 0;
const FAILED: usize = 1;
const WENT_ON: usize = 2;

/// Member `number` of a circle: takes a lock, waits for the others, and then for the next one's lock.
fn meet(number: usize, locks: &[Owned], board: &Board) {
    let next = &locks[(number + 1) % locks.len()];
    locks[number].acquire().unwrap();
    board.add(HOLDS);
    wait_until(|| board.get(HOLDS) == locks.len() as u64);
    match next.acquire() {
        Ok(()) => {
            next.release();
            board.add(WENT_ON);
        }
        Err(WaitError::Other(Error::Deadlock(text))) => {
            assert_eq!(text.matches(" has waited ").count(), locks.len(), "{text}");
            board.add(FAILED);
        }
        Err(error) => panic!("{error}"),
    }
    locks[number].release();
}

fn circle(size: usize, in_each_process: usize) {
    let locks: Vec<Owned> = (0..size).map(Owned::numbered).collect();
    let board = board();
    let numbers: Vec<usize> = (0..size).collect();
    let processes: Vec<i32> = numbers
        .chunks(in_each_process)
        .map(|members| {
            fork(|| {
                std::thread::scope(|scope| {
                    let (locks, board) = (&locks, &*board);
                    for &number in members {
                        scope.spawn(move || meet(number, locks, board));
                    }
                });
                true
            })
        })
        .collect();
    assert!(processes.into_iter().all(|process| reap(process) == 0));
    assert_eq!(
        (board.get(FAILED), board.get(WENT_ON)),
        (1, size as u64 - 1),
        "{size} / {in_each_process}"
    );
}

#[test]
fn of_two_to_eight_members_one_is_told_and_the_others_go_on() {
    assert_eq!(set_mode(Mode::Raise).unwrap(), Mode::Report);
    for size in 2..=8 {
        circle(size, 1);
        circle(size, size);
        circle(size, 2);
    }
}

#[test]
fn a_thread_that_waits_for_its_own_scope_is_told() {
    set_mode(Mode::Raise).unwrap();
    let lock = Owned::numbered(0);
    lock.acquire().unwrap();
    let Err(WaitError::Other(Error::Deadlock(text))) = lock.acquire() else {
        panic!("no other thread may release it");
    };
    assert!(text.starts_with("deadlock of 1 thread, of which none can go on: ") && text.contains("which it has held"));
    lock.release();
    lock.acquire().unwrap();
}

/// Until the only wait of this process has lasted for long enough that its thread has looked several times.
fn wait_until_it_looked() {
    let me = crate::liveness::me().unwrap();
    wait_until(|| {
        let members = crate::liveness::members();
        let mine = members.into_iter().find(|member| member.owner == me).unwrap();
        mine.waits.iter().any(|&(_, _, for_ms)| for_ms > 800)
    });
}

#[test]
fn a_lock_that_another_thread_may_release_is_a_signal() {
    set_mode(Mode::Raise).unwrap();
    let lock = Lock::create().unwrap();
    lock.acquire(Deadline::Now).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            lock.release();
            lock.acquire(Deadline::Now).unwrap();
            lock.acquire(Deadline::Never)
        });
        wait_until_it_looked();
        assert!(lock.release());
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn locks_that_the_first_process_may_release_are_none() {
    set_mode(Mode::Raise).unwrap();
    let (one, other, told) = (Lock::create().unwrap(), Lock::create().unwrap(), board());
    let take = |mine: &Lock, awaited: &Lock| {
        mine.acquire(Deadline::Now).unwrap();
        told.add(HOLDS);
        wait_until(|| told.get(HOLDS) == 2);
        awaited.acquire(Deadline::Never).is_ok()
    };
    let children = [fork(|| take(&one, &other)), fork(|| take(&other, &one))];
    let wait_for_long = |member: &crate::liveness::Member| member.waits.iter().any(|wait| wait.2 > 800);
    wait_until(|| {
        crate::liveness::members()
            .iter()
            .filter(|one| wait_for_long(one))
            .count()
            == 2
    });
    assert!(one.release() && other.release());
    assert!(children.into_iter().all(|child| reap(child) == 0));
}

#[test]
fn whatever_may_pass_by_itself_is_none() {
    set_mode(Mode::Raise).unwrap();
    let (one, other, told) = (Owned::numbered(0), RLock::create().unwrap(), board());
    let second = fork(|| {
        other.acquire(Deadline::Now).unwrap();
        told.add(0);
        wait_until(|| told.get(0) == 2);
        one.acquire().is_ok()
    });
    one.acquire().unwrap();
    wait_until(|| told.get(0) == 1);
    told.add(0);
    // A wait with a timeout ends, and its thread gives back what it holds.
    let waited = other.acquire(Deadline::after(Duration::from_millis(900)));
    assert!(matches!(waited, Err(WaitError::TimedOut)));
    one.release();
    assert_eq!(reap(second), 0);
}

#[test]
fn a_stopped_holder_is_none() {
    set_mode(Mode::Raise).unwrap();
    let (lock, told) = (RLock::create().unwrap(), board());
    let holder = fork(|| {
        lock.acquire(Deadline::Now).unwrap();
        told.add(0);
        wait_until(|| told.get(0) == 2);
        lock.release()
    });
    wait_until(|| told.get(0) == 1);
    // SAFETY: signals to a child of this process that is not reaped.
    let signal = |number| unsafe { libc::kill(holder, number) };
    signal(libc::SIGSTOP);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lock.acquire(Deadline::Never));
        wait_until_it_looked();
        told.add(0);
        signal(libc::SIGCONT);
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(reap(holder), 0);
}

/// A child that holds `its` and waits for `mine`, which this thread holds, once both are held.
fn opposite(its: &RLock, mine: &RLock) -> i32 {
    let told = board();
    let child = fork(|| {
        its.acquire(Deadline::Now).unwrap();
        told.add(0);
        mine.acquire(Deadline::Never).is_ok()
    });
    wait_until(|| told.get(0) == 1 && asleep(Kind::RLock) == 1);
    child
}

#[test]
fn a_stopped_member_is_one_still() {
    set_mode(Mode::Raise).unwrap();
    let (mine, its) = (RLock::create().unwrap(), RLock::create().unwrap());
    mine.acquire(Deadline::Now).unwrap();
    let child = opposite(&its, &mine);
    // SAFETY: signals to a child of this process that is not reaped.
    let signal = |number| unsafe { libc::kill(child, number) };
    signal(libc::SIGSTOP);
    let end = its.acquire(Deadline::Never);
    assert!(matches!(end, Err(WaitError::Other(Error::Deadlock(_)))));
    mine.release();
    signal(libc::SIGCONT);
    assert_eq!(reap(child), 0);
}

#[test]
fn the_death_of_a_member_ends_a_deadlock() {
    let (mine, its) = (RLock::create().unwrap(), RLock::create().unwrap());
    mine.acquire(Deadline::Now).unwrap();
    let child = opposite(&its, &mine);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until_it_looked();
            kill(child);
        });
        assert!(matches!(its.acquire(Deadline::Never), Err(WaitError::OwnerDied(_))));
    });
    reap(child);
}

#[test]
fn a_wait_that_has_to_give_the_lock_is_not_chosen() {
    set_mode(Mode::Raise).unwrap();
    let (one, other) = (RLock::create().unwrap(), RLock::create().unwrap());
    let told = board();
    let second = fork(|| {
        other.acquire(Deadline::Now).unwrap();
        told.add(0);
        wait_until(|| told.get(0) == 2);
        let end = one.acquire(Deadline::Never);
        other.release();
        matches!(end, Err(WaitError::Other(Error::Deadlock(_))))
    });
    one.acquire(Deadline::Now).unwrap();
    wait_until(|| told.get(0) == 1);
    told.add(0);
    super::super::wait::surely(|| other.acquire(Deadline::Never)).unwrap();
    assert_eq!(reap(second), 0);
}

#[test]
fn a_mode_is_the_familys() {
    assert_eq!(mode(), Mode::Report);
    assert_eq!(set_mode(Mode::Off).unwrap(), Mode::Report);
    assert_eq!(reap(fork(|| mode() == Mode::Off && set_mode(Mode::Raise).is_ok())), 0);
    assert_eq!(mode(), Mode::Raise);
    for mode in [Mode::Report, Mode::Raise, Mode::Off] {
        assert_eq!(Mode::named(mode.name()), Some(mode));
    }
    assert_eq!(Mode::named("loud"), None);
}
