//! Tasks that are withdrawn, or take too long.

use super::{dismiss, done, fork, message, reap, soon, submit_all, wait_for, work, TestWorker};
use crate::pool::{Item, JobOptions, Loss, Pool, TaskOptions, Verdict, Withdrawn, Worker, WorkerEnd};
use std::io::{Read, Write};
use std::time::Duration;

#[test]
fn a_withdrawn_task_is_skipped() {
    let pool = Pool::new().unwrap();
    let first = pool.job(None, JobOptions::default());
    let (second, third) = (
        pool.job(None, JobOptions::default()),
        pool.job(None, JobOptions::default()),
    );
    submit_all(&first, [[0, 1]]);
    submit_all(&second, (0..100).map(|n| [0, n]));
    submit_all(&third, [[0, 3]]);
    assert_eq!(second.cancel_one(50).pending, 1);
    assert_eq!(second.progress(), (100, 1));
    assert_eq!(second.cancel().pending, 99);
    assert!(second.is_complete() && !first.is_complete());
    assert!(matches!(
        second.take(7, soon()).unwrap(),
        Some(Item::Lost(Loss::Cancelled))
    ));
    let workers = [fork(&pool, work)];
    assert_eq!(done(first.take(0, soon()).unwrap()), [2]);
    assert_eq!(done(third.take(0, soon()).unwrap()), [6]);
    assert_eq!(
        third.cancel(),
        Withdrawn::default(),
        "what is finished is not withdrawn"
    );
    assert!(pool.is_idle());
    // The slots can be used again, and the queue is still intact with them.
    let again = pool.job(None, JobOptions::default());
    submit_all(&again, (0..100).map(|n| [0, n]));
    again.wait(soon()).unwrap();
    assert_eq!(done(again.take(99, soon()).unwrap()), [198]);
    dismiss(&pool, &workers);
}

#[test]
fn withdrawing_all_queued_tasks_leaves_nothing_to_do() {
    let pool = Pool::new().unwrap();
    for _ in 0..1_000 {
        let job = pool.job(None, JobOptions::default());
        submit_all(&job, [[0, 1], [0, 2], [0, 3]]);
        assert_eq!(job.cancel().pending, 3);
    }
    assert!(!pool.inner_view().is_waiting());
    assert!(pool.inner_view().slot(64).is_err(), "slots were used again");
    pool.close();
    assert!(!pool.needs_workers());
}

/// Wait until a worker runs a task.
fn until_running(pool: &Pool) {
    assert!(super::comes_true(|| pool.stats().running > 0));
}

/// Wait until workers must be stopped, and return their indexes.
fn overdue(pool: &Pool) -> Vec<u32> {
    loop {
        let overdue = pool.overdue();
        if !overdue.worker_indexes.is_empty() {
            return overdue.worker_indexes;
        }
        let limit = Some(overdue.again.unwrap_or(Duration::from_secs(20)));
        pool.notice().wait(&[], limit);
    }
}

fn kill(process: &TestWorker) {
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(process.pid, libc::SIGKILL) };
}

/// As `work`, but a command of 5 lasts until the worker is killed, and 6 until its task is cancelled.
fn work_until_stopped(pool: &Pool, worker_index: u32) {
    let worker = Worker::attach(pool.handle(), worker_index).unwrap();
    worker.ready();
    while let Some((task, arguments)) = worker.next().unwrap() {
        let command = arguments.body()[0];
        worker.begin_item();
        if command == 5 {
            std::thread::sleep(Duration::from_secs(60));
        }
        while command == 6 && !worker.is_cancelled(&task) {
            std::thread::yield_now();
        }
        if !worker.finish(task, Verdict::Done, message(&[1])).unwrap() {
            return;
        }
    }
}

#[test]
fn a_task_that_takes_too_long_is_lost_alone() {
    let pool = Pool::new().unwrap();
    let workers = [fork(&pool, work_until_stopped)];
    let limit = Duration::from_millis(30);
    let options = JobOptions::of(TaskOptions {
        timeout: Some(limit),
        ..TaskOptions::default()
    });
    let job = pool.job(None, options);
    submit_all(&job, [[0, 1], [5, 2], [0, 3]]);
    assert_eq!(overdue(&pool), [workers[0].worker_index]);
    assert!(pool.overdue().worker_indexes.is_empty(), "named once");
    assert!(!job.is_complete(), "not lost before its worker is dead");
    kill(&workers[0]);
    reap(&pool, &workers[0]);
    let second = fork(&pool, work_until_stopped);
    job.wait(soon()).unwrap();
    match job.take(1, soon()).unwrap() {
        Some(Item::Lost(Loss::TimedOut(after, death))) => {
            assert_eq!((after, death.pid), (limit, workers[0].pid));
            assert_eq!(death.arguments.as_deref(), Some([5, 2].as_slice()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(done(job.take(2, soon()).unwrap()), [1]);
    assert_eq!(pool.overdue().again, None, "nothing is left that could take too long");
    dismiss(&pool, &[second]);
}

#[test]
fn a_running_task_is_withdrawn_at_once_and_its_worker_takes_no_other() {
    for command in [5, 6] {
        let pool = Pool::new().unwrap();
        let first = fork(&pool, work_until_stopped);
        let (job, next) = (
            pool.job(None, JobOptions::default()),
            pool.job(None, JobOptions::default()),
        );
        submit_all(&job, [[command, 1]]);
        submit_all(&next, [[0, 1]]);
        until_running(&pool);
        let withdrawn = job.cancel();
        assert_eq!((withdrawn.pending, withdrawn.running), (0, 1));
        assert!(matches!(
            job.take(0, soon()).unwrap(),
            Some(Item::Lost(Loss::Cancelled))
        ));
        assert_eq!(overdue(&pool), [first.worker_index]);
        if command == 5 {
            kill(&first);
        }
        let (exitcode, remains) = reap(&pool, &first);
        assert_eq!(exitcode, if command == 5 { -libc::SIGKILL } else { 0 });
        assert!(matches!(remains, WorkerEnd::Worked { lost: true }));
        assert!(!next.is_complete(), "the worker left");
        let second = fork(&pool, work_until_stopped);
        assert_eq!(done(next.take(0, soon()).unwrap()), [1]);
        dismiss(&pool, &[second]);
    }
}

#[test]
fn the_end_of_a_withdrawn_tasks_worker_does_not_affect_the_next_job() {
    let pool = Pool::new().unwrap();
    let first = fork(&pool, work_until_stopped);
    let job = pool.job(None, JobOptions::default());
    submit_all(&job, [[5, 1]]);
    until_running(&pool);
    job.cancel();
    let key = job.id();
    drop(job);
    let next = pool.job(None, JobOptions::default());
    assert_eq!(next.id(), key, "keys are used again");
    submit_all(&next, [[0, 1]]);
    assert_eq!(overdue(&pool), [first.worker_index]);
    kill(&first);
    reap(&pool, &first);
    let second = fork(&pool, work_until_stopped);
    assert_eq!(done(next.take(0, soon()).unwrap()), [1]);
    dismiss(&pool, &[second]);
}

/// The function of a job that was cancelled and dropped is freed with it. Its worker is not stopped yet, and may read
/// the function just then.
#[test]
fn a_worker_whose_task_was_cancelled_keeps_its_function() {
    for size in [1, 5_000] {
        let body = |byte| message(&vec![byte; size]);
        let (mut told, mut tell) = std::io::pipe().unwrap();
        let (mut go_on, mut resume) = std::io::pipe().unwrap();
        let pool = Pool::new().unwrap();
        let function = pool.function(body(3)).unwrap();
        let job = pool.job(Some(&function), JobOptions::default());
        drop(function);
        submit_all(&job, [[0, 1]]);
        let process = fork(&pool, |pool, worker_index| {
            let worker = Worker::attach(pool.handle(), worker_index).unwrap();
            worker.ready();
            let (task, _) = worker.next().unwrap().unwrap();
            tell.write_all(&[1]).unwrap();
            go_on.read_exact(&mut [0]).unwrap();
            let same = worker.function(&task).is_ok_and(|bytes| bytes == vec![3; size]);
            worker.measured(&task, Duration::from_millis(25));
            assert!(!worker.finish(task, Verdict::Raised, message(&[])).unwrap());
            // SAFETY: ends the child without running what it inherited.
            unsafe { libc::_exit(i32::from(!same)) }
        });
        told.read_exact(&mut [0]).unwrap();
        assert_eq!(job.cancel().running, 1);
        drop(job);
        let other = pool.function(body(5)).unwrap();
        let tasks = pool.job(Some(&other), JobOptions::default());
        // These would use the slot of the first function, if it were free.
        submit_all(&tasks, (0..20).map(|byte| [0, byte]));
        resume.write_all(&[1]).unwrap();
        assert_eq!(reap(&pool, &process).0, 0, "the worker read another function");
        // What it measured is not taken for a link of the queue.
        let worker = fork(&pool, work);
        for number in 0..20 {
            assert_eq!(done(tasks.take(number, soon()).unwrap()), [5 * number as u8]);
        }
        drop(tasks);
        pool.terminate();
        wait_for(&worker);
    }
}
