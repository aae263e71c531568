//! `RwLock` and `Once` between processes, and when one of them is killed.

mod common;

use common::{by, kill, until_asleep, METHODS};
use procession::{Error, Event, JoinError, LockError, Mutex, Once, RwLock, StartMethod};
use std::time::Duration;

type Pair = RwLock<[u64; 2]>;

fn read_pairs((pair, times): (Pair, u32)) {
    for _ in 0..times {
        let guard = pair.read().unwrap();
        assert_eq!(guard[0], guard[1], "a reader sees no half of a change");
    }
}

fn write_pairs((pair, times): (Pair, u32)) {
    for _ in 0..times {
        let mut guard = pair.write().unwrap();
        guard[0] += 1;
        std::hint::black_box(&mut *guard);
        guard[1] += 1;
    }
}

#[test]
fn readers_see_whole_values_and_all_writes_count() {
    for method in METHODS {
        for readers in [1, 3, 16] {
            let pair = RwLock::with_readers([0, 0], readers).unwrap();
            let spawn = |f: fn((Pair, u32)), times| by(method).spawn(f, (pair.clone(), times)).unwrap();
            let children = [
                spawn(write_pairs, 200),
                spawn(read_pairs, 500),
                spawn(write_pairs, 200),
                spawn(read_pairs, 500),
            ];
            for child in children {
                child.join().unwrap();
            }
            assert_eq!(pair.get().unwrap(), [400, 400], "{method:?}");
        }
    }
}

#[test]
fn readers_read_at_once_and_keep_writers_out() {
    let lock = RwLock::with_readers(1_u32, 3).unwrap();
    let readers = [lock.read().unwrap(), lock.read().unwrap()];
    assert!(lock.try_write().unwrap().is_none());
    let timed_out = lock.write_timeout(Duration::from_millis(2)).map(drop);
    assert!(matches!(timed_out, Err(LockError::Failed(Error::TimedOut))));
    let third = lock.try_read().unwrap().unwrap();
    assert!(lock.try_read().unwrap().is_none(), "there may be three");
    assert!(lock.read_timeout(Duration::from_millis(2)).is_err());
    drop((readers, third));
    let writer = lock.try_write().unwrap().unwrap();
    assert!(lock.try_read().unwrap().is_none() && lock.try_write().unwrap().is_none());
    drop(writer);
    lock.set(2).unwrap();
    assert_eq!(lock.get().unwrap(), 2);
}

fn read_for_ever((lock, ready): (Pair, Event)) {
    let _guard = lock.read().unwrap();
    ready.set();
    loop {
        std::thread::park();
    }
}

fn write_half((lock, ready): (Pair, Event)) {
    let mut guard = lock.write().unwrap();
    guard[0] = 1;
    ready.set();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_reader_keeps_no_writer_out() {
    fn write(lock: Pair) {
        lock.set([3, 3]).unwrap();
    }
    for method in METHODS {
        let (lock, ready) = (RwLock::with_readers([0, 0], 4).unwrap(), Event::new().unwrap());
        let reader = by(method).spawn(read_for_ever, (lock.clone(), ready.clone())).unwrap();
        ready.wait().unwrap();
        assert!(lock.try_write().unwrap().is_none() && lock.try_read().unwrap().is_some());
        let writer = by(method).spawn(write, lock.clone()).unwrap();
        until_asleep(&writer);
        kill(reader);
        writer.join().unwrap();
        assert_eq!(lock.get().unwrap(), [3, 3], "{method:?}: it is not poisoned");
        drop(lock.write().unwrap());
    }
}

#[test]
fn a_killed_writer_is_told_to_readers_and_to_one_writer() {
    fn is_told(lock: Pair) -> bool {
        matches!(lock.read(), Err(LockError::Poisoned(_)))
    }
    for method in METHODS {
        let (lock, ready) = (RwLock::with_readers([0, 0], 4).unwrap(), Event::new().unwrap());
        let writer = by(method).spawn(write_half, (lock.clone(), ready.clone())).unwrap();
        ready.wait().unwrap();
        assert!(lock.try_write().unwrap().is_none() && lock.try_read().unwrap().is_none());
        let readers = [(); 2].map(|()| by(method).spawn(is_told, lock.clone()).unwrap());
        readers.iter().for_each(until_asleep);
        let pid = writer.pid() as u32;
        kill(writer);
        assert_eq!(
            readers.map(procession::JoinHandle::join),
            [Ok(true), Ok(true)],
            "{method:?}"
        );
        let Err(LockError::Poisoned(mut poisoned)) = lock.write() else {
            panic!("{method:?}: the writer died")
        };
        let death = poisoned.death();
        assert_eq!((death.pid, death.panicked, death.object), (pid, false, "RwLock"));
        assert!(death.to_string().contains("died holding the RwLock"), "{death}");
        assert_eq!(**poisoned.get_mut(), [1, 0]);
        poisoned.get_mut()[1] = 1;
        drop(poisoned);
        assert_eq!(lock.get().unwrap(), [1, 1], "it is told once");
    }
}

#[test]
fn a_writer_that_is_killed_while_it_waits_has_changed_nothing() {
    fn write(lock: Pair) {
        lock.set([9, 9]).unwrap();
    }
    for method in METHODS {
        let lock = RwLock::with_readers([0, 0], 4).unwrap();
        let guards = [(); 2].map(|()| lock.read().unwrap());
        // Fork is refused beside a guard.
        let writer = procession::spawn(write, lock.clone()).unwrap();
        until_asleep(&writer);
        kill(writer);
        drop(guards);
        let writer = by(method).spawn(write, lock.clone()).unwrap();
        writer.join().unwrap();
        assert_eq!(lock.get().unwrap(), [9, 9], "{method:?}");
    }
}

#[test]
fn a_panic_of_a_writer_is_told_and_one_of_a_reader_is_not() {
    fn read_and_panic(lock: Pair) {
        let _guard = lock.read().unwrap();
        panic!("while it reads");
    }
    fn write_and_panic(lock: Pair) {
        lock.write().unwrap()[0] = 5;
        let _guard = lock.write().unwrap();
        panic!("while it writes");
    }
    for method in METHODS {
        let lock = RwLock::new([0, 0]).unwrap();
        let end = by(method).spawn(read_and_panic, lock.clone()).unwrap().join();
        assert!(matches!(end, Err(JoinError::Panicked { .. })));
        drop(lock.write().unwrap());
        let end = by(method).spawn(write_and_panic, lock.clone()).unwrap().join();
        assert!(matches!(end, Err(JoinError::Panicked { .. })));
        let Err(LockError::Poisoned(poisoned)) = lock.read() else {
            panic!("{method:?}: the writer panicked")
        };
        assert!(poisoned.death().panicked && poisoned.get_ref()[0] == 5);
        drop(poisoned);
        assert!(
            matches!(lock.get(), Err(Error::OwnerDied(_))),
            "readers are told until a writer was"
        );
        assert!(matches!(lock.set([1, 1]), Err(Error::OwnerDied(_))));
        lock.set([2, 2]).unwrap();
        assert_eq!(lock.get().unwrap(), [2, 2]);
    }
}

#[test]
fn what_is_done_once_is_done_by_the_next_if_its_process_is_killed() {
    fn hang((once, ready): (Once, Event)) {
        once.call_once(|| {
            ready.set();
            loop {
                std::thread::park();
            }
        })
        .unwrap();
    }
    fn count((once, total): (Once, Mutex<u32>)) {
        once.call_once(|| *total.lock().unwrap() += 1).unwrap();
        assert!(once.is_completed());
    }
    for method in METHODS {
        let (once, ready, total) = (Once::new().unwrap(), Event::new().unwrap(), Mutex::new(0).unwrap());
        let first = by(method).spawn(hang, (once.clone(), ready.clone())).unwrap();
        ready.wait().unwrap();
        let others = [(); 3].map(|()| by(method).spawn(count, (once.clone(), total.clone())).unwrap());
        others.iter().for_each(until_asleep);
        assert!(!once.is_completed());
        kill(first);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(total.get().unwrap(), 1, "{method:?}");
        once.call_once(|| unreachable!()).unwrap();
    }
}

#[test]
fn what_panics_is_not_done() {
    let once = Once::new().unwrap();
    std::panic::catch_unwind(|| once.call_once(|| panic!("before the end"))).unwrap_err();
    assert!(!once.is_completed());
    once.call_once(|| ()).unwrap();
    assert!(once.is_completed());
}

#[test]
fn a_copy_is_refused_that_would_inherit_a_guard() {
    let lock = RwLock::new(0_u8).unwrap();
    let forked = || {
        by(StartMethod::Fork)
            .spawn(|()| 42, ())
            .map(|child| child.join().unwrap())
    };
    let reader = lock.read().unwrap();
    assert!(matches!(forked(), Err(Error::Guards)));
    drop(reader);
    let writer = lock.write().unwrap();
    assert!(matches!(forked(), Err(Error::Guards)));
    drop(writer);
    assert_eq!(forked().unwrap(), 42);
}
