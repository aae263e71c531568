//! Pools, with every start method: results, failures, deaths, ends.

use procession::{Builder, Error, Event, JoinError, Pool, StartMethod};
use std::time::Duration;

const METHODS: [StartMethod; 3] = [StartMethod::Fork, StartMethod::Spawn, StartMethod::Forkserver];

fn each(check: impl Fn(Pool)) {
    for method in METHODS {
        check(Pool::with(2, Builder::new().start_method(method)).unwrap());
    }
}

fn square(n: u64) -> u64 {
    n * n
}

fn squares(n: u64) -> Vec<u64> {
    (0..n).map(square).collect()
}

fn odd(n: u64) -> Result<u64, String> {
    if n % 2 == 1 {
        Ok(n)
    } else {
        Err(format!("{n} is even"))
    }
}

fn refuse_three(n: u64) -> u64 {
    assert!(n != 3, "no {n}, please");
    n
}

fn die_of(signal: i32) {
    // SAFETY: a signal to ourselves.
    unsafe { libc::kill(libc::getpid(), signal) };
}

fn exit_with(code: i32) {
    std::process::exit(code)
}

fn sleep_ms(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

fn pid(_: u64) -> u32 {
    std::process::id()
}

fn name(_: u64) -> String {
    procession::current().name().to_owned()
}

#[test]
fn results_in_order() {
    each(|pool| {
        assert_eq!(pool.map(square, 0..1000).unwrap(), squares(1000));
        assert_eq!(pool.map(square, []).unwrap(), [0u64; 0]);
        assert_eq!(pool.apply(square, 12).unwrap(), 144);
        assert_eq!(
            pool.map(odd, 0..3).unwrap(),
            [Err("0 is even".into()), Ok(1), Err("2 is even".into())]
        );
        let results: Result<Vec<u64>, Error> = pool.imap(square, 0..1000).unwrap().collect();
        assert_eq!(results.unwrap(), squares(1000));
        assert!(pool
            .map(pid, 0..50)
            .unwrap()
            .iter()
            .all(|&pid| pid != std::process::id()));
        assert!(pool
            .map(name, 0..5)
            .unwrap()
            .iter()
            .all(|name| name.starts_with("PoolWorker-")));
    });
}

#[test]
fn imap_takes_from_endless_iterators() {
    each(|pool| {
        let mut taken = 0;
        let items = std::iter::repeat_with(|| {
            taken += 1;
            taken
        });
        let results: Vec<u64> = pool
            .imap(square, items)
            .unwrap()
            .take(300)
            .map(Result::unwrap)
            .collect();
        assert_eq!(results, squares(301)[1..]);
        assert!(taken < 1000, "{taken}: not far ahead");
    });
}

#[test]
fn a_panic_is_a_value() {
    each(|pool| {
        let error = pool.map(refuse_three, 0..10).unwrap_err();
        match error {
            Error::Join(JoinError::Panicked { message, location, .. }) => {
                assert_eq!(message, "no 3, please");
                assert!(location.contains("pools.rs"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.map(refuse_three, 4..7).unwrap(), [4, 5, 6]);
    });
}

#[test]
fn a_panic_does_not_end_the_worker() {
    for method in METHODS {
        let pool = Pool::with(1, Builder::new().start_method(method)).unwrap();
        let before = pool.apply(pid, 0).unwrap();
        for _ in 0..3 {
            assert!(pool.apply(refuse_three, 3).is_err());
        }
        assert_eq!(pool.apply(pid, 0).unwrap(), before);
    }
}

#[test]
fn a_death_fails_its_own_task_only() {
    each(|pool| {
        let victim = pool.apply_async(die_of, libc::SIGKILL).unwrap();
        let exiting = pool.apply_async(exit_with, 7).unwrap();
        let others = pool.map_async(square, 0..100).unwrap();
        assert!(matches!(
            victim.get(),
            Err(Error::WorkerDied {
                how: JoinError::Signaled(libc::SIGKILL),
                ..
            })
        ));
        assert!(matches!(
            exiting.get(),
            Err(Error::WorkerDied {
                how: JoinError::Exited(7),
                ..
            })
        ));
        assert_eq!(others.get().unwrap(), squares(100));
        assert_eq!(pool.map(square, 0..20).unwrap(), squares(20));
    });
}

#[test]
fn timeouts_may_be_tried_again() {
    each(|pool| {
        let result = pool.apply_async(sleep_ms, 300).unwrap();
        assert!(!result.is_ready());
        assert!(matches!(
            result.get_timeout(Duration::from_millis(5)),
            Err(Error::TimedOut)
        ));
        assert!(!result.wait_timeout(Duration::ZERO));
        result.wait();
        assert!(result.is_ready());
        assert_eq!(result.get_timeout(Duration::ZERO).unwrap(), 300);
        assert!(matches!(result.get(), Err(Error::Invalid(_))), "a result is taken once");
    });
}

#[test]
fn close_finishes_the_old_and_refuses_the_new() {
    each(|pool| {
        let old = pool.map_async(sleep_ms, [50; 6]).unwrap();
        assert!(matches!(pool.join(), Err(Error::Invalid(_))), "not yet closed");
        pool.close();
        assert!(matches!(pool.apply(square, 1), Err(Error::Invalid("Pool not running"))));
        pool.join().unwrap();
        assert_eq!(old.get().unwrap(), [50; 6]);
    });
}

#[test]
fn terminate_stops_at_once() {
    each(|pool| {
        let endless = pool.map_async(sleep_ms, [60_000; 100]).unwrap();
        pool.terminate();
        pool.join().unwrap();
        assert!(matches!(endless.get(), Err(Error::Terminated)));
    });
}

fn hang(started: Event) {
    started.set();
    loop {
        std::thread::park();
    }
}

#[test]
fn results_of_running_tasks_may_be_dropped_before_the_end() {
    each(|pool| {
        let started = Event::new().unwrap();
        let endless = pool.apply_async(hang, started.clone()).unwrap();
        started.wait().unwrap();
        pool.terminate();
        drop(endless);
        pool.join()
            .expect("the watch buries workers whose task nobody knows any more");
    });
}

#[test]
fn a_pool_needs_a_worker_and_a_function_of_the_program() {
    assert!(matches!(Pool::new(0), Err(Error::Invalid(_))));
    let pool = Pool::new(1).unwrap();
    assert_eq!(
        pool.map(|n: u64| n + 1, 0..3).unwrap(),
        [1, 2, 3],
        "a closure that captures nothing will do"
    );
}
