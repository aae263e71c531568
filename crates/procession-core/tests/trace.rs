//! A trace of this process's own family, and of children that end in all ways.

mod common;

use common::queues::{get, put};
use common::{child, kill, wait};
use procession_core::arena::Ref;
use procession_core::channel::Queue;
use procession_core::inspect::{InspectError, Inspector, TraceEvent, Tracer};
use procession_core::sync::Lock;
use procession_core::trace::{self, What};
use procession_core::{family, Deadline};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// One trace at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    family().unwrap().me();
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn begin() -> Tracer {
    Inspector::own().unwrap().trace().unwrap()
}

fn read(tracer: &mut Tracer) -> Vec<TraceEvent> {
    let mut events = Vec::new();
    tracer.read(true, &mut events).unwrap();
    events
}

fn of(events: &[TraceEvent], pid: u32) -> Vec<What> {
    let its = events.iter().filter(|event| event.pid == pid);
    its.map(|event| event.what).collect()
}

#[test]
fn what_a_process_does_is_written_while_it_is_traced() {
    let _alone = alone();
    let queue: Ref<Queue> = Queue::create(0).unwrap();
    let lock = Lock::create().unwrap();
    let work = || {
        put(&queue, 1);
        assert_eq!(get(&queue), 1);
        lock.acquire(Deadline::Never).unwrap();
        lock.release();
    };
    work();
    let mut tracer = begin();
    work();
    let events = read(&mut tracer);
    let all = [What::Put, What::Get, What::Acquire, What::Release];
    assert_eq!(of(&events, std::process::id()), all);
    assert_eq!(events[0].object(), events[1].object());
    assert_eq!(events[0].detail, 1 << 48 | 1, "the second ticket");
    assert_eq!(events[0].detail, events[1].detail);
    assert!(events.windows(2).all(|pair| pair[0].time_ns <= pair[1].time_ns));
    tracer.stop().unwrap();
    work();
    assert!(read(&mut tracer).is_empty());
    assert_eq!(tracer.lost(), 0);
}

#[test]
fn events_outlive_their_process() {
    let _alone = alone();
    let queue: Ref<Queue> = Queue::create(0).unwrap();
    let empty: Ref<Queue> = Queue::create(0).unwrap();
    let mut tracer = begin();
    let there = child(|| {
        put(&queue, 7);
        get(&empty);
    });
    assert_eq!(get(&queue), 7);
    kill(there);
    let events = read(&mut tracer);
    let its = of(&events, there as u32);
    assert_eq!(its.first(), Some(&What::Put));
    let mine = events
        .iter()
        .find(|event| event.pid == std::process::id() && event.what == What::Get);
    let theirs = events.iter().find(|event| event.what == What::Put).unwrap();
    assert_eq!(mine.unwrap().detail, theirs.detail);
    assert!(theirs.time_ns <= mine.unwrap().time_ns);
}

#[test]
fn what_is_overwritten_is_counted() {
    let _alone = alone();
    let lock = Lock::create().unwrap();
    let mut tracer = begin();
    let rounds = 100_000;
    for _ in 0..rounds {
        lock.acquire(Deadline::Never).unwrap();
        lock.release();
    }
    let events = read(&mut tracer).len() as u64;
    assert!(events > 100 && tracer.lost() > 0);
    assert_eq!(events + tracer.lost(), 2 * rounds);
}

#[test]
fn threads_write_whole_events_while_they_are_read() {
    let _alone = alone();
    let mut tracer = begin();
    let rounds = 50_000;
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let lock = Lock::create().unwrap();
                    for _ in 0..rounds {
                        lock.acquire(Deadline::Never).unwrap();
                        lock.release();
                    }
                })
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            tracer.read(false, &mut seen).unwrap();
        }
    });
    tracer.read(true, &mut seen).unwrap();
    assert_eq!(seen.len() as u64 + tracer.lost(), 4 * 2 * rounds);
    let mut latest = std::collections::HashMap::new();
    for event in &seen {
        assert!(matches!(event.what, What::Acquire | What::Release) && event.detail == 0);
        let (object, time) = latest
            .insert(event.thread, (event.object(), event.time_ns))
            .unwrap_or((event.object(), 0));
        assert!(object == event.object() && object.is_some(), "a thread has one lock");
        assert!(time <= event.time_ns);
    }
}

#[test]
fn one_observer_traces_at_a_time() {
    let _alone = alone();
    let tracer = begin();
    let second = Inspector::own().unwrap().trace();
    assert!(matches!(second, Err(InspectError::Traced(_))));
    drop(tracer);
    assert!(!trace::is_on());
    drop(begin());
}

#[test]
fn a_tracer_that_dies_is_forgotten() {
    let _alone = alone();
    let pid = child(|| {
        std::mem::forget(begin());
    });
    assert_eq!(wait(pid), 0);
    assert!(trace::is_on());
    let empty: Ref<Queue> = Queue::create(0).unwrap();
    while trace::is_on() {
        // A process that waits looks for dead ones.
        assert!(empty.get(Deadline::after(Duration::from_secs(1))).is_err());
    }
}
