//! The parent of a pool that takes part in what is stopped: it has one job, and counts the items of its tasks.

use super::pools::{attach, message, work};
use super::soon;
use crate::battery::Clock;
use crate::live::is_asleep;
use crate::remote::{kill, wait};
use crate::stage::{board, Turns};
use libc::pid_t;
use procession_core::arena::counters;
use procession_core::pool::{Function, Item, Job, JobOptions, Loss, Pool, Withdrawn, Worker, WorkerDeath};
use procession_core::{Deadline, WaitError};
use std::mem::forget;
use std::time::Duration;

/// Slots that a pool has before it must add some, apart from those at which its queues start.
pub(super) const SLOTS: usize = 61;
/// The time limit of a task that is to exceed it.
pub(super) const TIMEOUT: Duration = Duration::from_millis(2);

/// A worker that the parent has forked.
pub(super) struct Hired {
    pub pid: pid_t,
    pub index: u32,
}

/// A pool's parent, with one job. The argument of a task is its number.
pub(super) struct Parent {
    pub pool: Pool,
    pub job: Job,
    function: Option<Function>,
    /// Workers that are dead at the end, and must be reaped then.
    pub enlisted: Vec<u32>,
    /// Workers that are killed and reaped at the end.
    pub hired: Vec<Hired>,
    /// How each task ended, once its item was taken.
    items: Vec<Option<&'static str>>,
    /// Slots that the pool has at the end.
    pub slots: usize,
}

/// What the parent does in one of its turns.
pub(super) type Act = Box<dyn FnOnce(&mut Parent)>;

impl Parent {
    pub fn new(options: JobOptions, function: bool, tasks: usize) -> Self {
        let pool = Pool::new().expect("a pool");
        let function = function.then(|| pool.function(message(&[1; 2000])).expect("a function"));
        let job = pool.job(function.as_ref(), options);
        let mut parent = Self {
            pool,
            job,
            function,
            enlisted: Vec::new(),
            hired: Vec::new(),
            items: Vec::new(),
            slots: SLOTS,
        };
        for _ in 0..tasks {
            parent.submit();
        }
        parent
    }

    pub fn submit(&mut self) {
        let number = self.items.len();
        let added = self.job.submit(message(&[number as u8])).expect("a task");
        assert_eq!(added, number as u64);
        self.items.push(None);
    }

    pub fn receive(&mut self, number: usize, deadline: Deadline) {
        let took = self.job.take(number as u64, deadline);
        let found = match took {
            Ok(Some(Item::Done(message))) => {
                assert_eq!(message.body(), [number as u8 + 1; 300], "a torn result");
                "done"
            }
            Ok(Some(Item::Lost(Loss::Cancelled))) => "cancelled",
            Ok(Some(Item::Lost(Loss::TimedOut(..)))) => "timed out",
            Ok(Some(Item::Lost(Loss::Died(_)))) => "lost",
            Err(WaitError::TimedOut) if matches!(deadline, Deadline::Now) => return,
            other => panic!("task {number}: {other:?}: {}", board().said()),
        };
        assert!(self.items[number].replace(found).is_none(), "task {number} ended twice");
    }

    /// A worker's record, for another process.
    pub fn enlist(&mut self) -> u32 {
        let index = self.pool.enlist().expect("a worker record");
        self.enlisted.push(index);
        index
    }

    /// Fork a worker that does `act` and ends.
    pub fn fork(&self, index: u32, act: impl FnOnce(&Worker)) -> Hired {
        // SAFETY: one thread; the child leaves by `_exit`, here or where its panic is caught.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: no preconditions.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            act(&attach(&[self.pool.handle().to_bits(), u64::from(index)]));
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        Hired { pid, index }
    }

    /// Fork a worker that works until it is dismissed. Up to `last` its tasks are queued already, and it is timed.
    fn hire(&self, last: usize) -> Hired {
        self.hire_as(self.pool.enlist().expect("a worker record"), last)
    }

    /// The same, in the slot of this index.
    fn hire_as(&self, index: u32, last: usize) -> Hired {
        self.fork(index, |worker| {
            let mut clock = Clock::default();
            while clock.time("claim and finish a task", || work(worker)) != Some(last as u8) {}
            assert_eq!(clock.late(), "");
            while work(worker).is_some() {}
        })
    }

    /// Fork a worker that begins the first task, and does not end it.
    pub fn hire_for_one(&mut self) {
        let index = self.pool.enlist().expect("a worker record");
        let hired = self.fork(index, |worker| {
            let begun = worker.next().expect("a pool").expect("a task");
            worker.begin_item();
            forget(begun);
            loop {
                // SAFETY: no preconditions.
                unsafe { libc::pause() };
            }
        });
        while self.pool.stats().workers.iter().all(|worker| worker.busy.is_zero()) {
            std::thread::sleep(Duration::from_micros(100));
        }
        self.hired.push(hired);
    }

    /// Let a worker end by itself.
    fn dismiss(&self, hired: &Hired) {
        self.pool.dismiss(hired.index);
        assert_eq!(wait(hired.pid), 0, "a worker fails: {}", board().said());
        self.reap(hired.index);
    }

    pub fn reap(&self, index: u32) {
        self.pool.reap(index, WorkerDeath::default()).expect("the worker");
    }

    /// What the parent does beside a stopped worker: more tasks come, and other workers do them. Only the first task
    /// may be the stopped worker's.
    pub fn go_on(&mut self) {
        let mut clock = Clock::default();
        let first = self.items.len().min(1);
        for _ in 0..2 {
            clock.time("submit to the same pool", || self.submit());
        }
        let index = clock.time("enlist another worker", || self.pool.enlist().expect("a worker record"));
        let hired = self.hire_as(index, self.items.len() - 1);
        for number in first..self.items.len() {
            clock.time_both("take another worker's result", Some(hired.pid), || {
                self.receive(number, soon());
            });
        }
        if first == 1 && self.items[0].is_none() {
            clock.time("look for the first result", || self.receive(0, Deadline::Now));
        }
        while !is_asleep(hired.pid) {
            std::thread::sleep(Duration::from_micros(100));
        }
        clock.time("submit, a worker sleeps", || self.submit());
        clock.time_both("take the result of a worker that slept", Some(hired.pid), || {
            self.receive(self.items.len() - 1, soon());
        });
        clock.time("look at the pool", || {
            let stats = self.pool.stats();
            assert!(stats.queued == 0 && stats.running <= 1, "{stats:?}");
            assert!(self.pool.overdue().worker_indexes.is_empty() && self.pool.needs_workers());
        });
        clock.time_both("dismiss and reap another worker", Some(hired.pid), || {
            self.dismiss(&hired);
        });
        // The stopped worker takes it when it is continued, if it has none.
        clock.time("submit to the same pool", || self.submit());
        clock.report();
    }

    /// Cancel the first task, which the stopped worker may be running.
    pub fn cancel(&mut self) {
        let withdrawn = self.job.cancel_one(0);
        let named = self.pool.overdue().worker_indexes;
        assert_eq!(named.len() as u64, withdrawn.running);
        self.receive(0, Deadline::Now);
        assert!(withdrawn == Withdrawn::default() || self.items[0] == Some("cancelled"));
    }

    /// Stop the first task, if it has run for too long.
    pub fn time_out(&mut self) {
        std::thread::sleep(TIMEOUT * 2);
        self.pool.overdue();
    }

    /// Everything ends: each task has one item, and no slot is lost.
    fn end(mut self) {
        for hired in std::mem::take(&mut self.hired) {
            kill(hired.pid);
            self.reap(hired.index);
        }
        for index in std::mem::take(&mut self.enlisted) {
            self.reap(index);
        }
        // It is the last: when it is done, so is the task of a job that was dropped.
        self.submit();
        let hired = self.hire(self.items.len() - 1);
        for number in 0..self.items.len() {
            if self.items[number].is_none() {
                self.receive(number, soon());
            }
        }
        self.job.seal();
        for number in 0..self.items.len() {
            let again = self.job.take(number as u64, Deadline::Now);
            assert!(matches!(again, Ok(None)), "task {number} has a second item: {again:?}");
        }
        let stats = self.pool.stats();
        assert!(stats.queued == 0 && stats.running == 0, "{stats:?}");
        self.dismiss(&hired);
        let ends = ["done", "cancelled", "timed out", "lost"].map(|end| {
            let count = self.items.iter().filter(|item| **item == Some(end)).count();
            (count > 0).then(|| format!("{count} {end}"))
        });
        self.fill();
        board().say(&ends.into_iter().flatten().collect::<Vec<_>>().join(" and "));
    }

    /// Use every slot of the pool, which needs no further memory, and drop the pool.
    fn fill(mut self) {
        self.job = self.pool.job(None, JobOptions::default());
        self.function = None;
        self.items.clear();
        let taken = || counters().map(|now| (now.transit, now.other)).expect("counters");
        let before = taken();
        // One slot is the worker's, and one stays empty, because the queue starts there.
        for _ in 0..self.slots - 2 {
            self.submit();
        }
        let index = self.pool.enlist().expect("a worker record");
        assert_eq!(taken(), before, "a slot is lost");
        let hired = self.hire_as(index, self.items.len() - 1);
        for number in (0..self.items.len()).rev() {
            self.receive(number, soon());
            assert_eq!(self.items[number], Some("done"));
        }
        self.job.seal();
        self.pool.close();
        assert!(self.pool.is_idle() && !self.pool.needs_workers());
        assert_eq!(wait(hired.pid), 0, "a worker fails: {}", board().said());
        self.reap(hired.index);
    }

    /// Its turns; the last is the end.
    pub fn in_turns(self, acts: Vec<Act>) -> Turns {
        let (mut parent, mut acts) = (Some(self), acts.into_iter());
        Box::new(std::iter::from_fn(move || {
            match acts.next() {
                Some(act) => act(parent.as_mut()?),
                None => parent.take()?.end(),
            }
            Some(())
        }))
    }
}
