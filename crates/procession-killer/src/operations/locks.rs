//! Locks of both kinds: held and free, with a holder that died, and silent about deaths.

use super::{handle, in_a_child_that_dies, keep, shortly, soon, Operation};
use crate::battery::Clock;
use crate::stage::Values;
use procession_core::sync::{Lock, Options, RLock};
use procession_core::Deadline;
use procession_core::WaitError;
use std::mem::forget;

/// What the two kinds of lock have in common.
trait Mutual: Sized + 'static {
    fn create(silent: bool) -> Vec<u64>;
    fn of(values: &Values) -> Self;
    fn take(&self, deadline: Deadline) -> Result<(), WaitError>;
    fn give(&self) -> bool;
    /// Check that the lock works, and release it. The caller holds it.
    fn works(&self);

    /// Check that the lock can be taken, whatever the dead process did with it, and that it excludes. It is acquired
    /// at once, or after its holder's death was reported.
    fn serves(&self) -> &'static str {
        let found = match self.take(soon()) {
            Ok(()) => "free",
            Err(WaitError::OwnerDied(_)) => {
                self.take(soon()).expect("the lock, its death being reported");
                DIED
            }
            Err(end) => panic!("acquire: {end}"),
        };
        self.works();
        found
    }
}

impl Mutual for Lock {
    fn create(silent: bool) -> Vec<u64> {
        keep(Self::with(options(silent)).expect("a lock"), Self::handle)
    }

    fn of(values: &Values) -> Self {
        Self::attach(handle(values[0])).expect("the lock")
    }

    fn take(&self, deadline: Deadline) -> Result<(), WaitError> {
        self.acquire(deadline)
    }

    fn give(&self) -> bool {
        self.release()
    }

    fn works(&self) {
        assert!(self.is_mine() && !self.try_acquire().expect("a lock"), "held twice");
        assert!(self.release() && !self.release() && self.owner().is_none());
    }
}

impl Mutual for RLock {
    fn create(silent: bool) -> Vec<u64> {
        keep(Self::with(options(silent)).expect("a lock"), Self::handle)
    }

    fn of(values: &Values) -> Self {
        Self::attach(handle(values[0])).expect("the lock")
    }

    fn take(&self, deadline: Deadline) -> Result<(), WaitError> {
        self.acquire(deadline)
    }

    fn give(&self) -> bool {
        self.release()
    }

    fn works(&self) {
        assert_eq!(self.count(), 1);
        assert!(self.try_acquire().expect("a lock"));
        assert_eq!(self.count(), 2);
        assert!(self.release() && self.release() && !self.release() && self.owner().is_none());
    }
}

/// What other processes do with the lock: they take it if the stopped process does not hold it; otherwise they find it
/// taken when their time is up.
fn beside<L: Mutual>(values: &Values, clock: &mut Clock) {
    let lock = clock.time("attach to the same lock", || L::of(values));
    for _ in 0..2 {
        clock.time("acquire and release the same lock", || match lock.take(shortly()) {
            Ok(()) => assert!(lock.give()),
            Err(WaitError::TimedOut | WaitError::OwnerDied(_)) => {}
            Err(end) => panic!("acquire: {end}"),
        });
    }
    clock.time("drop the same lock", || drop(lock));
}

fn options(silent: bool) -> Options<'static> {
    Options {
        silent,
        ..Options::default()
    }
}

const DIED: &str = "its holder died";

/// An operation on a lock that the victim holds already, or not. `after`: what must be found once it has returned.
fn lock<L: Mutual>(name: &str, held: bool, act: fn(&L), after: &'static str) -> Operation {
    Operation::new(
        name,
        || L::create(false),
        move |values| {
            let lock = L::of(values);
            if held {
                lock.take(soon()).expect("the lock");
            }
            move || {
                act(&lock);
                forget(lock);
            }
        },
        move |values, done| {
            let found = L::of(values).serves();
            assert!(!done || found == after);
            found.to_owned()
        },
    )
    .beside(beside::<L>)
}

/// As [`lock`], with a lock that is silent about deaths: in whatever state the victim left it, no death is reported.
fn silent_lock<L: Mutual>(name: &str, held: bool, act: fn(&L)) -> Operation {
    let told = lock(name, held, act, "");
    Operation {
        setup: Box::new(|| L::create(true)),
        survivor: Box::new(|values, _| {
            assert_eq!(L::of(values).serves(), "free");
            "had, without a word".to_owned()
        }),
        ..told
    }
}

/// A lock with a dead holder: the victim is told of the death, and takes the lock.
fn lock_of_the_dead() -> Operation {
    Operation::new(
        "lock acquire, its holder having died",
        || {
            let lock = Lock::create().expect("a lock");
            in_a_child_that_dies(|| lock.acquire(soon()).expect("the lock"));
            keep(lock, Lock::handle)
        },
        |values| {
            let lock = Lock::of(values);
            move || {
                // Unless another process was told in the meantime.
                if let Err(end) = lock.take(soon()) {
                    assert!(matches!(end, WaitError::OwnerDied(_)));
                    lock.take(soon()).expect("the lock, its death being reported");
                }
                forget(lock);
            }
        },
        |values, done| {
            let found = Lock::of(values).serves();
            assert!(!done || found == DIED);
            found.to_owned()
        },
    )
    .beside(beside::<Lock>)
}

/// A lock that the root holds: the victim waits until its deadline, and leaves the lock as it was.
fn lock_in_vain() -> Operation {
    Operation::new(
        "lock acquire, held by another, timed out",
        || {
            let lock = Lock::create().expect("a lock");
            assert!(lock.try_acquire().expect("a lock"));
            keep(lock, Lock::handle)
        },
        |values| {
            let lock = Lock::attach(handle(values[0])).expect("the lock");
            move || {
                assert!(matches!(lock.acquire(shortly()), Err(WaitError::TimedOut)));
                forget(lock);
            }
        },
        |values, _| {
            let lock = Lock::attach(handle(values[0])).expect("the lock");
            assert!(lock.owner().is_some() && !lock.try_acquire().expect("a lock"));
            assert!(lock.release());
            lock.serves().to_owned()
        },
    )
    .beside(beside::<Lock>)
}

fn take<L: Mutual>(lock: &L) {
    lock.take(soon()).expect("the lock");
}

fn give<L: Mutual>(lock: &L) {
    assert!(lock.give());
}

pub fn operations() -> Vec<Operation> {
    vec![
        lock::<Lock>("lock acquire", false, take, DIED),
        lock::<Lock>("lock release", true, give, "free"),
        lock_in_vain(),
        lock_of_the_dead(),
        silent_lock::<Lock>("lock acquire, silent", false, take),
        silent_lock::<Lock>("lock release, silent", true, give),
        lock::<RLock>("rlock acquire", false, take, DIED),
        lock::<RLock>("rlock acquire again", true, take, DIED),
        lock::<RLock>(
            "rlock acquire again, release",
            true,
            |lock| {
                take(lock);
                give(lock);
            },
            DIED,
        ),
        lock::<RLock>("rlock release", true, give, "free"),
        silent_lock::<RLock>("rlock acquire, silent", false, take),
    ]
}
