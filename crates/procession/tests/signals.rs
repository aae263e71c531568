//! Signals that interrupt every wait, again and again: the wait continues, and keeps its timeout.

mod common;

use common::by;
use procession::{pipe, Barrier, Condvar, Error, Event, Lock, Pool, Queue, Semaphore, StartMethod};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// The number of signals that a wait must survive.
const SIGNALS: u64 = 200;
const TIMEOUT: Duration = Duration::from_millis(50);

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    HANDLED.fetch_add(1, SeqCst);
}

/// Install a handler that interrupts system calls.
fn listen() {
    // SAFETY: all zero is a valid `sigaction`, without `SA_RESTART`; the handler does nothing but count.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as *const () as usize;
        assert_eq!(
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()),
            0
        );
    }
}

/// Run `wait` while another thread keeps sending signals to this thread. After [`SIGNALS`] signals were handled, the
/// other thread calls `end`. Returns what `wait` returned, and how long it took.
fn in_a_storm<T>(wait: impl FnOnce() -> T, end: impl FnOnce() + Send) -> (T, Duration) {
    listen();
    // SAFETY: a call without arguments.
    let waiter = unsafe { libc::pthread_self() };
    let (over, before, began) = (AtomicBool::new(false), HANDLED.load(SeqCst), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut end = Some(end);
            while !over.load(SeqCst) {
                // SAFETY: the waiter outlives this scope.
                unsafe { libc::pthread_kill(waiter, libc::SIGUSR1) };
                if HANDLED.load(SeqCst) - before >= SIGNALS {
                    if let Some(end) = end.take() {
                        end();
                    }
                }
                std::thread::yield_now();
            }
        });
        let value = wait();
        let took = began.elapsed();
        over.store(true, SeqCst);
        (value, took)
    })
}

/// The wait continues until `end` ends it.
fn goes_on<T>(wait: impl FnOnce() -> T, end: impl FnOnce() + Send) -> T {
    let before = HANDLED.load(SeqCst);
    let (value, _) = in_a_storm(wait, end);
    assert!(HANDLED.load(SeqCst) - before >= SIGNALS);
    value
}

/// The wait ends with its timeout, and not earlier.
fn times_out<T>(wait: impl FnOnce(Duration) -> Result<T, Error>) {
    let (end, took) = in_a_storm(|| wait(TIMEOUT).map(drop), || ());
    assert!(matches!(end, Err(Error::TimedOut)), "{end:?}");
    assert!(took >= TIMEOUT, "{took:?}");
}

fn sleep((): ()) {
    loop {
        std::thread::park();
    }
}

fn after(begin: Event) -> u32 {
    begin.wait().unwrap();
    7
}

#[test]
fn queues() {
    let queue = Queue::<u32>::bounded(1).unwrap();
    times_out(|timeout| queue.get_timeout(timeout));
    assert_eq!(goes_on(|| queue.get(), || queue.put(&7).unwrap()).unwrap(), 7);
    queue.put(&1).unwrap();
    times_out(|timeout| queue.put_timeout(&2, timeout));
    goes_on(|| queue.put(&2), || assert_eq!(queue.get().unwrap(), 1)).unwrap();
    assert_eq!(queue.get().unwrap(), 2);
    goes_on(|| queue.join(), || (0..3).for_each(|_| queue.task_done().unwrap())).unwrap();
}

#[test]
fn locks_and_conditions() {
    let (lock, condition) = (Lock::new().unwrap(), Condvar::new().unwrap());
    let (taken, end) = (std::sync::Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let guard = lock.lock().unwrap();
            taken.wait();
            while !end.load(SeqCst) {
                std::thread::yield_now();
            }
            drop(guard);
        });
        taken.wait();
        times_out(|timeout| {
            lock.lock_timeout(timeout)
                .map_err(|error| error.into_inner().map(drop).unwrap_err())
        });
        drop(goes_on(|| lock.lock().unwrap(), || end.store(true, SeqCst)));
    });
    let mut guard = lock.lock().unwrap();
    times_out(|timeout| condition.wait_timeout(&mut guard, timeout));
    let notify = || {
        let _guard = lock.lock().unwrap();
        condition.notify_one().unwrap();
    };
    goes_on(|| condition.wait(&mut guard), notify).unwrap();
    assert_eq!(
        lock.try_lock().map(|guard| guard.is_some()).ok(),
        Some(false),
        "it is held again"
    );
}

#[test]
fn semaphores_events_and_barriers() {
    let semaphore = Semaphore::new(0).unwrap();
    times_out(|timeout| semaphore.acquire_timeout(timeout));
    goes_on(|| semaphore.acquire(), || semaphore.release().unwrap())
        .unwrap()
        .forget();
    assert_eq!(semaphore.available(), 0);
    let event = Event::new().unwrap();
    times_out(|timeout| event.wait_timeout(timeout));
    goes_on(|| event.wait(), || event.set()).unwrap();
    let barrier = Barrier::new(2).unwrap();
    goes_on(|| barrier.wait(), || assert_eq!(barrier.wait().unwrap().index(), 1)).unwrap();
    let (end, took) = in_a_storm(|| barrier.wait_timeout(TIMEOUT).map(drop), || ());
    assert!(matches!(end, Err(Error::BrokenBarrier(_) | Error::TimedOut)), "{end:?}");
    assert!(took >= TIMEOUT && barrier.is_broken());
}

#[test]
fn pipes() {
    let (ours, theirs) = pipe::<Vec<u8>>().unwrap();
    let (end, took) = in_a_storm(|| ours.poll(TIMEOUT), || ());
    assert!(!end.unwrap());
    assert!(took >= TIMEOUT, "{took:?}");
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let copy = large.clone();
    let send = || drop(std::thread::spawn(move || theirs.send(&copy).unwrap()));
    let got = goes_on(|| ours.recv(), send).unwrap();
    assert!(got == Some(large), "in many pieces, and whole");
}

#[test]
fn processes_and_pools() {
    for method in [StartMethod::Spawn, StartMethod::Fork, StartMethod::Forkserver] {
        let builder = by(method);
        let sleeper = builder.clone().daemon(true).spawn(sleep, ()).unwrap();
        let (end, took) = in_a_storm(|| sleeper.wait(TIMEOUT), || ());
        assert!(!end.unwrap());
        assert!(took >= TIMEOUT, "{took:?}");
        sleeper.kill().unwrap();
        let begin = Event::new().unwrap();
        let child = builder.spawn(after, begin.clone()).unwrap();
        assert_eq!(goes_on(|| child.join(), || begin.set()).unwrap(), 7);
    }
    let (pool, begin) = (Pool::new(1).unwrap(), Event::new().unwrap());
    let result = pool.apply_async(after, begin.clone()).unwrap();
    times_out(|timeout| result.get_timeout(timeout));
    assert_eq!(goes_on(|| result.get(), || begin.set()).unwrap(), 7);
}
