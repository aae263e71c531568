//! Locks, other primitives and shared values between processes, and which process is told when another one is killed.

mod common;

use common::{by, kill, until_asleep, METHODS};
use procession::codec::{collect, unpack};
use procession::{
    channel, Array, Barrier, Condvar, Error, Event, Lock, LockError, Mutex, Queue, Semaphore, Sender, StartMethod,
    Value,
};
use std::time::{Duration, Instant};

type Counters = (Lock, Mutex<u64>, Value<f64>, Array<u32>);

fn count((lock, mutex, value, array): Counters) {
    for round in 0..300 {
        *mutex.lock().unwrap() += 1;
        let held = lock.lock().unwrap();
        // Two steps, which only the lock makes atomic.
        value.set(value.get().unwrap() + 0.5).unwrap();
        drop(held);
        array.lock().unwrap()[round % 3] += 1;
    }
}

#[test]
fn locked_changes_of_many_processes_all_count() {
    for method in METHODS {
        let shared: Counters = (
            Lock::new().unwrap(),
            Mutex::new(0).unwrap(),
            Value::new(0.0).unwrap(),
            Array::zeroed(3).unwrap(),
        );
        let children: Vec<_> = (0..4)
            .map(|_| by(method).spawn(count, shared.clone()).unwrap())
            .collect();
        for child in children {
            child.join().unwrap();
        }
        assert_eq!(shared.1.get().unwrap(), 1200, "{method:?}");
        assert!((shared.2.get().unwrap() - 600.0).abs() < f64::EPSILON, "{method:?}");
        assert_eq!(shared.3.to_vec().unwrap(), [400; 3], "{method:?}");
    }
}

#[test]
fn a_large_array_arrives_as_the_same_memory() {
    fn negate(array: Array<i64>) {
        for item in array.lock().unwrap().iter_mut() {
            *item = -*item;
        }
    }
    let numbers: Vec<i64> = (0..100_000).collect();
    for method in METHODS {
        let array = Array::new(&numbers).unwrap();
        by(method).spawn(negate, array.clone()).unwrap().join().unwrap();
        let array = array.to_vec().unwrap();
        assert!(array.iter().zip(&numbers).all(|(new, old)| *new == -old), "{method:?}");
    }
}

fn hold((lock, mutex, held): (Lock, Mutex<u64>, Event)) {
    let _one = lock.lock().unwrap();
    let mut other = mutex.lock().unwrap();
    *other = 1;
    held.set();
    loop {
        std::thread::park();
    }
}

/// Whether this process was told of a death, for the lock and for the mutex.
fn take((lock, mutex): (Lock, Mutex<u64>)) -> (bool, bool) {
    let one = matches!(lock.lock().map(drop), Err(LockError::Poisoned(_)));
    drop(lock.lock().unwrap());
    let other = matches!(mutex.lock().map(drop), Err(LockError::Poisoned(_)));
    *mutex.lock().unwrap() += 1;
    (one, other)
}

#[test]
fn a_polling_process_is_told_that_the_holder_was_killed() {
    for method in METHODS {
        let (lock, mutex, held) = (Lock::new().unwrap(), Mutex::new(0).unwrap(), Event::new().unwrap());
        let holder = by(method).spawn(hold, (lock.clone(), mutex, held.clone())).unwrap();
        held.wait().unwrap();
        assert!(lock.try_lock().unwrap().is_none());
        kill(holder);
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match lock.try_lock() {
                Ok(taken) => assert!(taken.is_none() && Instant::now() < end, "{method:?}: not told"),
                Err(told) => {
                    assert!(matches!(told, LockError::Poisoned(_)), "{method:?}");
                    break;
                }
            }
        }
        assert!(lock.try_lock().unwrap().is_some(), "{method:?}: told once");
    }
}

#[test]
fn one_waiter_is_told_when_a_holder_is_killed() {
    for method in METHODS {
        let (lock, mutex, held) = (Lock::new().unwrap(), Mutex::new(0).unwrap(), Event::new().unwrap());
        let arguments = (lock.clone(), mutex.clone(), held.clone());
        let holder = by(method).spawn(hold, arguments).unwrap();
        held.wait().unwrap();
        let brief = Duration::from_millis(10);
        assert!(matches!(
            lock.lock_timeout(brief),
            Err(LockError::Failed(Error::TimedOut))
        ));
        assert!(matches!(
            mutex.lock_timeout(brief).map(drop),
            Err(LockError::Failed(Error::TimedOut))
        ));
        assert!(lock.try_lock().unwrap().is_none());
        let waiters: Vec<_> = (0..3)
            .map(|_| by(method).spawn(take, (lock.clone(), mutex.clone())).unwrap())
            .collect();
        waiters.iter().for_each(until_asleep);
        kill(holder);
        let told: Vec<_> = waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
        assert_eq!(told.iter().filter(|told| told.0).count(), 1, "{method:?}: {told:?}");
        assert_eq!(told.iter().filter(|told| told.1).count(), 1, "{method:?}: {told:?}");
        assert!(lock.try_lock().unwrap().is_some());
        assert_eq!(
            mutex.get().unwrap(),
            4,
            "{method:?}: what the dead wrote, and three more"
        );
    }
}

#[test]
fn a_caller_that_is_told_holds_the_lock_and_can_repair_what_it_guards() {
    let (lock, mutex, held) = (Lock::new().unwrap(), Mutex::new(0).unwrap(), Event::new().unwrap());
    let holder = by(StartMethod::Fork)
        .name("holder")
        .spawn(hold, (lock.clone(), mutex.clone(), held.clone()))
        .unwrap();
    held.wait().unwrap();
    let pid = holder.pid();
    kill(holder);
    let Err(LockError::Poisoned(mut poisoned)) = mutex.lock() else {
        panic!("the holder is dead");
    };
    assert_eq!(poisoned.death().pid, u32::try_from(pid).unwrap());
    assert!(poisoned.death().to_string().contains(file!()), "{}", poisoned.death());
    assert_eq!(**poisoned.get_ref(), 1, "what the dead wrote");
    **poisoned.get_mut() = 7;
    let brief = Duration::from_millis(10);
    assert!(matches!(
        mutex.lock_timeout(brief),
        Err(LockError::Failed(Error::TimedOut))
    ));
    let guard = poisoned.into_inner();
    assert_eq!(*guard, 7);
    drop(guard);
    assert_eq!(mutex.get().unwrap(), 7);
    // Converting it into an error releases the lock.
    let told = || -> procession::Result<()> { lock.lock().map(drop).map_err(Error::from) };
    assert!(matches!(told(), Err(Error::OwnerDied(_))));
    drop(lock.lock().or_else(LockError::into_inner).unwrap());
}

#[test]
fn permits_of_a_killed_process_come_back() {
    let (slots, held) = (Semaphore::recovering(1).unwrap(), Event::new().unwrap());
    let holder = by(StartMethod::Fork)
        .spawn(occupy, (slots.clone(), held.clone()))
        .unwrap();
    held.wait().unwrap();
    assert!(slots.try_acquire().unwrap().is_none());
    kill(holder);
    drop(slots.acquire().unwrap());
    assert_eq!(slots.available(), 1);
}

fn occupy((slots, held): (Semaphore, Event)) {
    let _permit = slots.acquire().unwrap();
    held.set();
    loop {
        std::thread::park();
    }
}

fn enter((slots, inside, most): (Semaphore, Mutex<u32>, Mutex<u32>)) {
    for _ in 0..200 {
        let _permit = slots.acquire().unwrap();
        let now = {
            let mut inside = inside.lock().unwrap();
            *inside += 1;
            *inside
        };
        let mut most = most.lock().unwrap();
        *most = now.max(*most);
        drop(most);
        *inside.lock().unwrap() -= 1;
    }
}

#[test]
fn a_semaphore_lets_no_more_in_than_it_has_permits() {
    for method in METHODS {
        let (slots, inside, most) = (
            Semaphore::new(2).unwrap(),
            Mutex::new(0).unwrap(),
            Mutex::new(0).unwrap(),
        );
        let arguments = (slots.clone(), inside.clone(), most.clone());
        let children: Vec<_> = (0..4)
            .map(|_| by(method).spawn(enter, arguments.clone()).unwrap())
            .collect();
        for child in children {
            child.join().unwrap();
        }
        assert!((1..=2).contains(&most.get().unwrap()), "{method:?}");
        assert_eq!((slots.available(), inside.get().unwrap()), (2, 0), "{method:?}");
    }
}

#[test]
fn one_process_releases_what_another_acquired() {
    fn acquire(permits: Semaphore) {
        permits.acquire().unwrap().forget();
    }
    let permits = Semaphore::new(0).unwrap();
    assert!(permits.try_acquire().unwrap().is_none());
    let child = procession::spawn(acquire, permits.clone()).unwrap();
    until_asleep(&child);
    permits.release().unwrap();
    child.join().unwrap();
    assert_eq!(permits.available(), 0);
    let brief = Duration::from_millis(10);
    assert!(matches!(permits.acquire_timeout(brief), Err(Error::TimedOut)));
}

fn wait_for((turn, changed, mine): (Mutex<u32>, Condvar, u32)) {
    let mut turn = turn.lock().unwrap();
    while *turn != mine {
        changed.wait(&mut turn).unwrap();
    }
    *turn += 1;
    changed.notify_all().unwrap();
}

#[test]
fn a_condition_hands_the_turn_on() {
    for method in METHODS {
        let (turn, changed) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
        let children: Vec<_> = (1..5)
            .rev()
            .map(|mine| {
                by(method)
                    .spawn(wait_for, (turn.clone(), changed.clone(), mine))
                    .unwrap()
            })
            .collect();
        wait_for((turn.clone(), changed.clone(), 0));
        for child in children {
            child.join().unwrap();
        }
        assert_eq!(turn.get().unwrap(), 5, "{method:?}");
        let mut turn = turn.lock().unwrap();
        let late = changed.wait_timeout(&mut turn, Duration::from_millis(10));
        assert!(matches!(late, Err(Error::TimedOut)));
        *turn = 0;
    }
}

#[test]
fn a_notification_is_not_lost_on_a_killed_waiter() {
    for method in METHODS {
        let (turn, changed) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
        let arguments = || (turn.clone(), changed.clone(), 1);
        let victim = by(method).spawn(wait_for, arguments()).unwrap();
        until_asleep(&victim);
        let survivor = by(method).spawn(wait_for, arguments()).unwrap();
        until_asleep(&survivor);
        kill(victim);
        let mut guard = turn.lock().unwrap();
        *guard = 1;
        changed.notify_one().unwrap();
        drop(guard);
        assert_eq!(survivor.join(), Ok(()), "{method:?}");
    }
}

fn wait_event(event: Event) -> bool {
    event.wait().unwrap();
    event.is_set()
}

#[test]
fn an_event_reaches_the_surviving_waiters() {
    for method in METHODS {
        let event = Event::new().unwrap();
        let [victim, survivor] = [(), ()].map(|()| by(method).spawn(wait_event, event.clone()).unwrap());
        until_asleep(&victim);
        until_asleep(&survivor);
        kill(victim);
        assert!(matches!(
            event.wait_timeout(Duration::from_millis(10)),
            Err(Error::TimedOut)
        ));
        event.set();
        assert_eq!(survivor.join(), Ok(true), "{method:?}");
        event.clear();
        assert!(!event.is_set());
    }
}

/// Index of arrival and leader of the second of two rounds. `None` if the barrier was broken.
fn meet(barrier: Barrier) -> Option<(usize, bool)> {
    match barrier.wait().and_then(|_| barrier.wait()) {
        Ok(result) => Some((result.index(), result.is_leader())),
        Err(Error::BrokenBarrier(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_barrier_lets_all_pass_and_has_one_leader() {
    for method in METHODS {
        let barrier = Barrier::new(4).unwrap();
        let children: Vec<_> = (0..3)
            .map(|_| by(method).spawn(meet, barrier.clone()).unwrap())
            .collect();
        let mut met = vec![meet(barrier.clone()).unwrap()];
        met.extend(children.into_iter().map(|child| child.join().unwrap().unwrap()));
        met.sort_unstable();
        assert_eq!(met.iter().map(|one| one.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(met.iter().filter(|one| one.1).count(), 1, "{method:?}");
    }
}

#[test]
fn a_party_killed_at_the_barrier_breaks_it() {
    for method in METHODS {
        let barrier = Barrier::new(3).unwrap();
        let [victim, survivor] = [(), ()].map(|()| by(method).spawn(meet, barrier.clone()).unwrap());
        until_asleep(&victim);
        until_asleep(&survivor);
        kill(victim);
        assert_eq!(survivor.join(), Ok(None), "{method:?}");
        assert!(barrier.is_broken());
        assert!(matches!(barrier.wait(), Err(Error::BrokenBarrier(_))));
        barrier.reset().unwrap();
        let late = barrier.wait_timeout(Duration::from_millis(10));
        assert!(
            matches!(late, Err(Error::BrokenBarrier(_))),
            "one that is late breaks it"
        );
    }
}

/// Messages are bytes, which safe code may combine as it likes: no combination may lead to the same items through two
/// locks.
#[test]
fn no_mix_of_two_arrays_shares_items_without_their_lock() {
    let made = [Array::new(&[1_u64; 4]).unwrap(), Array::new(&[2_u64; 400]).unwrap()];
    let packed = made.each_ref().map(|array| collect(Vec::new(), array).unwrap().bytes);
    let lone = collect(Vec::new(), &Lock::new().unwrap()).unwrap().bytes;
    let mut decoded = 0;
    for (one, other) in [(0, 1), (1, 0)] {
        for at in 0..=packed[one].len() {
            for rest in [&packed[other], &lone] {
                let mixed: Vec<u8> = packed[one][..at].iter().chain(rest.iter().skip(at)).copied().collect();
                let Ok(array) = unpack::<Array<u64>>(&mixed, vec![]) else {
                    continue;
                };
                decoded += 1;
                for known in &made {
                    let mut guard = known.lock().unwrap();
                    let before = guard[0];
                    guard[0] = 77;
                    if let Ok(seen) = array.lock_timeout(Duration::ZERO) {
                        assert_ne!(seen[0], 77, "two exclusive borrows of the same items, at {at}");
                    }
                    guard[0] = before;
                }
            }
        }
    }
    assert!(decoded >= 2, "the whole ones");
}

fn make((): ()) -> (Queue<u8>, Mutex<u32>) {
    let queue = Queue::new().unwrap();
    queue.put(&7).unwrap();
    (queue, Mutex::new(5).unwrap())
}

fn give_back(to: Sender<u8>) -> Sender<u8> {
    to.send(&1).unwrap();
    to
}

#[test]
fn what_only_a_result_owns_arrives() {
    for method in METHODS {
        let (queue, mutex) = by(method).spawn(make, ()).unwrap().join().unwrap();
        assert_eq!((queue.get().unwrap(), *mutex.lock().unwrap()), (7, 5), "{method:?}");
        let (to, from) = channel().unwrap();
        let to = by(method).spawn(give_back, to).unwrap().join().unwrap();
        to.send(&2).unwrap();
        drop(to);
        assert_eq!(
            from.iter().collect::<Result<Vec<_>, _>>().unwrap(),
            [1, 2],
            "{method:?}"
        );
    }
}
