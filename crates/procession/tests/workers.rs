//! Workers of pools: what they set up, their own children, and Ctrl-C.

mod common;

use common::{by, METHODS};
use procession::{channel, spawn, Error, Event, Mutex, Pool, Queue, Sender, Shared};
use std::sync::OnceLock;

type Context = (Shared<[u64]>, Mutex<u32>);

static KEPT: OnceLock<Context> = OnceLock::new();

fn keep(context: Context) {
    *context.1.lock().unwrap() += 1;
    assert!(KEPT.set(context).is_ok(), "it is called once");
}

fn look_up(at: usize) -> u64 {
    KEPT.get().unwrap().0[at]
}

fn die_or_look_up(at: usize) -> u64 {
    if at == 0 {
        std::process::abort();
    }
    look_up(at)
}

#[test]
fn each_worker_has_set_up_its_context_before_its_tasks() {
    for method in METHODS {
        let context = (Shared::from_fn(100, |n| n as u64 * 3).unwrap(), Mutex::new(0).unwrap());
        let starts = context.1.clone();
        let pool = Pool::with_initializer(2, by(method), keep, context).unwrap();
        let expected: Vec<u64> = (0..100).map(|n| n * 3).collect();
        assert_eq!(pool.map(look_up, 0..100).unwrap(), expected, "{method:?}");
        let results = pool.try_map(die_or_look_up, 0..10).unwrap();
        assert!(matches!(results[0], Err(Error::WorkerDied { .. })), "{method:?}");
        assert!(results[1..].iter().all(Result::is_ok));
        pool.close();
        pool.join().unwrap();
        assert!(
            (2..=4).contains(&starts.get().unwrap()),
            "two, and those that replace the dead one"
        );
    }
}

#[test]
fn a_pool_terminates_whose_workers_cannot_set_up() {
    fn fail(reason: String) {
        eprintln!("{reason}");
        std::process::exit(3)
    }
    let pool = Pool::with_initializer(1, procession::Builder::new(), fail, "no luck".to_owned()).unwrap();
    assert!(matches!(pool.apply(look_up, 1), Err(Error::Terminated)));
}

fn square(n: u64) -> u64 {
    n * n
}

fn sum_of_squares(upto: u64) -> u64 {
    let one = procession::spawn(square, upto).unwrap();
    let pool = Pool::new(2).unwrap();
    let sum: u64 = pool.map(square, 0..upto).unwrap().into_iter().sum();
    sum + one.join().unwrap()
}

#[test]
fn workers_start_processes_and_pools_of_their_own() {
    for method in METHODS {
        let pool = Pool::with(2, by(method)).unwrap();
        let expected: Vec<u64> = (0..6).map(|upto| (0..=upto).map(square).sum()).collect();
        assert_eq!(pool.map(sum_of_squares, 0..6).unwrap(), expected, "{method:?}");
    }
}

fn start_and_hang(started: Sender<u32>) {
    let child = spawn!([started] => {
        started.send(&std::process::id()).unwrap();
        loop {
            std::thread::park();
        }
    });
    let child: procession::JoinHandle<()> = child.unwrap();
    child.join().unwrap();
}

#[test]
fn children_of_a_worker_end_with_it() {
    for method in METHODS {
        let pool = Pool::with(1, by(method)).unwrap();
        let (to, from) = channel().unwrap();
        let hangs = pool.apply_async(start_and_hang, to).unwrap();
        from.recv().unwrap();
        pool.terminate();
        assert!(hangs.get().is_err(), "{method:?}");
        pool.join().unwrap();
        // Its sender is gone with it.
        assert!(
            matches!(from.recv(), Err(procession::RecvError::Disconnected)),
            "{method:?}"
        );
    }
}

fn wait_for((pids, go): (Queue<u32>, Event)) -> u32 {
    pids.put(&std::process::id()).unwrap();
    go.wait().unwrap();
    std::process::id()
}

#[test]
fn shielded_workers_finish_their_tasks_after_an_interrupt() {
    for method in METHODS {
        let pool = Pool::with(2, by(method).ignore_interrupts(true)).unwrap();
        let (pids, go) = (Queue::new().unwrap(), Event::new().unwrap());
        let calls = [(); 2].map(|()| pool.apply_async(wait_for, (pids.clone(), go.clone())).unwrap());
        let workers = [(); 2].map(|()| pids.get().unwrap());
        for pid in workers {
            // SAFETY: a signal to a worker of this test's.
            assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGINT) }, 0);
        }
        go.set();
        let mut ended = calls.map(|call| call.get().unwrap());
        ended.sort_unstable();
        let mut workers = workers;
        workers.sort_unstable();
        assert_eq!(ended, workers, "{method:?}");
    }
}
