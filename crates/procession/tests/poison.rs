//! A holder's panic is told to the next holder.

mod common;

use common::{by, METHODS};
use procession::{Array, Condvar, Error, Lock, LockError, Mutex, StartMethod};
use std::time::Duration;

/// Make half of a change, then panic.
fn break_off((mutex, array, lock): (Mutex<u64>, Array<u8>, Lock)) {
    let (mut value, mut items, _held) = (mutex.lock().unwrap(), array.lock().unwrap(), lock.lock().unwrap());
    *value = 1;
    items[0] = 1;
    panic!("before the other half");
}

/// As in `std::sync`, but reported once.
fn assert_poisoned(shared: &(Mutex<u64>, Array<u8>, Lock), by: u32) {
    let (mutex, array, lock) = shared;
    let Err(LockError::Poisoned(poisoned)) = mutex.lock() else {
        panic!("the value is not poisoned")
    };
    assert!(
        poisoned.death().panicked && poisoned.death().pid == by,
        "{}",
        poisoned.death()
    );
    assert!(poisoned
        .death()
        .to_string()
        .contains(" panicked holding the Lock made at "));
    assert_eq!(**poisoned.get_ref(), 1);
    *poisoned.into_inner() = 2;
    let error = Error::from(array.lock_timeout(Duration::from_secs(20)).unwrap_err());
    assert!(matches!(error, Error::OwnerDied(death) if death.panicked));
    assert!(matches!(lock.try_lock(), Err(LockError::Poisoned(_))));
    assert_eq!(mutex.get().unwrap(), 2, "it is told once");
    assert_eq!(array.to_vec().unwrap()[0], 1);
    assert!(lock.try_lock().unwrap().is_some());
}

fn guarded() -> (Mutex<u64>, Array<u8>, Lock) {
    (Mutex::new(0).unwrap(), Array::zeroed(3).unwrap(), Lock::new().unwrap())
}

#[test]
fn a_panic_of_a_holder_is_told() {
    for method in METHODS {
        let shared = guarded();
        let child = by(method).spawn(break_off, shared.clone()).unwrap();
        let pid = child.pid() as u32;
        assert!(matches!(child.join(), Err(procession::JoinError::Panicked { .. })));
        assert_poisoned(&shared, pid);
    }
    let shared = guarded();
    let copy = shared.clone();
    std::panic::catch_unwind(|| break_off(copy)).unwrap_err();
    assert_poisoned(&shared, std::process::id());
}

#[test]
fn a_lock_taken_in_the_middle_of_a_panic_is_not_poisoned() {
    struct Counts(Mutex<u64>);
    impl Drop for Counts {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let mutex = Mutex::new(0).unwrap();
    let counts = Counts(mutex.clone());
    std::panic::catch_unwind(move || {
        let _counts = counts;
        panic!("it locks while it is dropped");
    })
    .unwrap_err();
    assert_eq!(mutex.get().unwrap(), 1);
}

#[test]
fn a_waiter_is_told_of_a_panic() {
    fn notify_and_panic((mutex, changed): (Mutex<u64>, Condvar)) {
        let mut value = mutex.lock().unwrap();
        *value = 1;
        changed.notify_all().unwrap();
        panic!("holding the lock");
    }
    let (mutex, changed) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    let mut guard = mutex.lock().unwrap();
    let child = by(StartMethod::Spawn)
        .spawn(notify_and_panic, (mutex.clone(), changed.clone()))
        .unwrap();
    let error = changed.wait_timeout(&mut guard, Duration::from_secs(20)).unwrap_err();
    assert!(matches!(error, Error::OwnerDied(death) if death.panicked));
    assert_eq!(*guard, 1, "the lock is held all the same");
    drop(guard);
    assert!(mutex.lock().is_ok());
    child.join().unwrap_err();
}
