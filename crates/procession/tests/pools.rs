//! Pools, with every start method: results, failures, deaths, shutdown. The file is long because each file of tests is
//! a program of its own to link.

mod common;

use common::{alone, by, program, METHODS};
use procession::{Builder, Error, Event, JoinError, Pool, Queue, StartMethod};
use std::time::{Duration, Instant};

fn each(check: impl Fn(Pool)) {
    for method in METHODS {
        check(Pool::with(2, by(method)).unwrap());
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
    // SAFETY: sends a signal to this process.
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
        let pool = Pool::with(1, by(method)).unwrap();
        let before = pool.apply(pid, 0).unwrap();
        for _ in 0..3 {
            assert!(pool.apply(refuse_three, 3).is_err());
        }
        assert_eq!(pool.apply(pid, 0).unwrap(), before);
    }
}

/// A logger that writes nothing but takes a lock.
struct Locking(std::sync::Mutex<u64>);

impl log::Log for Locking {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        *self.0.lock().unwrap() += 1;
    }

    fn flush(&self) {}
}

static LOCKING: Locking = Locking(std::sync::Mutex::new(0));

fn square_and_log(n: u64) -> u64 {
    log::info!("at {n}");
    square(n)
}

#[test]
fn workers_that_are_replaced_inherit_no_lock() {
    let output = program("replaces_workers_while_a_thread_logs").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by another test"]
fn replaces_workers_while_a_thread_logs() {
    alone(|| {
        log::set_logger(&LOCKING).unwrap();
        log::set_max_level(log::LevelFilter::Info);
        let pool = Pool::with(2, Builder::new().start_method(StartMethod::Fork)).unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    log::info!("busy");
                }
            });
            for n in 0..30 {
                assert!(pool.apply(exit_with, 0).is_err());
                assert_eq!(pool.apply(square_and_log, n).unwrap(), n * n);
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
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
                how: JoinError::Signaled {
                    signal: libc::SIGKILL,
                    ..
                },
                ..
            })
        ));
        assert!(matches!(
            exiting.get(),
            Err(Error::WorkerDied {
                how: JoinError::Exited { code: 7, .. },
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
            .expect("the watch thread reaps workers whose task has been dropped");
    });
}

fn refuse_three_die_at_five(n: u64) -> u64 {
    if n == 5 {
        die_of(libc::SIGKILL);
    }
    refuse_three(n)
}

#[test]
fn try_map_keeps_the_result_of_every_item() {
    each(|pool| {
        let results = pool.try_map(refuse_three_die_at_five, 0..8).unwrap();
        for (n, result) in (0..).zip(&results) {
            match (n, result) {
                (3, Err(Error::Join(JoinError::Panicked { message, .. }))) => assert_eq!(message, "no 3, please"),
                (5, Err(Error::WorkerDied { how, .. })) => assert_eq!(how.signal(), Some(libc::SIGKILL)),
                (_, Ok(result)) => assert_eq!(*result, n),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(results.len(), 8);
        assert!(pool.try_map(square, []).unwrap().is_empty());
    });
}

#[test]
fn a_panic_among_tiny_items_of_imap_fails_its_own() {
    each(|pool| {
        let before = pool.stats().done;
        let results: Vec<_> = pool
            .imap(refuse_three, (4..2000).chain([3]).chain(2000..3000))
            .unwrap()
            .collect();
        assert_eq!(results.len(), 2997);
        let failed: Vec<_> = results
            .iter()
            .enumerate()
            .filter(|(_, result)| result.is_err())
            .map(|(at, _)| at)
            .collect();
        assert_eq!(failed, [1996]);
        // How many travel together depends on the time that one takes here, but they do.
        assert!(pool.stats().done - before < 2997);
    });
}

#[test]
fn what_has_no_taker_frees_its_worker() {
    for method in METHODS {
        let pool = Pool::with(1, by(method)).unwrap();
        let started = Event::new().unwrap();
        let start = || {
            let endless = pool.apply_async(hang, started.clone()).unwrap();
            started.wait().unwrap();
            started.clear();
            endless
        };
        drop(start());
        assert_eq!(pool.apply(square, 2).unwrap(), 4, "{method:?}");
        let mut results = pool.imap(hang, [started.clone(), started.clone()]).unwrap();
        started.wait().unwrap();
        started.clear();
        assert!(results.cancel());
        assert!(matches!(results.next(), Some(Err(Error::Cancelled))));
        drop(results);
        assert_eq!(pool.apply(square, 3).unwrap(), 9, "{method:?}");
        let results = pool.imap(hang, [started.clone()]).unwrap();
        started.wait().unwrap();
        drop(results);
        assert_eq!(pool.apply(square, 4).unwrap(), 16, "{method:?}");
        // What is detached goes on.
        let put = Queue::new().unwrap();
        pool.apply_async(|queue: Queue<u8>| queue.put(&7).unwrap(), put.clone())
            .unwrap()
            .detach();
        assert_eq!(put.get().unwrap(), 7);
    }
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

#[test]
fn a_task_that_takes_too_long_is_stopped_alone() {
    each(|pool| {
        let pool = pool.task_timeout(Duration::from_millis(200));
        let error = pool.map(sleep_ms, [0, 60_000, 1]).unwrap_err();
        assert!(matches!(error, Error::TaskTimedOut { .. }), "{error}");
        let slow = pool.apply_async(sleep_ms, 60_000).unwrap();
        assert_eq!(pool.map(square, 0..50).unwrap(), squares(50));
        assert!(matches!(slow.get(), Err(Error::TaskTimedOut { .. })));
    });
}

#[test]
fn cancelled_tasks_are_not_done_and_running_ones_stopped() {
    each(|pool| {
        let started = Event::new().unwrap();
        let running = pool.apply_async(hang, started.clone()).unwrap();
        let line = pool.map_async(sleep_ms, vec![60_000; 10]).unwrap();
        started.wait().unwrap();
        assert!(running.cancel());
        assert!(line.cancel());
        assert!(matches!(running.get(), Err(Error::Cancelled)));
        assert!(matches!(line.get(), Err(Error::Cancelled)));
        let done = pool.apply_async(square, 3).unwrap();
        done.wait();
        assert!(!done.cancel());
        assert_eq!(done.get().unwrap(), 9);
    });
}

fn die_once(marks: Queue<u8>) -> bool {
    if marks.try_get().unwrap().is_some() {
        die_of(libc::SIGKILL);
    }
    true
}

#[test]
fn a_task_is_tried_again_as_often_as_allowed() {
    each(|pool| {
        let pool = pool.retries(2);
        let marks = Queue::new().unwrap();
        let fill = |count| (0..count).for_each(|mark| marks.put(&mark).unwrap());
        fill(2);
        assert!(pool.apply(die_once, marks.clone()).unwrap());
        fill(3);
        assert!(matches!(
            pool.apply(die_once, marks.clone()),
            Err(Error::WorkerDied { .. })
        ));
        assert!(marks.is_empty().unwrap());
    });
}

#[test]
fn a_pool_is_resized_and_counts() {
    each(|pool| {
        pool.resize(3).unwrap();
        assert_eq!(pool.map(sleep_ms, [1; 30]).unwrap(), [1; 30]);
        pool.resize(1).unwrap();
        assert!(pool.resize(0).is_err());
        assert_eq!(pool.map(square, 0..50).unwrap(), squares(50));
        let deadline = Instant::now() + Duration::from_secs(20);
        while pool.stats().workers.len() > 1 {
            assert!(Instant::now() < deadline, "{:?}", pool.stats());
            std::thread::yield_now();
        }
        let stats = pool.stats();
        assert!(stats.done >= 2 && stats.queued == 0, "{stats:?}");
        assert!(stats.workers[0].pid > 0);
    });
}

#[test]
fn imap_takes_no_more_large_items_than_keep_the_workers_busy() {
    fn length((gate, item): (Event, String)) -> usize {
        gate.wait().unwrap();
        item.len()
    }
    let (taken, gate) = (std::cell::Cell::new(0), Event::new().unwrap());
    let items = (0..30).map(|_| {
        taken.set(taken.get() + 1);
        (gate.clone(), "x".repeat(1_000_000))
    });
    let pool = Pool::new(2).unwrap();
    let results = pool.imap(length, items).unwrap();
    assert_eq!(taken.get(), 5, "4 MiB");
    gate.set();
    assert_eq!(results.map(Result::unwrap).collect::<Vec<_>>(), [1_000_000; 30]);
    assert_eq!(taken.get(), 30);
}

/// The last cannot be sent.
#[derive(serde::Deserialize)]
enum Item {
    Wait(Event),
    Unfit,
}

impl serde::Serialize for Item {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Wait(event) => to.serialize_newtype_variant("Item", 0, "Wait", event),
            Self::Unfit => Err(serde::ser::Error::custom("unfit")),
        }
    }
}

fn wait_for(item: Item) {
    let Item::Wait(event) = item else { return };
    event.wait().unwrap();
}

#[test]
fn an_item_that_cannot_be_sent_leaves_no_tasks_behind() {
    for method in METHODS {
        // With a limit, each item is a task of its own.
        let pool = Pool::with(1, by(method)).unwrap();
        let pool = pool.task_timeout(Duration::from_secs(1000));
        let never = Event::new().unwrap();
        let items = [Item::Wait(never.clone()), Item::Wait(never.clone()), Item::Unfit];
        let error = pool.map(wait_for, items).unwrap_err();
        assert!(matches!(error, Error::Encode { .. }), "{error}");
        assert_eq!(pool.apply(square, 3).unwrap(), 9, "{method:?}");
    }
}
