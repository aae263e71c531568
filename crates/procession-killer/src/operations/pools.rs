//! Tasks of a pool: its parent makes sure that each has one result. Leaves to `waited` how such an operation is run.

use super::handle;
use super::waited::{operation, soon};
use crate::live::{After, Death, Waited};
use crate::stage::Values;
use procession_core::channel::{Incoming, Message, Outgoing};
use procession_core::pool::{Item, JobOptions, Pool, Verdict, Worker, WorkerDeath};
use procession_core::Deadline;
use std::mem::forget;

pub(super) fn message(bytes: &[u8]) -> Message {
    let out = Outgoing {
        body: bytes,
        ..Outgoing::default()
    };
    Message::pack(out).expect("a message")
}

/// The result of a task: its argument plus one.
pub(super) fn result(arguments: &Incoming) -> Message {
    message(&[arguments.body()[0] + 1; 300])
}

/// Do a task, and return its argument. `None`: there is no task for this worker.
pub(super) fn work(worker: &Worker) -> Option<u8> {
    let (task, arguments) = worker.next().expect("a pool")?;
    let (number, result) = (arguments.body()[0], result(&arguments));
    drop(arguments);
    worker.finish(task, Verdict::Done, result).expect("a pool");
    Some(number)
}

/// A pool with two tasks and a worker record for the victim. Afterwards another worker does what is left, and each task
/// has one result.
fn pool() -> (Vec<u64>, After) {
    let pool = Pool::new().expect("a pool");
    let job = pool.job(None, JobOptions::default());
    for number in [10, 20] {
        job.submit(message(&[number])).expect("a task");
    }
    job.seal();
    let worker_index = pool.enlist().expect("a worker record");
    let values = vec![pool.handle().to_bits(), u64::from(worker_index)];
    let after = move |death: Death| {
        let ended = |pid, exitcode| WorkerDeath {
            pid,
            exitcode,
            ..WorkerDeath::default()
        };
        pool.reap(worker_index, ended(death.pid, -libc::SIGKILL))
            .expect("a pool");
        let worker_index = pool.enlist().expect("a worker record");
        // SAFETY: one thread; the child leaves by `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let worker = Worker::attach(pool.handle(), worker_index).expect("the worker record");
            worker.ready();
            while work(&worker).is_some() {}
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        let results = [(0, 11), (1, 21)].map(|(item, result)| match job.take(item, soon()).expect("a result") {
            Some(Item::Done(message)) => {
                assert_eq!(message.body(), [result; 300], "a torn result");
                "done"
            }
            Some(Item::Lost(_)) => "lost",
            other => panic!("task {item}: {other:?}"),
        });
        assert!(
            job.take(0, Deadline::Now).expect("a job").is_none(),
            "a result is taken once"
        );
        assert_eq!(results[1], "done", "the victim took the first only");
        pool.close();
        crate::remote::wait(pid);
        pool.reap(worker_index, ended(pid, 0)).expect("a pool");
        assert!(pool.is_idle());
        format!("its task {}", results[0])
    };
    (values, Box::new(after))
}

pub(super) fn attach(values: &Values) -> Worker {
    let worker = Worker::attach(handle(values[0]), values[1] as u32).expect("the worker record");
    worker.ready();
    worker
}

pub(super) fn operations() -> Vec<Waited> {
    vec![
        operation("pool worker attach, ready", pool, None, |values| {
            let values = values.to_vec();
            move || forget(attach(&values))
        }),
        operation("pool task take", pool, None, |values| {
            let worker = attach(values);
            move || forget((worker.next().expect("a pool"), worker))
        }),
        operation("pool result write", pool, None, |values| {
            let worker = attach(values);
            let (task, arguments) = worker.next().expect("a pool").expect("a task");
            move || {
                worker.finish(task, Verdict::Done, result(&arguments)).expect("a pool");
                forget((worker, arguments));
            }
        }),
    ]
}
