//! Tasks of a higher priority are begun first.

use super::{done, message, soon};
use crate::pool::{Job, JobOptions, Pool, Priority, TaskOptions, Verdict, Worker};

fn job_of(pool: &Pool, priority: Priority) -> Job {
    let options = TaskOptions {
        priority,
        ..TaskOptions::default()
    };
    pool.job(None, JobOptions::of(options))
}

/// A worker in this process.
fn worker_of(pool: &Pool) -> Worker {
    let worker = Worker::attach(pool.handle(), pool.enlist().unwrap()).unwrap();
    worker.ready();
    worker
}

/// What the next task was submitted with. It is finished.
fn do_one(worker: &Worker) -> u8 {
    let (task, arguments) = worker.next().unwrap().unwrap();
    worker.finish(task, Verdict::Done, message(&[0])).unwrap();
    arguments.body()[0]
}

/// Each round has more tasks than there are slots at first. So slots are used again, as tasks of other priorities too.
#[test]
fn tasks_of_a_higher_priority_are_begun_first() {
    let pool = Pool::new().unwrap();
    let worker = worker_of(&pool);
    let jobs = [Priority::Low, Priority::Normal, Priority::High].map(|priority| job_of(&pool, priority));
    for round in 0..4 {
        for number in 0..30 {
            for (job, base) in jobs.iter().zip([60, 30, 0]) {
                job.submit(message(&[base + number])).unwrap();
            }
        }
        assert!((0..90).all(|number| do_one(&worker) == number));
        for job in &jobs {
            for number in 0..30 {
                assert_eq!(done(job.take(round * 30 + number, soon()).unwrap()), [0]);
            }
        }
    }
}

#[test]
fn a_task_overtakes_those_that_are_queued() {
    let pool = Pool::new().unwrap();
    let worker = worker_of(&pool);
    let [low, high] = [Priority::Low, Priority::High].map(|priority| job_of(&pool, priority));
    for number in [1, 2, 3] {
        low.submit(message(&[number])).unwrap();
    }
    assert_eq!(do_one(&worker), 1);
    high.submit(message(&[10])).unwrap();
    assert_eq!([(); 3].map(|()| do_one(&worker)), [10, 2, 3]);
}

/// The slots of withdrawn tasks are used again once the head of their own queue has passed them.
#[test]
fn withdrawn_tasks_leave_their_own_queue() {
    let pool = Pool::new().unwrap();
    let worker = worker_of(&pool);
    let [low, high] = [Priority::Low, Priority::High].map(|priority| job_of(&pool, priority));
    for round in 0..100_u64 {
        for number in [1, 2, 3] {
            low.submit(message(&[number])).unwrap();
        }
        high.submit(message(&[10])).unwrap();
        assert!(low.cancel_one_pending(round * 3 + 1));
        assert_eq!([(); 3].map(|()| do_one(&worker)), [10, 1, 3]);
        for number in [0, 2] {
            assert_eq!(done(low.take(round * 3 + number, soon()).unwrap()), [0]);
        }
        assert_eq!(done(high.take(round, soon()).unwrap()), [0]);
    }
    assert!(pool.inner_view().slot(200).is_err(), "few slots do for many tasks");
}
