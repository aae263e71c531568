//! A dead worker loses the task that it was running, and nothing else.

use super::{death, dismiss, done, fork, job_of, message, reap, soon, submit_all, wait_for, work, BY_TIME};
use crate::channel::Incoming;
use crate::family;
use crate::pool::shared::{PoolView, StateWord, Status};
use crate::pool::{Item, JobOptions, Loss, Pool, Priority, TaskOptions, Worker, WorkerEnd};
use crate::sync::wait::Interruptible;
use crate::{Deadline, WaitError};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

#[test]
fn a_death_loses_its_own_task_only() {
    for (command, exitcode) in [(2, -libc::SIGKILL), (3, 7)] {
        let pool = Pool::new().unwrap();
        let first = fork(&pool, work);
        let job = pool.job(None, JobOptions::default());
        submit_all(&job, [[0, 1], [command, 2], [0, 3]]);
        let (code, remains) = reap(&pool, &first);
        assert_eq!(code, exitcode);
        assert!(matches!(remains, WorkerEnd::Worked { lost: true }));
        let second = fork(&pool, work);
        assert_eq!(done(job.take(0, soon()).unwrap()), [2]);
        let Some(Item::Lost(Loss::Died(death))) = job.take(1, soon()).unwrap() else {
            panic!("not lost");
        };
        assert_eq!((death.pid, death.exitcode), (first.pid, exitcode));
        assert_eq!(death.arguments.as_deref(), Some([command, 2].as_slice()));
        assert_eq!(done(job.take(2, soon()).unwrap()), [6]);
        dismiss(&pool, &[second]);
    }
}

/// A worker that claims a task and dies before the queue's head has moved.
fn die_before_moving_the_head(pool: &Pool, worker_index: u32) {
    let worker = Worker::attach(pool.handle(), worker_index).unwrap();
    worker.ready();
    let view = PoolView::attach(pool.handle()).unwrap();
    let me = family().unwrap().me();
    let head = view.head(Priority::Normal as usize);
    let next = view.slot(head).unwrap().next.load(SeqCst);
    view.slot(worker_index).unwrap().next.store(next, SeqCst);
    let slot = view.slot(next).unwrap();
    let state = slot.load().unwrap();
    assert!(slot.swap(state, StateWord::of(Status::Running, state.generation, Some(me))));
}

#[test]
fn a_death_between_claim_and_head_move_blocks_no_other_worker() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, JobOptions::default());
    submit_all(&job, [[0, 1], [0, 2]]);
    let dying = fork(&pool, die_before_moving_the_head);
    wait_for(&dying);
    let workers = [fork(&pool, work)];
    assert_eq!(
        done(job.take(1, soon()).unwrap()),
        [4],
        "another worker goes on, even before the dead one is reaped"
    );
    pool.reap(dying.worker_index, death(dying.pid, 0)).unwrap();
    assert!(matches!(job.take(0, soon()).unwrap(), Some(Item::Lost(_))));
    dismiss(&pool, &workers);
}

/// A worker that finishes a task and dies, or goes on otherwise, before it has reported that.
fn die_before_reporting(pool: &Pool, worker_index: u32) {
    let worker = Worker::attach(pool.handle(), worker_index).unwrap();
    worker.ready();
    let view = PoolView::attach(pool.handle()).unwrap();
    let (index, state) = view
        .claim(family().unwrap().me(), &view.slot(worker_index).unwrap().next)
        .unwrap()
        .unwrap();
    let slot = view.slot(index).unwrap();
    drop(slot.header.open().unwrap());
    slot.header.post(message(b"done"));
    assert!(slot.swap(
        state,
        StateWord {
            status: Status::Done,
            ..state
        }
    ));
}

#[test]
fn a_result_survives_a_death_before_it_is_reported() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, JobOptions::default());
    submit_all(&job, [[0, 1]]);
    let dying = fork(&pool, die_before_reporting);
    let (_, remains) = reap(&pool, &dying);
    assert!(matches!(remains, WorkerEnd::Worked { lost: false }));
    assert_eq!(done(job.take(0, soon()).unwrap()), b"done");
}

/// A worker that is stopped there is busy, and its task is not queued.
#[test]
fn a_result_that_is_not_reported_is_not_queued() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, JobOptions::default());
    submit_all(&job, [[0, 1]]);
    let stopped = fork(&pool, |pool, worker_index| {
        die_before_reporting(pool, worker_index);
        // SAFETY: plain system calls.
        unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
        let view = PoolView::attach(pool.handle()).unwrap();
        view.push_finished(view.slot(worker_index).unwrap().next.load(SeqCst))
            .unwrap();
    });
    let counts = || {
        let stats = pool.stats();
        (stats.done, stats.queued, stats.running)
    };
    let mut status = 0;
    // SAFETY: waits for our own child to stop.
    let waited = unsafe { libc::waitpid(stopped.pid, &raw mut status, libc::WUNTRACED) };
    assert!(waited == stopped.pid && libc::WIFSTOPPED(status));
    assert_eq!(counts(), (0, 0, 1));
    assert!(pool.is_busy(stopped.worker_index) && pool.overdue().worker_indexes.is_empty());
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(stopped.pid, libc::SIGCONT) };
    assert_eq!(done(job.take(0, soon()).unwrap()), b"done");
    assert!(!pool.is_busy(stopped.worker_index));
    assert_eq!(counts(), (1, 0, 0));
    reap(&pool, &stopped);
}

#[test]
fn a_death_after_the_report_counts_once() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, JobOptions::default());
    submit_all(&job, [[0, 1]]);
    let dying = fork(&pool, |pool, worker_index| {
        die_before_reporting(pool, worker_index);
        let view = PoolView::attach(pool.handle()).unwrap();
        view.push_finished(view.slot(worker_index).unwrap().next.load(SeqCst))
            .unwrap();
    });
    reap(&pool, &dying);
    assert_eq!(job.progress(), (1, 1));
    assert_eq!(done(job.take(0, soon()).unwrap()), b"done");
    assert!(pool.is_idle());
}

#[test]
fn a_dead_spinner_is_replaced() {
    let pool = Pool::new().unwrap();
    let dying = fork(&pool, |pool, worker_index| {
        let worker = Worker::attach(pool.handle(), worker_index).unwrap();
        worker.ready();
        let view = PoolView::attach(pool.handle()).unwrap();
        view.shared.spinner.store(family().unwrap().me().to_bits(), SeqCst);
    });
    reap(&pool, &dying);
    assert_eq!(pool.inner_view().shared.spinner.load(SeqCst), 0);
}

#[test]
fn a_stopped_spinner_is_replaced() {
    let pool = Pool::new().unwrap();
    let stopped = fork(&pool, |pool, worker_index| {
        let worker = Worker::attach(pool.handle(), worker_index).unwrap();
        worker.ready();
        let view = PoolView::attach(pool.handle()).unwrap();
        view.shared.spinner.store(family().unwrap().me().to_bits(), SeqCst);
        // SAFETY: plain system calls.
        unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
    });
    let spinner = || pool.inner_view().shared.spinner.load(SeqCst);
    while spinner() == 0 {
        std::thread::yield_now();
    }
    let its = spinner();
    let sleeper = fork(&pool, work);
    let job = job_of(&pool, &[2]);
    // The worker sleeps until its slice is over, before the first or the second of these.
    for number in 0.. {
        job.submit(message(&[0, 1])).unwrap();
        assert_eq!(done(job.take(number, soon()).unwrap()), [2]);
        if spinner() != its {
            break;
        }
    }
    job.seal();
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(stopped.pid, libc::SIGCONT) };
    reap(&pool, &stopped);
    dismiss(&pool, &[sleeper]);
}

#[test]
fn a_waiter_replaces_a_stopped_spinner() {
    let pool = Pool::new().unwrap();
    let job = job_of(&pool, &[2]);
    job.submit(message(&[0, 1])).unwrap();
    let view = pool.inner_view();
    view.shared.spinner.store(family().unwrap().me().to_bits(), SeqCst);
    let mut wait = Interruptible::default();
    for _ in 0..5 {
        // However long the wait has lasted: its slices end, so that signal handlers run.
        assert!(matches!(wait.run(|| job.take(0, soon())), Err(WaitError::Interrupted)));
    }
    assert_eq!(view.shared.spinner.load(SeqCst), 0, "no worker claims the queued task");
    // So does a waiter that gets no signals.
    view.shared.spinner.store(family().unwrap().me().to_bits(), SeqCst);
    let late = job.take(0, Deadline::after(Duration::from_millis(100)));
    assert!(matches!(late, Err(WaitError::TimedOut)));
    assert_eq!(view.shared.spinner.load(SeqCst), 0);
    let worker = fork(&pool, work);
    assert_eq!(done(job.take(0, soon()).unwrap()), [2]);
    job.seal();
    dismiss(&pool, &[worker]);
}

#[test]
fn a_woken_worker_that_dies_is_replaced() {
    let pool = Pool::new().unwrap();
    let sleeper = fork(&pool, work);
    let view = pool.inner_view();
    let dead = fork(&pool, |pool, worker_index| {
        Worker::attach(pool.handle(), worker_index).unwrap().ready();
        pool.inner_view().shared.wake_pending.store(1, SeqCst);
    });
    reap(&pool, &dead);
    let job = job_of(&pool, &[2]);
    submit_all(&job, [[0, 1]]);
    assert_eq!(done(job.take(0, soon()).unwrap()), [2]);
    // A worker that is about to sleep looks at the queue itself.
    while view.shared.wake_pending.load(SeqCst) != 0 {
        std::thread::yield_now();
    }
    dismiss(&pool, &[sleeper]);
}

#[test]
fn a_worker_says_why_it_cannot_start() {
    let pool = Pool::new().unwrap();
    let failing = fork(&pool, |pool, worker_index| {
        Worker::attach(pool.handle(), worker_index)
            .unwrap()
            .fail(message(b"no way"));
    });
    let (_, remains) = reap(&pool, &failing);
    assert!(matches!(remains, WorkerEnd::Failed(why) if why.body() == b"no way"));
    let silent = fork(&pool, |_, _| ());
    assert!(matches!(reap(&pool, &silent).1, WorkerEnd::Unready { begun: false }));
    let cut_short = fork(&pool, |pool, worker_index| {
        drop(Worker::attach(pool.handle(), worker_index).unwrap());
    });
    assert!(matches!(reap(&pool, &cut_short).1, WorkerEnd::Unready { begun: true }));
}

#[test]
fn random_kills_lose_no_other_task_and_duplicate_none() {
    const TASKS: u64 = 2_000;
    let pool = Pool::new().unwrap();
    let job = pool.job(None, BY_TIME);
    submit_all(&job, (0..TASKS).map(|n| [0, n as u8]));
    let mut workers = vec![fork(&pool, work), fork(&pool, work)];
    let killed = AtomicU32::new(0);
    let mut lost = 0;
    let mut finished = 0;
    while let Some((_, item)) = job.take_any(soon()).unwrap() {
        finished += 1;
        lost += u32::from(matches!(item, Item::Lost(_)));
        if finished % 40 == 0 {
            let victim = workers.swap_remove(0);
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(victim.pid, libc::SIGKILL) };
            assert_eq!(reap(&pool, &victim).0, -libc::SIGKILL);
            killed.fetch_add(1, SeqCst);
            workers.push(fork(&pool, work));
        }
    }
    assert_eq!(finished, TASKS);
    assert!(lost <= killed.load(SeqCst), "{lost} tasks lost to {killed:?} deaths");
    assert!(pool.is_idle());
    dismiss(&pool, &workers);
}

#[test]
fn stray_writes_into_the_pool_do_no_harm_to_its_owner() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, JobOptions::default());
    submit_all(&job, [[0, 1], [0, 2]]);
    let shared = &pool.inner_view().shared;
    // A stack that claims more entries than there are, and names slots that are in other use or do not exist.
    for word in [u64::MAX, 5 << 32 | 1, 1 << 32 | 63, 9 << 32 | 0x00ff_ffff] {
        shared.finished.0.store(word, SeqCst);
        assert_eq!(job.progress(), (2, 0));
    }
    let workers = [fork(&pool, work)];
    job.wait(soon()).unwrap();
    let takes: Vec<Incoming> = (0..2)
        .map(|n| match job.take(n, soon()).unwrap() {
            Some(Item::Done(message)) => message,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((takes[0].body(), takes[1].body()), ([2].as_slice(), [4].as_slice()));
    dismiss(&pool, &workers);
}

#[test]
fn a_task_is_tried_again_as_often_as_its_options_say() {
    let pool = Pool::new().unwrap();
    let options = JobOptions::of(TaskOptions {
        retries: 2,
        ..TaskOptions::default()
    });
    let job = pool.job(None, options);
    let large = [[2u8].as_slice(), &[1; 300]].concat();
    submit_all(&job, [[2, 1]]);
    let other = pool.job(None, options);
    other.submit(message(&large)).unwrap();
    other.seal();
    for attempt in 0..6 {
        assert_eq!((job.is_complete(), other.is_complete()), (attempt == 5, false));
        reap(&pool, &fork(&pool, work));
    }
    for (job, arguments) in [(job, [2, 1].as_slice()), (other, &large)] {
        match job.take(0, soon()).unwrap() {
            Some(Item::Lost(Loss::Died(death))) => assert_eq!(death.arguments.as_deref(), Some(arguments)),
            other => panic!("{other:?}"),
        }
    }
    assert!(pool.is_idle());
}
