//! Futures of room in a channel, of locks and of events, by themselves and on the runtimes of others.

mod common;

use common::{by, counted, threads, until, METHODS};
use futures_executor::block_on;
use procession::{bounded, channel, Array, Error, Event, Lock, LockError, Mutex, Receiver, SendError, Sender};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Context;

fn sum(from: Receiver<u32>) -> u32 {
    from.iter().map(Result::unwrap).sum()
}

fn add((total, times): (Mutex<u64>, u32)) {
    (0..times).for_each(|_| *total.lock().unwrap() += 1);
}

/// Sends, locks and an event, each awaited while another process is at work on it.
async fn everything() {
    let (to, from) = bounded(2).unwrap();
    let child = procession::spawn(sum, from).unwrap();
    for number in 0..200 {
        to.send_async(&number).await.unwrap();
    }
    drop(to);
    assert_eq!(child.await, Ok((0..200).sum()));

    let total = Mutex::new(0_u64).unwrap();
    let child = procession::spawn(add, (total.clone(), 500)).unwrap();
    for _ in 0..500 {
        *total.lock_async().await.unwrap() += 1;
    }
    child.await.unwrap();
    assert_eq!(total.get().unwrap(), 1000);

    let ready = Event::new().unwrap();
    let child = procession::spawn(|ready: Event| ready.set(), ready.clone()).unwrap();
    ready.wait_async().await.unwrap();
    child.await.unwrap();
}

#[test]
fn on_a_plain_executor() {
    block_on(everything());
}

#[test]
fn on_tokio() {
    let local = tokio::runtime::Builder::new_current_thread().build().unwrap();
    local.block_on(everything());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let (to, from) = bounded(1).unwrap();
    let child = procession::spawn(sum, from).unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let to = to.clone();
            runtime.spawn(async move { to.send_async(&number).await })
        })
        .collect();
    drop(to);
    let result = runtime.block_on(async {
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        child.await
    });
    assert_eq!(result, Ok(28));
}

#[test]
fn on_smol() {
    smol::block_on(everything());
    let (to, from) = bounded(1).unwrap();
    let child = procession::spawn(sum, from).unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let to = to.clone();
            smol::spawn(async move { to.send_async(&number).await })
        })
        .collect();
    drop(to);
    let result = smol::block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
        child.await
    });
    assert_eq!(result, Ok(28));
}

#[test]
fn a_dropped_send_sends_nothing_and_a_full_channel_wakes_the_task() {
    let (to, from) = bounded(1).unwrap();
    to.send(&1).unwrap();
    let (count, waker) = counted();
    let mut cx = Context::from_waker(&waker);
    let mut dropped = Box::pin(to.send_async(&2));
    assert!(dropped.as_mut().poll(&mut cx).is_pending());
    drop(dropped);
    let mut kept = pin!(to.send_async(&3));
    assert!(kept.as_mut().poll(&mut cx).is_pending());
    assert_eq!(count.0.load(SeqCst), 0);
    assert_eq!(from.recv().unwrap(), 1);
    until(|| count.0.load(SeqCst) == 1);
    assert!(kept.as_mut().poll(&mut cx).is_ready());
    assert_eq!(from.recv().unwrap(), 3);
    assert!(from.is_empty().unwrap());
}

#[test]
fn the_death_of_the_last_receiver_ends_a_send() {
    fn hang((_from, ready): (Receiver<u8>, Sender<()>)) {
        ready.send(&()).unwrap();
        loop {
            std::thread::park();
        }
    }
    for method in METHODS {
        let (to, from) = bounded(1).unwrap();
        let (ready, is_ready) = channel().unwrap();
        let child: procession::JoinHandle<()> = by(method).spawn(hang, (from, ready)).unwrap();
        is_ready.recv().unwrap();
        to.send(&1).unwrap();
        let (_, waker) = counted();
        let mut wait = Box::pin(to.send_async(&2));
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        child.kill().unwrap();
        assert!(matches!(block_on(wait), Err(SendError::Disconnected)), "{method:?}");
        child.join().unwrap_err();
    }
    until(|| threads("procession-send") == 0);
}

#[test]
fn the_lock_of_a_dead_holder_wakes_the_task() {
    fn hold((lock, total, ready): (Lock, Mutex<u8>, Sender<()>)) {
        let _guards = (lock.lock().unwrap(), total.lock().unwrap());
        ready.send(&()).unwrap();
        loop {
            std::thread::park();
        }
    }
    for method in METHODS {
        let (lock, total) = (Lock::new().unwrap(), Mutex::new(0_u8).unwrap());
        let (ready, is_ready) = channel().unwrap();
        let child: procession::JoinHandle<()> = by(method).spawn(hold, (lock.clone(), total.clone(), ready)).unwrap();
        is_ready.recv().unwrap();
        let (count, waker) = counted();
        let mut cx = Context::from_waker(&waker);
        let (mut first, mut second) = (Box::pin(lock.lock_async()), Box::pin(total.lock_async()));
        assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
        child.kill().unwrap();
        until(|| count.0.load(SeqCst) == 2);
        assert!(matches!(block_on(first), Err(LockError::Poisoned(_))), "{method:?}");
        assert!(matches!(block_on(second), Err(LockError::Poisoned(_))), "{method:?}");
        child.join().unwrap_err();
        assert!(lock.try_lock().unwrap().is_some(), "the future's guard is gone");
    }
    until(|| threads("procession-lock") == 0);
}

#[test]
fn tasks_take_a_lock_one_after_the_other_with_one_thread() {
    let array = Array::new(&[0_u32]).unwrap();
    let held = array.lock().unwrap();
    let (count, waker) = counted();
    let mut cx = Context::from_waker(&waker);
    let mut waits: Vec<_> = (0..10).map(|_| Box::pin(array.lock_async())).collect();
    assert!(waits.iter_mut().all(|wait| wait.as_mut().poll(&mut cx).is_pending()));
    until(|| threads("procession-lock") == 1);
    drop(waits.split_off(5)); // these take nothing
    assert_eq!(count.0.load(SeqCst), 0);
    drop(held);
    for wait in waits {
        block_on(wait).unwrap()[0] += 1;
    }
    assert_eq!(array.to_vec().unwrap(), [5]);
}

#[test]
fn a_set_that_is_cleared_at_once_counts_for_the_task_that_waits() {
    let event = Event::new().unwrap();
    let (count, waker) = counted();
    let mut cx = Context::from_waker(&waker);
    let (mut polled, mut waiting) = (pin!(event.wait_async()), pin!(event.wait_async()));
    assert!(polled.as_mut().poll(&mut cx).is_pending());
    event.set();
    event.clear();
    until(|| count.0.load(SeqCst) == 1);
    assert!(polled.as_mut().poll(&mut cx).is_ready() && waiting.as_mut().poll(&mut cx).is_ready());
    let mut late = pin!(event.wait_async());
    assert!(late.as_mut().poll(&mut cx).is_pending(), "it was set before this wait");
}

#[test]
fn what_cannot_be_sent_is_an_error_of_the_future() {
    let (to, _from) = channel::<procession::Pipe<u8>>().unwrap();
    let (one, _other) = procession::pipe::<u8>().unwrap();
    block_on(to.send_async(&one)).unwrap();
    let (to, _from) = channel::<Fails>().unwrap();
    let failed = block_on(to.send_async(&Fails));
    assert!(matches!(failed, Err(SendError::Failed(Error::Encode { .. }))));
}

struct Fails;

impl serde::Serialize for Fails {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("never"))
    }
}
