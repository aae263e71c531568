//! Queues, pipes, locks and shared values between processes, and what is left of them when one of the processes is killed.

use procession::travel::{collect, unpack};
use procession::{
    pipe, Array, Barrier, Builder, Condvar, Error, Event, JoinHandle, Lock, Mutex, Pipe, Pool, Queue, Semaphore,
};
use procession::{JoinError, LockError, StartMethod, Value};
use procession_core::roll;
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::process::Command;
use std::time::{Duration, Instant};

const METHODS: [StartMethod; 3] = [StartMethod::Spawn, StartMethod::Fork, StartMethod::Forkserver];

fn by(method: StartMethod) -> Builder {
    Builder::new().start_method(method)
}

/// Return once the process sleeps, waiting for something shared.
fn until_asleep<R>(process: &JoinHandle<R>) {
    let waits = || {
        let members = roll::members();
        members
            .iter()
            .any(|one| one.pid as i32 == process.pid() && !one.waits.is_empty())
    };
    while !waits() {
        assert!(!process.is_finished(), "it ends instead of waiting");
        std::thread::yield_now();
    }
}

fn kill<R: DeserializeOwned + std::fmt::Debug + PartialEq>(process: JoinHandle<R>) {
    process.kill().unwrap();
    assert_eq!(process.join(), Err(JoinError::Signaled(libc::SIGKILL)));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Item {
    Number(u64),
    Text { words: Vec<String>, long: String },
    Last,
}

fn items() -> Vec<Item> {
    let text = |size: usize| Item::Text {
        words: vec!["ä".into(), String::new()],
        long: "0123456789".repeat(size / 10),
    };
    vec![
        Item::Number(u64::MAX),
        text(0),
        text(100),
        text(100_000),
        text(1_000_000),
    ]
}

fn echo((from, to): (Queue<Item>, Queue<Item>)) {
    loop {
        let item = from.get().unwrap();
        to.put(&item).unwrap();
        if item == Item::Last {
            return;
        }
    }
}

#[test]
fn items_go_and_come_back_in_order() {
    for method in METHODS {
        let (there, back) = (Queue::new().unwrap(), Queue::bounded(1).unwrap());
        let child = by(method).spawn(echo, (there.clone(), back.clone())).unwrap();
        for item in items() {
            there.put(&item).unwrap();
        }
        there.put(&Item::Last).unwrap();
        let arrived: Vec<Item> = std::iter::repeat_with(|| back.get().unwrap())
            .take_while(|item| *item != Item::Last)
            .collect();
        assert!(arrived == items(), "{method:?}");
        child.join().unwrap();
        assert!(there.is_empty().unwrap() && back.is_empty().unwrap());
    }
}

fn put_numbers((queue, count): (Queue<u64>, u64)) {
    for number in 0..count {
        queue.put(&number).unwrap();
    }
}

#[test]
fn what_a_process_put_outlives_it() {
    for method in METHODS {
        let queue = Queue::new().unwrap();
        by(method)
            .spawn(put_numbers, (queue.clone(), 5000))
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(queue.len().unwrap(), 5000, "{method:?}");
        for number in 0..5000 {
            assert_eq!(queue.try_get().unwrap(), Some(number));
        }
        assert_eq!(queue.try_get().unwrap(), None);
    }
}

fn put_until_killed(queue: Queue<u64>) {
    put_numbers((queue, u64::MAX));
}

#[test]
fn a_killed_producer_leaves_whole_items_without_gaps() {
    for method in METHODS {
        let queue = Queue::new().unwrap();
        let child = by(method).spawn(put_until_killed, queue.clone()).unwrap();
        for number in 0..1000 {
            assert_eq!(queue.get().unwrap(), number, "{method:?}");
        }
        kill(child);
        let mut next = 1000;
        while let Some(number) = queue.try_get().unwrap() {
            assert_eq!(number, next, "{method:?}");
            next += 1;
        }
        queue.put(&7).unwrap();
        assert_eq!(queue.get().unwrap(), 7);
    }
}

fn get_one(queue: Queue<u64>) -> u64 {
    queue.get().unwrap()
}

#[test]
fn a_consumer_killed_while_it_waits_takes_nothing_along() {
    for method in METHODS {
        let queue = Queue::new().unwrap();
        let victim = by(method).spawn(get_one, queue.clone()).unwrap();
        until_asleep(&victim);
        let survivor = by(method).spawn(get_one, queue.clone()).unwrap();
        until_asleep(&survivor);
        kill(victim);
        queue.put(&5).unwrap();
        assert_eq!(survivor.join(), Ok(5), "{method:?}");
    }
}

fn answer_inside(requests: Queue<(u64, Queue<u64>)>) {
    let (number, answers) = requests.get().unwrap();
    answers.put(&(number * 2)).unwrap();
}

#[test]
fn a_queue_travels_inside_an_item() {
    for method in METHODS {
        let requests = Queue::new().unwrap();
        let answers = Queue::new().unwrap();
        requests.put(&(21, answers.clone())).unwrap();
        let child = by(method).spawn(answer_inside, requests).unwrap();
        assert_eq!(answers.get().unwrap(), 42, "{method:?}");
        child.join().unwrap();
    }
    // The item alone keeps it alive.
    let outer = Queue::new().unwrap();
    let inner = Queue::new().unwrap();
    inner.put(&1).unwrap();
    outer.put(&inner).unwrap();
    drop(inner);
    let inner: Queue<u64> = outer.get().unwrap();
    assert_eq!(inner.get().unwrap(), 1);
}

#[test]
fn a_bounded_queue_says_when_it_is_full() {
    let queue = Queue::bounded(2).unwrap();
    queue.put(&1).unwrap();
    queue.try_put(&2).unwrap();
    assert!(queue.is_full().unwrap());
    assert!(matches!(queue.try_put(&3), Err(Error::TimedOut)));
    let brief = Duration::from_millis(10);
    assert!(matches!(queue.put_timeout(&3, brief), Err(Error::TimedOut)));
    let child = procession::spawn(put_numbers, (queue.clone(), 1)).unwrap();
    until_asleep(&child);
    assert_eq!(queue.get().unwrap(), 1);
    child.join().unwrap();
    assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (2, 0));
    assert!(matches!(queue.get_timeout(brief), Err(Error::TimedOut)));
    let error = Queue::<u8>::bounded(0).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "a bounded queue needs a capacity of at least 1");
}

fn work_off(queue: Queue<u64>) {
    while queue.get().unwrap() != 0 {
        queue.task_done().unwrap();
    }
    queue.task_done().unwrap();
}

#[test]
fn join_waits_until_every_task_is_done() {
    let queue = Queue::new().unwrap();
    for number in [3, 2, 1, 0] {
        queue.put(&number).unwrap();
    }
    let child = procession::spawn(work_off, queue.clone()).unwrap();
    queue.join().unwrap();
    assert!(queue.is_empty().unwrap());
    let error = queue.task_done().unwrap_err().to_string();
    assert_eq!(error, "task_done() called too many times");
    child.join().unwrap();
}

fn shout(end: Pipe<Item>) -> usize {
    let mut count = 0;
    while let Some(item) = end.recv().unwrap() {
        end.send(&item).unwrap();
        count += 1;
    }
    count
}

#[test]
fn a_pipe_goes_both_ways_and_ends() {
    for method in METHODS {
        let (ours, theirs) = pipe::<Item>().unwrap();
        let child = by(method).spawn(shout, theirs).unwrap();
        for item in items() {
            ours.send(&item).unwrap();
            assert!(ours.recv().unwrap() == Some(item), "{method:?}");
        }
        assert!(!ours.poll(Duration::ZERO).unwrap());
        ours.close().unwrap();
        assert_eq!(child.join(), Ok(items().len()), "{method:?}");
    }
}

fn receive_for_ever(end: Pipe<u64>) {
    end.send(&1).unwrap();
    while end.recv().unwrap() != Some(0) {}
}

#[test]
fn the_death_of_a_process_is_the_end_of_its_pipe() {
    for method in METHODS {
        let (ours, theirs) = pipe::<u64>().unwrap();
        let child = by(method).spawn(receive_for_ever, theirs).unwrap();
        assert_eq!(ours.recv().unwrap(), Some(1));
        kill(child);
        assert_eq!(ours.recv().unwrap(), None, "{method:?}");
        assert!(ours.send(&1).is_err(), "and no signal");
    }
}

fn answer_all(ends: Queue<Option<(u64, Pipe<u64>)>>) -> u64 {
    let mut answered = 0;
    while let Some((number, end)) = ends.get().unwrap() {
        assert_eq!(end.recv().unwrap(), Some(number));
        end.send(&(number * 2)).unwrap();
        answered += 1;
    }
    answered
}

#[test]
fn ends_of_pipes_go_through_queues() {
    for method in METHODS {
        let queue = Queue::new().unwrap();
        let child = by(method).spawn(answer_all, queue.clone()).unwrap();
        let ours: Vec<_> = (0..5)
            .map(|number| {
                let (ours, theirs) = pipe::<u64>().unwrap();
                queue.put(&Some((number, theirs))).unwrap();
                ours.send(&number).unwrap();
                ours
            })
            .collect();
        queue.put(&None).unwrap();
        for (number, end) in ours.iter().enumerate() {
            assert_eq!(end.recv().unwrap(), Some(2 * number as u64), "{method:?}");
            assert_eq!(end.recv().unwrap(), None, "no copy is left open: {method:?}");
        }
        assert_eq!(child.join(), Ok(5));
    }
}

#[test]
fn a_process_may_take_back_what_it_sent() {
    let queue = Queue::new().unwrap();
    let (ours, theirs) = pipe::<u64>().unwrap();
    queue.put(&vec![theirs]).unwrap();
    let back = queue.get().unwrap();
    back[0].send(&5).unwrap();
    drop(back);
    assert_eq!((ours.recv().unwrap(), ours.recv().unwrap()), (Some(5), None));
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn what_is_never_read_is_closed() {
    let queue = Queue::new().unwrap(); // opens what a family has
    let before = open_descriptors();
    let others: Vec<_> = (0..20)
        .map(|_| {
            let (ours, theirs) = pipe::<u64>().unwrap();
            queue.put(&theirs).unwrap();
            ours
        })
        .collect();
    assert!(open_descriptors() >= before + 40);
    drop(queue);
    for end in &others {
        assert_eq!(end.recv().unwrap(), None);
    }
    drop(others);
    // Their socket goes a while after them.
    let deadline = Instant::now() + Duration::from_secs(20);
    while open_descriptors() > before {
        assert!(Instant::now() < deadline, "{} are left", open_descriptors() - before);
        std::thread::yield_now();
    }
}

fn put_one(queue: Queue<Pipe<u64>>) {
    queue.put(&pipe().unwrap().0).unwrap();
}

#[test]
fn who_ends_takes_unread_ends_along() {
    for method in METHODS {
        let queue = Queue::new().unwrap();
        by(method).spawn(put_one, queue.clone()).unwrap().join().unwrap();
        let error = queue.get().unwrap_err().to_string();
        assert!(error.contains("its sender has ended"), "{error}");
    }
}

fn relay((number, end): (u64, Pipe<u64>)) -> (u64, Pipe<u64>) {
    end.send(&number).unwrap();
    (number + 1, end)
}

#[test]
fn ends_of_pipes_are_arguments_and_results_of_pool_tasks() {
    let pool = Pool::new(2).unwrap();
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..6).map(|_| pipe::<u64>().unwrap()).unzip();
    let back = pool
        .map(relay, theirs.into_iter().zip(0..).map(|(end, number)| (number, end)))
        .unwrap();
    for (number, (end, (next, returned))) in ours.iter().zip(back).enumerate() {
        assert_eq!((end.recv().unwrap(), next), (Some(number as u64), number as u64 + 1));
        returned.send(&7).unwrap();
        assert_eq!(end.recv().unwrap(), Some(7));
    }
}

type Counters = (Lock, Mutex<u64>, Value<f64>, Array<u32>);

fn count((lock, mutex, value, array): Counters) {
    for round in 0..300 {
        *mutex.lock().unwrap() += 1;
        let held = lock.lock().unwrap();
        // Two steps, which only the lock makes one.
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

/// Whether it was told of a death, for the lock and the mutex.
fn take((lock, mutex): (Lock, Mutex<u64>)) -> (bool, bool) {
    let one = matches!(lock.lock().map(drop), Err(LockError::Poisoned(_)));
    drop(lock.lock().unwrap());
    let other = matches!(mutex.lock().map(drop), Err(LockError::Poisoned(_)));
    *mutex.lock().unwrap() += 1;
    (one, other)
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
fn whoever_is_told_holds_the_lock_and_can_make_whole_what_it_guards() {
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
    assert!(
        poisoned.death().to_string().contains("tests/data.rs:"),
        "{}",
        poisoned.death()
    );
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
    // As an error it gives the lock back.
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
    changed.notify_all();
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
        changed.notify_one();
        drop(guard);
        assert_eq!(survivor.join(), Ok(()), "{method:?}");
    }
}

fn wait_event(event: Event) -> bool {
    event.wait().unwrap();
    event.is_set()
}

#[test]
fn an_event_reaches_those_who_still_live() {
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

/// Index of arrival and leader of two rounds; `None`: the barrier was broken.
fn meet(barrier: Barrier) -> Option<(usize, bool)> {
    match barrier.wait().and_then(|_| barrier.wait()) {
        Ok(result) => Some((result.index(), result.is_leader())),
        Err(Error::BrokenBarrier) => None,
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
        assert!(matches!(barrier.wait(), Err(Error::BrokenBarrier)));
        barrier.reset().unwrap();
        let late = barrier.wait_timeout(Duration::from_millis(10));
        assert!(matches!(late, Err(Error::BrokenBarrier)), "one that is late breaks it");
    }
}

/// This test executable, once more, for one of its ignored tests: a family of its own.
fn passes(name: &str, variable: &str, value: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "--test-threads=1", name])
        .env(variable, value)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

const FOREIGN: &str = "PROCESSION_TEST_FOREIGN";

/// Each kind of shared object, packed.
fn packed() -> [(&'static str, Vec<u8>); 8] {
    fn pack<T: Serialize>(value: procession::Result<T>) -> Vec<u8> {
        collect(Vec::new(), &value.unwrap()).unwrap().bytes
    }
    [
        ("queue", pack(Queue::<u8>::new())),
        ("lock", pack(Lock::new())),
        ("lock", pack(Mutex::new(0_u8))), // its lock comes first
        ("lock", pack(Array::<u8>::zeroed(9))),
        ("semaphore", pack(Semaphore::new(1))),
        ("condition", pack(Condvar::new())),
        ("event", pack(Event::new())),
        ("barrier", pack(Barrier::new(2))),
    ]
}

#[test]
fn what_belongs_to_another_family_is_refused() {
    let texts = packed().map(|(_, bytes)| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(","));
    passes("refuses_what_is_foreign", FOREIGN, &texts.join(" "));
}

#[test]
#[ignore = "run by another test"]
fn refuses_what_is_foreign() {
    let texts = std::env::var(FOREIGN).unwrap();
    let foreign: Vec<Vec<u8>> = texts
        .split(' ')
        .map(|text| text.split(',').map(|byte| byte.parse().unwrap()).collect())
        .collect();
    let own = packed(); // this family has objects in the same places
    let error = |at: usize| {
        let bytes = &foreign[at];
        let error = match at {
            0 => unpack::<Queue<u8>>(bytes, vec![]).map(drop),
            1 => unpack::<Lock>(bytes, vec![]).map(drop),
            2 => unpack::<Mutex<u8>>(bytes, vec![]).map(drop),
            3 => unpack::<Array<u8>>(bytes, vec![]).map(drop),
            4 => unpack::<Semaphore>(bytes, vec![]).map(drop),
            5 => unpack::<Condvar>(bytes, vec![]).map(drop),
            6 => unpack::<Event>(bytes, vec![]).map(drop),
            _ => unpack::<Barrier>(bytes, vec![]).map(drop),
        };
        error.unwrap_err().to_string()
    };
    for (at, (name, _)) in own.iter().enumerate() {
        let text = format!("this {name} belongs to another family of processes: it cannot be used here");
        assert_eq!(error(at), text);
    }
}

#[test]
fn a_handle_of_another_kind_or_of_nothing_is_refused() {
    let lock = Lock::new().unwrap();
    let bytes = collect(Vec::new(), &lock).unwrap().bytes;
    assert!(unpack::<Event>(&bytes, vec![]).is_err());
    drop(unpack::<Lock>(&bytes, vec![]).unwrap());
    drop(lock);
    let error = unpack::<Lock>(&bytes, vec![]).unwrap_err().to_string();
    assert!(error.ends_with("no longer exists"), "{error}");
}

#[test]
fn what_memory_cannot_hold_is_refused_here_and_on_arrival() {
    #[derive(Clone, Copy)]
    #[repr(C, align(64))]
    struct Aligned([u8; 64]);
    // SAFETY: plain bytes without padding.
    unsafe impl bytemuck::Zeroable for Aligned {}
    // SAFETY: as above.
    unsafe impl bytemuck::Pod for Aligned {}

    let bytes = collect(Vec::new(), &Array::new(&[0_u8; 64]).unwrap()).unwrap().bytes;
    let alignment = "shared memory is aligned to 16 bytes, this type wants more";
    for error in [
        Array::<Aligned>::zeroed(1).unwrap_err(),
        unpack::<Array<Aligned>>(&bytes, vec![]).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), alignment);
    }
    let size = "a type without a size has nothing to share";
    for error in [
        Mutex::new(()).unwrap_err(),
        unpack::<Mutex<()>>(&bytes, vec![]).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), size);
    }
    let error = Array::<u64>::zeroed(usize::MAX).unwrap_err().to_string();
    assert_eq!(error, "the array is larger than memory can be");
}

#[test]
fn threads_share_all_of_it_and_it_can_be_shown() {
    fn both<T: Send + Sync + std::fmt::Debug>(shared: T) -> String {
        format!("{shared:?}")
    }
    struct Bare; // what a queue carries does not matter
    type Local = (std::rc::Rc<()>, Bare);
    assert_eq!(both(Queue::<Local>::new().unwrap()), "Queue { len: Some(0), .. }");
    assert!(both(pipe::<Local>().unwrap().0).starts_with("Pipe { fd: "));
    let array = Array::new(&[1_u16, 2]).unwrap();
    assert_eq!(format!("{:?}", array.lock().unwrap()), "[1, 2]");
    assert_eq!(both(array), "Array { bytes: 4, .. }");
    let mutex = Mutex::new(5_u8).unwrap();
    assert_eq!(format!("{:?}", mutex.lock().unwrap()), "5");
    assert_eq!(both(mutex), "Mutex { .. }");
    both((
        Lock::new().unwrap(),
        Semaphore::new(1).unwrap(),
        Condvar::new().unwrap(),
    ));
    both((Event::new().unwrap(), Barrier::new(1).unwrap()));
}

#[test]
fn exhausted_memory_is_an_error_and_everything_goes_on() {
    passes("goes_on_after_exhaustion", "PROCESSION_ARENA_SIZE", "64M");
}

fn long(size: usize) -> String {
    "x".repeat(size)
}

#[test]
#[ignore = "run by another test"]
fn goes_on_after_exhaustion() {
    let exhausted = |error: &Error| error.to_string().starts_with("out of shared memory: ");
    let huge = long(100 << 20);
    let queue = Queue::new().unwrap();
    assert!(exhausted(&queue.put(&huge).unwrap_err()));
    assert!(exhausted(&Array::<u8>::zeroed(100 << 20).map(drop).unwrap_err()));
    let megabyte = long(1 << 20);
    for method in METHODS {
        assert!(queue.is_empty().unwrap());
        // Fork does not copy arguments.
        if method != StartMethod::Fork {
            let refused = by(method).spawn(|text: String| text.len(), huge.clone());
            assert!(exhausted(&refused.unwrap_err()), "{method:?}");
        }
        let lost = by(method).spawn(long, huge.len()).unwrap().join().unwrap_err();
        assert!(
            matches!(&lost, JoinError::Lost(text) if text.starts_with("out of shared memory: ")),
            "{method:?}: {lost}"
        );
        let mut count = 0;
        let error = loop {
            match queue.put(&megabyte) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(exhausted(&error) && count > 20, "{method:?}: {count} {error}");
        let (one, two) = (queue.get().unwrap(), queue.get().unwrap());
        assert!(one == megabyte && two == megabyte);
        let child = by(method).spawn(long, 1 << 20).unwrap();
        assert!(child.join().unwrap() == megabyte, "{method:?}");
        for _ in 2..count {
            assert!(queue.get().unwrap() == megabyte);
        }
    }
}
