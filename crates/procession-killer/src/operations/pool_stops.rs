//! A pool whose parent, or one of whose workers, is stopped: the others go on, and each task has one result.
//!
//! How such an operation is run is left to `pooled`.

use super::pool_parent::{Parent, SLOTS, TIMEOUT};
use super::pools::{attach, message, result, work};
use super::soon;
use crate::pooled::Pooled;
use crate::remote::{kill, wait};
use crate::stage::{turns, Values};
use procession_core::channel::Incoming;
use procession_core::pool::{JobOptions, Task, TaskOptions, Verdict, Worker};
use std::time::Duration;

/// The worker that is stopped.
struct Hand {
    values: Vec<u64>,
    worker: Option<Worker>,
    task: Option<(Task, Incoming)>,
    /// It has done a task, or must leave.
    is_over: bool,
}

impl Hand {
    /// A worker that has not attached.
    fn new(values: &Values) -> Self {
        Self {
            values: values.to_vec(),
            worker: None,
            task: None,
            is_over: false,
        }
    }

    fn attached(values: &Values) -> Self {
        let mut hand = Self::new(values);
        hand.attach();
        hand
    }

    /// A worker that has begun the first task.
    fn busy(values: &Values) -> Self {
        let mut hand = Self::attached(values);
        hand.claim();
        hand.worker().begin_item();
        hand
    }

    fn worker(&self) -> &Worker {
        self.worker.as_ref().expect("attached")
    }

    fn attach(&mut self) {
        self.worker = Some(attach(&self.values));
    }

    fn claim(&mut self) {
        self.task = self.worker().next().expect("a pool");
    }

    fn run(&mut self) {
        let (worker, (task, _)) = (self.worker(), self.task.as_ref().expect("a task"));
        worker.begin_item();
        assert_eq!(worker.function(task).expect("the function"), [1; 2000]);
        assert!(task.function().is_some_and(|function| worker.is_current(function)));
        worker.measured(task, Duration::from_micros(5));
        assert!(!worker.is_cancelled(task));
    }

    fn finish(&mut self) {
        if let Some((task, arguments)) = self.task.take() {
            let result = result(&arguments);
            drop(arguments);
            self.worker().finish(task, Verdict::Done, result).expect("a pool");
            self.is_over = true;
        }
    }

    /// When it is continued, it does one task, unless it was cancelled.
    fn end(&mut self) {
        if !self.is_over {
            if self.task.is_none() {
                self.claim();
            }
            self.finish();
        }
    }
}

/// A worker of this pool is stopped in `act`. The parent does `before` before that, and `meanwhile` beside it.
struct WorkerStopped {
    name: &'static str,
    pool: fn() -> Parent,
    before: fn(&mut Parent),
    meanwhile: fn(&mut Parent),
    hand: fn(&Values) -> Hand,
    act: fn(&mut Hand),
}

impl WorkerStopped {
    fn new(name: &'static str, hand: fn(&Values) -> Hand, act: fn(&mut Hand)) -> Self {
        Self {
            name,
            pool: || Parent::new(JobOptions::default(), true, 2),
            before: |_| (),
            meanwhile: |_| (),
            hand,
            act,
        }
    }

    fn operation(self) -> Pooled {
        let Self {
            name,
            pool,
            before,
            meanwhile,
            hand,
            act,
        } = self;
        Pooled {
            name,
            parent: Box::new(move || {
                let mut parent = pool();
                let values = vec![parent.pool.handle().to_bits(), u64::from(parent.enlist())];
                let beside = move |parent: &mut Parent| {
                    meanwhile(parent);
                    parent.go_on();
                };
                (values, parent.in_turns(vec![Box::new(before), Box::new(beside)]))
            }),
            worker: Some(Box::new(move |values| turns(hand(values), vec![act, Hand::end]))),
            beside: Box::new(|_, _| ()),
            sleeps: false,
        }
    }
}

/// The parent of this pool is stopped in `act`. Meanwhile another worker does the tasks up to `last`, which are queued
/// before.
fn parent_stopped(name: &'static str, pool: fn() -> Parent, last: Option<u8>, act: fn(&mut Parent)) -> Pooled {
    Pooled {
        name,
        parent: Box::new(move || {
            let mut parent = pool();
            let index = parent.enlist();
            // The worker that the operation is about, if there is one, is the last.
            let last = parent.enlisted.len() - 1;
            parent.enlisted.swap(0, last);
            let values = vec![parent.pool.handle().to_bits(), u64::from(index)];
            (values, parent.in_turns(vec![Box::new(act)]))
        }),
        worker: None,
        beside: Box::new(move |values, clock| {
            let worker = clock.time("attach to the same pool as a worker", || attach(values));
            let mut done = None;
            while done != last {
                done = clock.time("claim and finish a task of the same pool", || work(&worker));
            }
            clock.time("leave the same pool", || drop(worker));
        }),
        sleeps: false,
    }
}

/// A pool whose first task a worker runs.
fn with_one_running(options: JobOptions) -> Parent {
    let mut parent = Parent::new(options, true, 3);
    parent.hire_for_one();
    parent
}

/// A pool with a worker that died in the first task, and was not reaped.
fn with_one_dead(options: JobOptions) -> Parent {
    let mut parent = with_one_running(options);
    for hired in std::mem::take(&mut parent.hired) {
        kill(hired.pid);
        parent.enlisted.push(hired.index);
    }
    parent
}

/// Replace the dead worker, and tell its successor to leave.
fn replace(parent: &mut Parent) {
    let dead = parent.enlisted.pop().expect("a dead worker");
    parent.reap(dead);
    let index = parent.enlist();
    parent.pool.dismiss(index);
}

fn limited() -> JobOptions {
    JobOptions::of(TaskOptions {
        timeout: Some(TIMEOUT),
        ..TaskOptions::default()
    })
}

fn tried_again() -> JobOptions {
    JobOptions::of(TaskOptions {
        retries: 1,
        ..TaskOptions::default()
    })
}

fn workers() -> Vec<Pooled> {
    let plain = [
        WorkerStopped::new("pool worker attach, ready", Hand::new, Hand::attach),
        WorkerStopped::new("pool task take", Hand::attached, Hand::claim),
        WorkerStopped::new("pool task run", Hand::busy, Hand::run),
        WorkerStopped::new("pool result write", Hand::busy, Hand::finish),
    ];
    let others = [
        WorkerStopped {
            meanwhile: Parent::cancel,
            ..WorkerStopped::new("pool task take, cancelled meanwhile", Hand::attached, Hand::claim)
        },
        WorkerStopped {
            meanwhile: Parent::cancel,
            ..WorkerStopped::new("pool result write, cancelled meanwhile", Hand::busy, Hand::finish)
        },
        WorkerStopped {
            pool: || Parent::new(limited(), false, 2),
            meanwhile: Parent::time_out,
            ..WorkerStopped::new("pool result write, timed out meanwhile", Hand::busy, Hand::finish)
        },
        WorkerStopped {
            before: Parent::cancel,
            ..WorkerStopped::new("pool result write, of a cancelled task", Hand::busy, Hand::finish)
        },
    ];
    let idle = WorkerStopped {
        pool: || Parent::new(JobOptions::default(), false, 0),
        ..WorkerStopped::new("pool task take, none is queued", Hand::attached, Hand::claim)
    };
    let idle = Pooled {
        sleeps: true,
        ..idle.operation()
    };
    let all = plain.into_iter().chain(others).map(WorkerStopped::operation);
    all.chain([idle]).collect()
}

fn parents() -> Vec<Pooled> {
    vec![
        parent_stopped(
            "pool submit",
            || Parent::new(JobOptions::default(), false, 2),
            Some(1),
            Parent::submit,
        ),
        parent_stopped(
            "pool submit, where slots must be added",
            // The other worker has a slot, too.
            || {
                let mut parent = Parent::new(JobOptions::default(), false, SLOTS - 1);
                parent.slots = SLOTS + 64;
                parent
            },
            Some(SLOTS as u8 - 2),
            Parent::submit,
        ),
        parent_stopped(
            "pool result take",
            || {
                let mut parent = Parent::new(JobOptions::default(), true, 2);
                let index = parent.enlist();
                let hired = parent.fork(index, |worker| {
                    for _ in 0..2 {
                        work(worker);
                    }
                });
                wait(hired.pid);
                parent.submit();
                parent
            },
            Some(2),
            |parent| {
                for number in 0..2 {
                    parent.receive(number, soon());
                }
            },
        ),
        parent_stopped(
            "pool task cancel, queued",
            || Parent::new(JobOptions::default(), true, 3),
            Some(2),
            |parent| {
                parent.job.cancel_one(1);
            },
        ),
        parent_stopped(
            "pool task cancel, running",
            || with_one_running(JobOptions::default()),
            Some(2),
            Parent::cancel,
        ),
        parent_stopped(
            "pool job cancel",
            || with_one_running(JobOptions::default()),
            None,
            |parent| {
                parent.job.cancel();
            },
        ),
        parent_stopped(
            "pool task time out",
            || {
                let parent = with_one_running(limited());
                std::thread::sleep(TIMEOUT * 2);
                parent
            },
            Some(2),
            |parent| {
                parent.pool.overdue();
            },
        ),
        parent_stopped(
            "pool worker replace, its task lost",
            || with_one_dead(JobOptions::default()),
            Some(2),
            replace,
        ),
        parent_stopped(
            "pool worker replace, its task tried again",
            || with_one_dead(tried_again()),
            Some(2),
            replace,
        ),
        parent_stopped(
            "pool function and job create and drop",
            || Parent::new(JobOptions::default(), false, 2),
            Some(1),
            |parent| {
                let function = parent.pool.function(message(&[2; 2000])).expect("a function");
                let call = parent
                    .pool
                    .call(Some(&function), JobOptions::default(), message(&[100]));
                drop((call.expect("a task"), function));
            },
        ),
    ]
}

pub(super) fn operations() -> Vec<Pooled> {
    let mut all = workers();
    all.extend(parents());
    all
}
