//! Futures of values and of children's results: what wakes them, what they cost, and what is left of them.

mod common;

use common::{by, counted, threads, until, METHODS};
use futures_executor::block_on;
use procession::{bounded, channel, Error, JoinHandle, Pool, Receiver, RecvError, Sender, StartMethod};
use std::future::{poll_fn, Future, IntoFuture};
use std::pin::{pin, Pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// The results of all futures, which wait at the same time.
async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none() {
                if let Poll::Ready(value) = future.as_mut().poll(cx) {
                    *result = Some(value);
                }
            }
        }
        if results.iter().all(Option::is_some) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

fn all_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn send_all((to, count): (Sender<u32>, u32)) {
    (0..count).for_each(|number| to.send(&number).unwrap());
}

#[test]
fn values_arrive_in_order_and_then_the_end() {
    for method in METHODS {
        let (to, from) = bounded(3).unwrap();
        let child = by(method).spawn(send_all, (to, 100)).unwrap();
        block_on(async {
            for number in 0..100 {
                assert_eq!(from.recv_async().await.unwrap(), number, "{method:?}");
            }
            assert!(matches!(from.recv_async().await, Err(RecvError::Disconnected)));
            child.await.unwrap();
        });
    }
}

#[test]
fn the_death_of_the_last_sender_wakes_the_task() {
    fn hang((to, first): (Sender<u32>, u32)) {
        to.send(&first).unwrap();
        loop {
            std::thread::park();
        }
    }
    for method in METHODS {
        let (to, from) = channel().unwrap();
        let child: JoinHandle<()> = by(method).spawn(hang, (to, 5)).unwrap();
        block_on(async {
            assert_eq!(from.recv_async().await.unwrap(), 5, "{method:?}");
            child.kill().unwrap();
            assert!(matches!(from.recv_async().await, Err(RecvError::Disconnected)));
            assert_eq!(child.await.unwrap_err().signal(), Some(libc::SIGKILL));
        });
    }
}

#[test]
fn a_reply_of_a_receiver_that_dies_while_the_task_waits_is_an_error() {
    fn hang((_asked, ready): (Receiver<Sender<u8>>, Sender<()>)) {
        ready.send(&()).unwrap();
        loop {
            std::thread::park();
        }
    }
    for method in METHODS {
        let (ask, asked) = channel::<Sender<u8>>().unwrap();
        let (ready, is_ready) = channel().unwrap();
        let child: JoinHandle<()> = by(method).spawn(hang, (asked, ready)).unwrap();
        is_ready.recv().unwrap(); // what it is to receive is no longer in its request, which this process keeps
        let (reply, answer) = channel().unwrap();
        ask.send(&reply).unwrap();
        drop(reply);
        let (count, waker) = counted();
        let mut wait = Box::pin(answer.recv_async());
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        child.kill().unwrap();
        until(|| count.0.load(SeqCst) == 1);
        assert!(matches!(block_on(wait), Err(RecvError::Disconnected)), "{method:?}");
        assert_eq!(child.join().unwrap_err().signal(), Some(libc::SIGKILL));
    }
}

#[test]
fn many_waits_for_one_receiver_take_one_thread() {
    let (to, from) = channel().unwrap();
    let (count, waker) = counted();
    let mut cx = Context::from_waker(&waker);
    let mut waits: Vec<_> = (0..50).map(|_| Box::pin(from.recv_async())).collect();
    let before = all_threads();
    assert!(waits.iter_mut().all(|wait| wait.as_mut().poll(&mut cx).is_pending()));
    assert_eq!(all_threads(), before + 1, "each test has a process of its own");
    until(|| threads("procession-recv") == 1); // a thread names itself
    drop(waits.split_off(25));
    assert_eq!(count.0.load(SeqCst), 0);
    send_all((to, 25));
    let mut values: Vec<u32> = block_on(all(waits)).into_iter().map(Result::unwrap).collect();
    values.sort_unstable();
    assert!(values.into_iter().eq(0..25));
    drop(from);
    until(|| threads("procession-recv") == 0);
}

#[test]
fn a_dropped_wait_loses_no_value() {
    let (to, from) = channel().unwrap();
    let (count, waker) = counted();
    for number in 0..20 {
        let mut wait = Box::pin(from.recv_async());
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        to.send(&number).unwrap();
        drop(wait);
        assert_eq!(block_on(from.recv_async()).unwrap(), number);
    }
    assert!(count.0.load(SeqCst) <= 20);
}

#[test]
fn the_task_of_the_last_poll_is_woken() {
    let ((to, from), (first, second)) = (channel::<u8>().unwrap(), (counted(), counted()));
    let mut wait = pin!(from.recv_async());
    for waker in [&first.1, &second.1] {
        assert!(wait.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    to.send(&1).unwrap();
    until(|| second.0 .0.load(SeqCst) == 1);
    assert_eq!(first.0 .0.load(SeqCst), 0);
    assert!(matches!(block_on(wait), Ok(1)));

    let (to, from) = channel::<u8>().unwrap();
    let child = procession::spawn(|from: Receiver<u8>| from.recv().unwrap(), from).unwrap();
    let (first, second) = (counted(), counted());
    let mut wait = pin!(child.into_future());
    for waker in [&first.1, &second.1] {
        assert!(wait.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    to.send(&9).unwrap();
    until(|| second.0 .0.load(SeqCst) == 1);
    assert_eq!(first.0 .0.load(SeqCst), 0);
    assert_eq!(block_on(wait), Ok(9));
}

/// A task that is polled where it is woken.
struct Inline {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    done: AtomicUsize,
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let mut future = self.future.lock().unwrap();
        let waker = Waker::from(Arc::clone(&self));
        let running = future
            .as_mut()
            .map(|future| future.as_mut().poll(&mut Context::from_waker(&waker)));
        if running.is_some_and(|poll| poll.is_ready()) {
            *future = None;
            self.done.fetch_add(1, SeqCst);
        }
    }
}

#[test]
fn a_task_may_be_polled_where_it_is_woken() {
    let (to, from) = bounded(1).unwrap();
    let child = procession::spawn(send_all, (to, 10)).unwrap();
    let task = Arc::new(Inline {
        future: Mutex::new(Some(Box::pin(async move {
            for number in 0..10 {
                assert_eq!(from.recv_async().await.unwrap(), number);
            }
            child.await.unwrap();
        }))),
        done: AtomicUsize::new(0),
    });
    Arc::clone(&task).wake();
    until(|| task.done.load(SeqCst) == 1);
}

/// Panics where it is woken, and counts how often.
#[derive(Default)]
struct Panics(AtomicUsize);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
        panic!("the task was to panic where it is woken");
    }
}

#[test]
fn a_panic_where_a_task_is_woken_ends_no_other_wait() {
    let ((count, waker), panics) = (counted(), Arc::new(Panics::default()));
    let panicking = Waker::from(Arc::clone(&panics));
    let mut cx = Context::from_waker(&panicking);

    let (to, from) = channel().unwrap();
    let spawn = || procession::spawn(|from: Receiver<u8>| from.recv().unwrap(), from.clone()).unwrap();
    let (mut first, mut second) = (pin!(spawn().into_future()), pin!(spawn().into_future()));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    (0..2).for_each(|_| to.send(&1).unwrap());
    until(|| panics.0.load(SeqCst) == 1 && count.0.load(SeqCst) == 1);
    assert_eq!((block_on(first), block_on(second)), (Ok(1), Ok(1)));

    let mut waits = [pin!(from.recv_async()), pin!(from.recv_async())];
    assert!(waits[0].as_mut().poll(&mut cx).is_pending());
    to.send(&2).unwrap();
    until(|| panics.0.load(SeqCst) == 2);
    assert_eq!(from.recv().unwrap(), 2);
    assert!(waits[1].as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    to.send(&3).unwrap();
    until(|| count.0.load(SeqCst) == 2);
    assert_eq!(from.recv().unwrap(), 3);
}

#[test]
fn many_children_are_awaited_by_one_thread() {
    fn wait((from, number): (Receiver<()>, u32)) -> u32 {
        assert!(matches!(from.recv(), Err(RecvError::Disconnected)));
        number
    }
    let (to, from) = channel::<()>().unwrap();
    let spawn = |number| procession::spawn(wait, (from.clone(), number)).unwrap().into_future();
    let mut waits: Vec<_> = (0..12).map(|number| Box::pin(spawn(number))).collect();
    let (count, waker) = counted();
    let before = all_threads();
    for wait in &mut waits {
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(all_threads(), before + 1, "each test has a process of its own");
    until(|| threads("procession-join") == 1); // a thread names itself
    drop(waits.split_off(8)); // these processes go on
    assert_eq!(count.0.load(SeqCst), 0);
    drop(to);
    let results: Vec<u32> = block_on(all(waits)).into_iter().map(Result::unwrap).collect();
    assert!(results.into_iter().eq(0..8));
}

fn await_inside(from: Receiver<u32>) -> u32 {
    block_on(async { from.recv_async().await.unwrap() + from.recv_async().await.unwrap() })
}

#[test]
fn a_child_of_fork_has_threads_of_its_own() {
    let (to, from) = channel().unwrap();
    let (_, waker) = counted();
    // This process's threads exist already.
    let mut wait = Box::pin(from.recv_async());
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(wait);
    let child = by(StartMethod::Fork).spawn(await_inside, from).unwrap();
    to.send(&1).unwrap();
    to.send(&2).unwrap();
    assert_eq!(block_on(child.into_future()), Ok(3));
}

fn square(number: u64) -> u64 {
    number * number
}

fn fail(number: u32) -> u32 {
    assert!(number < 2, "too large");
    number
}

fn wait_for_value((from, number): (Receiver<()>, u32)) -> u32 {
    from.recv().unwrap();
    number
}

#[test]
fn results_of_a_pool_are_awaited_by_one_thread() {
    for method in METHODS {
        let pool = Pool::with(2, by(method)).unwrap();
        let (to, from) = channel().unwrap();
        let calls = (0..20).map(|number| pool.apply_async(wait_for_value, (from.clone(), number)).unwrap());
        let mut calls: Vec<_> = calls.map(|call| Box::pin(call.into_future())).collect();
        let (count, waker) = counted();
        let before = all_threads();
        for call in &mut calls {
            assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(all_threads(), before + 1, "each test has a process of its own");
        assert_eq!(count.0.load(SeqCst), 0);
        (0..20).for_each(|_| to.send(&()).unwrap());
        let results: Vec<u32> = block_on(all(calls)).into_iter().map(Result::unwrap).collect();
        assert!(results.into_iter().eq(0..20), "{method:?}");
        let all = block_on(pool.map_async(square, 0..100).unwrap().into_future()).unwrap();
        assert!(all.into_iter().eq((0..100).map(square)));
        drop(pool);
        until(|| threads("procession-pool") == 0);
    }
}

#[test]
fn an_awaited_call_fails_with_its_task_and_with_its_worker() {
    fn die(_: u32) -> u32 {
        std::process::abort()
    }
    let pool = Pool::new(2).unwrap();
    let failed = block_on(pool.map_async(fail, 0..4).unwrap().into_future());
    assert!(failed.unwrap_err().to_string().contains("too large"));
    let died = block_on(pool.apply_async(die, 1).unwrap().into_future());
    assert!(matches!(died, Err(Error::WorkerDied { .. })), "{died:?}");
    // The pool is closed while a call is awaited, and one is awaited for the first time when it has been closed.
    let (to, from) = channel().unwrap();
    let call = |number| pool.apply_async(wait_for_value, (from.clone(), number)).unwrap();
    let (mut first, second) = (pin!(call(1).into_future()), call(2));
    let (_, waker) = counted();
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    pool.close();
    let mut second = pin!(second.into_future());
    assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    (0..2).for_each(|_| to.send(&()).unwrap());
    assert_eq!((block_on(first).unwrap(), block_on(second).unwrap()), (1, 2));
    until(|| threads("procession-pool") == 0);
}

#[test]
fn a_dropped_wait_for_a_call_cancels_it() {
    let pool = Pool::new(1).unwrap();
    let (_to, from) = channel().unwrap();
    let (count, waker) = counted();
    let mut endless = Box::pin(pool.apply_async(wait_for_value, (from, 0)).unwrap().into_future());
    assert!(endless.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(endless);
    assert_eq!(block_on(pool.apply_async(square, 3).unwrap().into_future()).unwrap(), 9);
    assert_eq!(count.0.load(SeqCst), 0);
    let (_to, from) = channel().unwrap();
    let mut endless = Box::pin(pool.apply_async(wait_for_value, (from, 0)).unwrap().into_future());
    assert!(endless.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    pool.terminate();
    assert!(matches!(block_on(endless), Err(Error::Terminated)));
}
