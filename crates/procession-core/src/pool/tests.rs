//! The pool over real processes: these tests fork their workers. In `deaths` they die at chosen points, in `stopping`
//! tasks are stopped. `job_table` tests the table of jobs alone.

mod deaths;
mod job_model;
mod job_table;
mod priority;
mod stopping;

use super::shared::Status;
use super::{Item, Job, JobOptions, Loss, Pool, Priority, TaskOptions, Verdict, Worker, WorkerDeath, WorkerEnd};
use crate::channel::{Message, Outgoing};
use crate::{Deadline, Error, WaitError};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

fn message(body: &[u8]) -> Message {
    Message::pack(Outgoing {
        body,
        ..Outgoing::default()
    })
    .unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

struct TestWorker {
    pid: i32,
    worker_index: u32,
}

/// Fork a child that runs `body` as a newly enlisted worker, and ends.
fn fork(pool: &Pool, body: impl FnOnce(&Pool, u32)) -> TestWorker {
    let worker_index = pool.enlist().unwrap();
    // SAFETY: nextest and the harness run this test in a thread; the child calls only the engine, which is prepared for
    // fork, and _exit.
    match unsafe { libc::fork() } {
        0 => {
            body(pool, worker_index);
            // SAFETY: ends the child without running what it inherited.
            unsafe { libc::_exit(0) }
        }
        pid => TestWorker { pid, worker_index },
    }
}

/// The usual worker. A task's first byte is a command: 0 return the rest doubled, 1 fail with the rest, 2 kill itself,
/// 3 `exit(7)`, 4 sleep first.
fn work(pool: &Pool, worker_index: u32) {
    let worker = Worker::attach(pool.handle(), worker_index).unwrap();
    worker.ready();
    while let Some((task, arguments)) = worker.next().unwrap() {
        worker.begin_item();
        let body = arguments.body();
        let (command, rest) = (body[0], &body[1..]);
        let factor = task.function().map_or(2, |_| worker.function(&task).unwrap()[0]);
        match command {
            // SAFETY: plain system calls.
            2 => unsafe { libc::kill(libc::getpid(), libc::SIGKILL) },
            // SAFETY: as above.
            3 => unsafe { libc::_exit(7) },
            4 => {
                std::thread::sleep(Duration::from_millis(50));
                0
            }
            _ => 0,
        };
        let verdict = if command == 1 { Verdict::Raised } else { Verdict::Done };
        let result: Vec<u8> = rest.iter().map(|byte| byte.wrapping_mul(factor)).collect();
        drop(arguments);
        if !worker.finish(task, verdict, message(&result)).unwrap() {
            return;
        }
    }
}

/// The exit code, or the negative signal number, of a worker that has ended or will end.
fn wait_for(process: &TestWorker) -> i32 {
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(process.pid, &raw mut status, 0) }, process.pid);
    if libc::WIFSIGNALED(status) {
        -libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }
}

fn death(pid: i32, exitcode: i32) -> WorkerDeath {
    WorkerDeath {
        pid,
        exitcode,
        ..WorkerDeath::default()
    }
}

fn reap(pool: &Pool, process: &TestWorker) -> (i32, WorkerEnd) {
    let exitcode = wait_for(process);
    (
        exitcode,
        pool.reap(process.worker_index, death(process.pid, exitcode)).unwrap(),
    )
}

fn done(item: Option<Item>) -> Vec<u8> {
    match item {
        Some(Item::Done(message)) => message.body().to_vec(),
        other => panic!("not done: {other:?}"),
    }
}

const BY_TIME: JobOptions = JobOptions {
    by_time: true,
    tasks: TaskOptions {
        timeout: None,
        retries: 0,
        priority: Priority::Normal,
    },
};

/// A job with a function.
fn job_of(pool: &Pool, function: &[u8]) -> Job {
    let function = pool.function(message(function)).unwrap();
    pool.job(Some(&function), JobOptions::default())
}

fn submit_all(job: &Job, commands: impl IntoIterator<Item = [u8; 2]>) {
    for command in commands {
        job.submit(message(&command)).unwrap();
    }
    job.seal();
}

fn dismiss(pool: &Pool, workers: &[TestWorker]) {
    pool.close();
    for process in workers {
        assert_eq!(reap(pool, process).0, 0);
    }
}

#[test]
fn a_child_of_fork_leaves_its_parents_tasks_alone() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, JobOptions::default());
    submit_all(&job, [[0, 1], [0, 2]]);
    let worker = fork(&pool, work);
    assert!(comes_true(|| pool.inner_view().finished() >= 2));
    let child = fork(&pool, |pool, _| {
        let foreign = matches!(job.take_now(0), Err(Error::Inherited(_)))
            && matches!(job.wait(soon()), Err(WaitError::Other(Error::Inherited(_))))
            && matches!(job.submit(message(&[0, 3])), Err(Error::Inherited(_)))
            && !job.is_complete();
        job.cancel();
        pool.close();
        pool.terminate();
        // SAFETY: ends the child without running what it inherited.
        unsafe { libc::_exit(i32::from(!foreign)) }
    });
    assert_eq!(reap(&pool, &child).0, 0);
    assert_eq!(done(job.take(0, soon()).unwrap()), [2]);
    assert_eq!(done(job.take(1, soon()).unwrap()), [4]);
    let more = job_of(&pool, &[3]);
    submit_all(&more, [[0, 5]]);
    assert_eq!(done(more.take(0, soon()).unwrap()), [15]);
    dismiss(&pool, &[worker]);
}

#[test]
fn a_forked_child_asks_for_a_job_while_another_thread_did() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, JobOptions::default());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                assert!(!job.is_complete());
            }
        });
        let mut statuses = (0..100).map(|_| {
            let child = fork(&pool, |_, _| {
                // SAFETY: SIGALRM ends a child that waits for ever.
                unsafe { libc::alarm(5) };
                job.is_complete();
            });
            reap(&pool, &child).0
        });
        let failed = statuses.find(|&status| status != 0);
        over.store(true, Relaxed);
        assert_eq!(failed, None);
    });
}

#[test]
fn results_come_in_order_and_one_function_serves_all_tasks() {
    let pool = Pool::new().unwrap();
    let workers = [fork(&pool, work), fork(&pool, work)];
    let job = job_of(&pool, &[3]);
    submit_all(&job, (0..200).map(|n| [0, n]));
    job.wait(soon()).unwrap();
    assert_eq!(job.progress(), (200, 200));
    for n in 0..200u8 {
        assert_eq!(done(job.take(u64::from(n), soon()).unwrap()), [n.wrapping_mul(3)]);
    }
    assert!(job.take(200, soon()).unwrap().is_none());
    assert!(job.take(7, soon()).unwrap().is_none(), "an item is taken once");
    dismiss(&pool, &workers);
}

#[test]
fn the_task_queue_grows_beyond_the_slots_in_the_object() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, BY_TIME);
    let body = [[0u8].as_slice(), &[1; 300]].concat();
    for _ in 0..5_000 {
        job.submit(message(&body)).unwrap();
    }
    job.seal();
    let workers = [fork(&pool, work), fork(&pool, work)];
    let mut seen = vec![false; 5_000];
    while let Some((number, item)) = job.take_any(soon()).unwrap() {
        assert_eq!(done(Some(item)), [2; 300]);
        assert!(!std::mem::replace(&mut seen[number as usize], true), "twice");
    }
    assert!(seen.iter().all(|&seen| seen));
    dismiss(&pool, &workers);
}

#[test]
fn slots_are_used_again_and_jobs_leave_nothing_behind() {
    let pool = Pool::new().unwrap();
    let workers = [fork(&pool, work)];
    for round in 0..2_000u32 {
        let job = job_of(&pool, &[2]);
        assert_eq!(job.id(), 0, "the record of the previous job was freed");
        submit_all(&job, [[0, round as u8]]);
        assert_eq!(done(job.take(0, soon()).unwrap()), [(round as u8).wrapping_mul(2)]);
    }
    assert!(pool.is_idle());
    dismiss(&pool, &workers);
}

#[test]
fn the_first_failure_in_time_is_known() {
    let pool = Pool::new().unwrap();
    let workers = [fork(&pool, work)];
    let job = pool.job(None, JobOptions::default());
    submit_all(&job, [[0, 1], [1, 2], [1, 3]]);
    job.wait(soon()).unwrap();
    assert_eq!(job.first_failure(), Some(1));
    assert!(matches!(job.take(1, soon()).unwrap(), Some(Item::Raised(message)) if message.body() == [4]));
    dismiss(&pool, &workers);
}

#[test]
fn terminate_ends_every_wait() {
    let pool = Pool::new().unwrap();
    let workers = [fork(&pool, work)];
    let job = pool.job(None, JobOptions::default());
    submit_all(&job, (0..100).map(|n| [4, n]));
    let open = pool.job(None, BY_TIME);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| open.take_any(Deadline::Never).unwrap().is_none());
        let all = scope.spawn(|| job.wait(Deadline::Never).unwrap());
        assert_eq!(done(job.take(0, soon()).unwrap()), [0]);
        pool.terminate();
        all.join().unwrap();
        assert!(waiting.join().unwrap());
    });
    assert!(matches!(job.take(99, soon()).unwrap(), Some(Item::Lost(Loss::Stopped))));
    assert_eq!(reap(&pool, &workers[0]).0, 0, "workers leave");
    assert_eq!(open.submit(message(&[0, 0])).unwrap(), 0);
}

#[test]
fn close_lets_workers_finish_queued_tasks() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, JobOptions::default());
    job.submit(message(&[4, 1])).unwrap();
    let workers = [fork(&pool, work), fork(&pool, work)];
    pool.close();
    assert!(!pool.is_idle(), "the job may still grow");
    submit_all(&job, [[0, 2]]);
    for process in &workers {
        assert_eq!(reap(&pool, process).0, 0);
    }
    assert!(pool.is_idle() && !pool.needs_workers());
    assert_eq!(done(job.take(0, soon()).unwrap()), [2]);
    assert_eq!(done(job.take(1, soon()).unwrap()), [4]);
}

#[test]
fn announced_jobs_are_reported_once_each() {
    let pool = Pool::new().unwrap();
    let workers = [fork(&pool, work)];
    let jobs: Vec<Job> = (0..20)
        .map(|n| {
            let job = pool.job(None, JobOptions::default());
            submit_all(&job, [[0, n], [0, n]]);
            job.announce();
            job
        })
        .collect();
    let mut reported: Vec<u32> = jobs
        .iter()
        .map(|_| pool.next_completed(soon()).unwrap().unwrap())
        .collect();
    reported.sort_unstable();
    assert_eq!(reported, jobs.iter().map(Job::id).collect::<Vec<_>>());
    pool.close();
    assert_eq!(pool.next_completed(soon()).unwrap(), None);
    reap(&pool, &workers[0]);
}

#[test]
fn a_function_lives_as_long_as_its_handle_or_a_job_refers_to_it() {
    let pool = Pool::new().unwrap();
    let function = pool.function(message(&[3])).unwrap();
    let slot = pool.inner_view().slot(function.index).unwrap();
    let holds = |slot: &super::shared::PoolSlot| slot.load().is_some_and(|state| state.status == Status::Function);
    let is_there = || holds(slot);
    let jobs = [0, 1].map(|_| pool.job(Some(&function), JobOptions::default()));
    for job in &jobs {
        submit_all(job, [[0, 5]]);
    }
    drop(function);
    let workers = [fork(&pool, work)];
    for job in jobs {
        assert!(is_there());
        assert_eq!(done(job.take(0, soon()).unwrap()), [15]);
    }
    assert!(!is_there());
    // A task can have a function of its own, even in a job that has none.
    let (job, function) = (pool.job(None, BY_TIME), pool.function(message(&[7])).unwrap());
    let slot = pool.inner_view().slot(function.index).unwrap();
    job.submit_for(&function, message(&[4, 5])).unwrap();
    job.submit(message(&[0, 5])).unwrap();
    job.submit_for(&function, message(&[0, 5])).unwrap();
    job.seal();
    drop(function);
    assert_eq!(job.cancel_one(2).pending, 1);
    assert!(holds(slot));
    assert_eq!(done(job.take(0, soon()).unwrap()), [35]);
    assert_eq!(done(job.take(1, soon()).unwrap()), [10]);
    assert!(!holds(slot));
    dismiss(&pool, &workers);
}

#[test]
fn a_dismissed_worker_leaves_and_the_statistics_add_up() {
    let pool = Pool::new().unwrap();
    let workers = [fork(&pool, work)];
    let job = pool.job(None, JobOptions::default());
    submit_all(&job, [[4, 1], [4, 2]]);
    job.wait(soon()).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.done, stats.queued, stats.running), (2, 0, 0));
    let worker = stats.workers[0];
    assert_eq!((worker.tasks, worker.received, worker.sent), (2, 4, 2));
    assert!(worker.busy >= Duration::from_millis(100), "{worker:?}");
    pool.dismiss(workers[0].worker_index);
    assert_eq!(reap(&pool, &workers[0]).0, 0);
    assert!(pool.stats().workers.is_empty());
}

/// The reason is the longest message that fits into the header itself.
#[test]
fn a_dismissed_worker_that_fails_says_why() {
    let pool = Pool::new().unwrap();
    let why = [b'w'; 104];
    for before in [false, true] {
        let process = fork(&pool, |pool, worker_index| {
            let worker = Worker::attach(pool.handle(), worker_index).unwrap();
            let is_dismissed = || pool.inner_view().slot(worker_index).unwrap().is_dismissed();
            if before && !comes_true(is_dismissed) {
                return; // and the test sees that it has not failed
            }
            worker.fail(message(&why));
        });
        let failed = || {
            pool.inner_view()
                .slot(process.worker_index)
                .unwrap()
                .load()
                .unwrap()
                .status
                == Status::Failed
        };
        assert!(before || comes_true(failed));
        pool.dismiss(process.worker_index);
        let WorkerEnd::Failed(reason) = reap(&pool, &process).1 else {
            panic!("the reason was lost");
        };
        assert_eq!(reason.body(), why);
    }
}

#[test]
fn a_batch_of_nothing_is_empty() {
    let pool = Pool::new().unwrap();
    let workers = [fork(&pool, work)];
    let job = pool.job(None, BY_TIME);
    submit_all(&job, [[0, 1], [0, 2]]);
    assert!(job.take_batch(0, soon()).unwrap().is_empty());
    let mut taken = 0;
    while taken < 2 {
        taken += job.take_batch(7, soon()).unwrap().len();
    }
    assert!(job.take_batch(0, soon()).unwrap().is_empty() && job.take_batch(1, soon()).unwrap().is_empty());
    dismiss(&pool, &workers);
}

/// Ask again and again whether a condition holds. Return whether it did before a test gives up.
fn comes_true(condition: impl Fn() -> bool) -> bool {
    let deadline = soon();
    while !condition() {
        if deadline.is_over() {
            return false;
        }
        std::thread::yield_now();
    }
    true
}
