//! The pool over real processes: every test forks its workers, and several of them die at chosen points.

use super::shared::{State, Status, View};
use super::{Death, Item, Job, Loss, Pool, Remains, Terms, Verdict, Worker};
use crate::channel::{Incoming, Message, Outgoing};
use crate::{family, Deadline};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
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

struct Hired {
    pid: i32,
    place: u32,
}

/// Fork a child that runs `body` in the place it was enlisted for, and ends.
fn fork(pool: &Pool, body: impl FnOnce(&Pool, u32)) -> Hired {
    let place = pool.enlist().unwrap();
    // SAFETY: nextest and the harness run this test in a thread; the child calls only the engine, which is prepared for fork, and _exit.
    match unsafe { libc::fork() } {
        0 => {
            body(pool, place);
            // SAFETY: ends the child without running what it inherited.
            unsafe { libc::_exit(0) }
        }
        pid => Hired { pid, place },
    }
}

/// The usual worker. A task's first byte says what it does: 0 return the rest doubled, 1 fail with the rest, 2 be killed, 3 exit(7), 4 sleep first.
fn work(pool: &Pool, place: u32) {
    let worker = Worker::attach(pool.handle(), place).unwrap();
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

/// The exit code, or minus the signal, of a worker that has ended or will.
fn reap(hired: &Hired) -> i32 {
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(hired.pid, &raw mut status, 0) }, hired.pid);
    if libc::WIFSIGNALED(status) {
        -libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }
}

fn death(pid: i32, exitcode: i32) -> Death {
    Death {
        pid,
        exitcode,
        ..Death::default()
    }
}

fn bury(pool: &Pool, hired: &Hired) -> (i32, Remains) {
    let exitcode = reap(hired);
    (exitcode, pool.bury(hired.place, death(hired.pid, exitcode)).unwrap())
}

fn done(item: Option<Item>) -> Vec<u8> {
    match item {
        Some(Item::Done(message)) => message.body().to_vec(),
        other => panic!("not done: {other:?}"),
    }
}

const BY_TIME: Terms = Terms {
    by_time: true,
    timeout: None,
    retries: 0,
};

/// A job with a function.
fn job_of(pool: &Pool, function: &[u8]) -> Job {
    let function = pool.function(message(function)).unwrap();
    pool.job(Some(&function), Terms::default())
}

fn submit_all(job: &Job, commands: impl IntoIterator<Item = [u8; 2]>) {
    for command in commands {
        job.submit(message(&command)).unwrap();
    }
    job.seal();
}

fn dismiss(pool: &Pool, crew: &[Hired]) {
    pool.close();
    for hired in crew {
        assert_eq!(bury(pool, hired).0, 0);
    }
}

#[test]
fn results_come_in_order_and_the_function_serves_all_tasks() {
    let pool = Pool::new().unwrap();
    let crew = [fork(&pool, work), fork(&pool, work)];
    let job = job_of(&pool, &[3]);
    submit_all(&job, (0..200).map(|n| [0, n]));
    job.wait(soon()).unwrap();
    assert_eq!(job.progress(), (200, 200));
    for n in 0..200u8 {
        assert_eq!(done(job.take(u64::from(n), soon()).unwrap()), [n.wrapping_mul(3)]);
    }
    assert!(job.take(200, soon()).unwrap().is_none());
    assert!(job.take(7, soon()).unwrap().is_none(), "an item is taken once");
    dismiss(&pool, &crew);
}

#[test]
fn the_line_grows_beyond_the_slots_in_the_object() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, BY_TIME);
    let body = [[0u8].as_slice(), &[1; 300]].concat();
    for _ in 0..5_000 {
        job.submit(message(&body)).unwrap();
    }
    job.seal();
    let crew = [fork(&pool, work), fork(&pool, work)];
    let mut seen = vec![false; 5_000];
    while let Some((number, item)) = job.take_any(soon()).unwrap() {
        assert_eq!(done(Some(item)), [2; 300]);
        assert!(!std::mem::replace(&mut seen[number as usize], true), "twice");
    }
    assert!(seen.iter().all(|&seen| seen));
    dismiss(&pool, &crew);
}

#[test]
fn slots_are_used_again_and_jobs_leave_nothing_behind() {
    let pool = Pool::new().unwrap();
    let crew = [fork(&pool, work)];
    for round in 0..2_000u32 {
        let job = job_of(&pool, &[2]);
        assert_eq!(job.id(), 0, "the job before was forgotten");
        submit_all(&job, [[0, round as u8]]);
        assert_eq!(done(job.take(0, soon()).unwrap()), [(round as u8).wrapping_mul(2)]);
    }
    assert!(pool.is_idle());
    dismiss(&pool, &crew);
}

#[test]
fn a_failure_is_known_by_the_time_it_came() {
    let pool = Pool::new().unwrap();
    let crew = [fork(&pool, work)];
    let job = pool.job(None, Terms::default());
    submit_all(&job, [[0, 1], [1, 2], [1, 3]]);
    job.wait(soon()).unwrap();
    assert_eq!(job.first_failure(), Some(1));
    assert!(matches!(job.take(1, soon()).unwrap(), Some(Item::Raised(message)) if message.body() == [4]));
    dismiss(&pool, &crew);
}

#[test]
fn a_death_loses_its_own_task_only() {
    for (command, exitcode) in [(2, -libc::SIGKILL), (3, 7)] {
        let pool = Pool::new().unwrap();
        let first = fork(&pool, work);
        let job = pool.job(None, Terms::default());
        submit_all(&job, [[0, 1], [command, 2], [0, 3]]);
        let (code, remains) = bury(&pool, &first);
        assert_eq!(code, exitcode);
        assert!(matches!(remains, Remains::Worked { lost: true }));
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

/// A worker that claims a task and dies before the line's head has moved.
fn die_at_the_head(pool: &Pool, place: u32) {
    let worker = Worker::attach(pool.handle(), place).unwrap();
    worker.ready();
    let view = View::attach(pool.handle()).unwrap();
    let me = family().unwrap().me();
    let head = view.shared.head.0.load(SeqCst) as u32;
    let next = view.slot(head).unwrap().next.load(SeqCst);
    view.slot(place).unwrap().next.store(next, SeqCst);
    let slot = view.slot(next).unwrap();
    let state = slot.load().unwrap();
    assert!(slot.swap(state, State::of(Status::Running, state.generation, Some(me))));
}

#[test]
fn a_death_between_claim_and_head_holds_up_nobody() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, Terms::default());
    submit_all(&job, [[0, 1], [0, 2]]);
    let dying = fork(&pool, die_at_the_head);
    reap(&dying);
    let crew = [fork(&pool, work)];
    assert_eq!(
        done(job.take(1, soon()).unwrap()),
        [4],
        "others pass by, even before the burial"
    );
    pool.bury(dying.place, death(dying.pid, 0)).unwrap();
    assert!(matches!(job.take(0, soon()).unwrap(), Some(Item::Lost(_))));
    dismiss(&pool, &crew);
}

/// A worker that finishes a task and dies before it has told.
fn die_untold(pool: &Pool, place: u32) {
    let worker = Worker::attach(pool.handle(), place).unwrap();
    worker.ready();
    let view = View::attach(pool.handle()).unwrap();
    let (index, state) = view
        .claim(family().unwrap().me(), &view.slot(place).unwrap().next)
        .unwrap()
        .unwrap();
    let slot = view.slot(index).unwrap();
    drop(slot.envelope.open().unwrap());
    slot.envelope.post(message(b"done"));
    assert!(slot.swap(
        state,
        State {
            status: Status::Done,
            ..state
        }
    ));
}

#[test]
fn a_result_survives_a_death_before_it_was_told_of() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, Terms::default());
    submit_all(&job, [[0, 1]]);
    let dying = fork(&pool, die_untold);
    let (_, remains) = bury(&pool, &dying);
    assert!(matches!(remains, Remains::Worked { lost: false }));
    assert_eq!(done(job.take(0, soon()).unwrap()), b"done");
}

#[test]
fn a_death_after_telling_counts_once() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, Terms::default());
    submit_all(&job, [[0, 1]]);
    let dying = fork(&pool, |pool, place| {
        die_untold(pool, place);
        let view = View::attach(pool.handle()).unwrap();
        view.push_finished(view.slot(place).unwrap().next.load(SeqCst)).unwrap();
    });
    bury(&pool, &dying);
    assert_eq!(job.progress(), (1, 1));
    assert_eq!(done(job.take(0, soon()).unwrap()), b"done");
    assert!(pool.is_idle());
}

#[test]
fn a_dead_lookout_is_relieved() {
    let pool = Pool::new().unwrap();
    let dying = fork(&pool, |pool, place| {
        let worker = Worker::attach(pool.handle(), place).unwrap();
        worker.ready();
        let view = View::attach(pool.handle()).unwrap();
        view.shared.lookout.store(family().unwrap().me().to_bits(), SeqCst);
    });
    bury(&pool, &dying);
    assert_eq!(pool.inner_view().shared.lookout.load(SeqCst), 0);
}

#[test]
fn terminate_ends_every_wait() {
    let pool = Pool::new().unwrap();
    let crew = [fork(&pool, work)];
    let job = pool.job(None, Terms::default());
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
    assert_eq!(bury(&pool, &crew[0]).0, 0, "workers leave");
    assert_eq!(open.submit(message(&[0, 0])).unwrap(), 0);
}

#[test]
fn close_lets_workers_finish_what_is_in_line() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, Terms::default());
    job.submit(message(&[4, 1])).unwrap();
    let crew = [fork(&pool, work), fork(&pool, work)];
    pool.close();
    assert!(!pool.is_idle(), "the job may still grow");
    submit_all(&job, [[0, 2]]);
    for hired in &crew {
        assert_eq!(bury(&pool, hired).0, 0);
    }
    assert!(pool.is_idle() && !pool.needs_workers());
    assert_eq!(done(job.take(0, soon()).unwrap()), [2]);
    assert_eq!(done(job.take(1, soon()).unwrap()), [4]);
}

#[test]
fn a_worker_says_why_it_cannot_start() {
    let pool = Pool::new().unwrap();
    let failing = fork(&pool, |pool, place| {
        Worker::attach(pool.handle(), place).unwrap().fail(message(b"no way"));
    });
    let (_, remains) = bury(&pool, &failing);
    assert!(matches!(remains, Remains::Failed(why) if why.body() == b"no way"));
    let silent = fork(&pool, |_, _| ());
    assert!(matches!(bury(&pool, &silent).1, Remains::Unready));
}

#[test]
fn announced_jobs_are_told_of_once_each() {
    let pool = Pool::new().unwrap();
    let crew = [fork(&pool, work)];
    let jobs: Vec<Job> = (0..20)
        .map(|n| {
            let job = pool.job(None, Terms::default());
            submit_all(&job, [[0, n], [0, n]]);
            job.announce();
            job
        })
        .collect();
    let mut told: Vec<u32> = jobs
        .iter()
        .map(|_| pool.next_completed(soon()).unwrap().unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, jobs.iter().map(Job::id).collect::<Vec<_>>());
    pool.close();
    assert_eq!(pool.next_completed(soon()).unwrap(), None);
    bury(&pool, &crew[0]);
}

#[test]
fn a_random_killer_loses_no_task_and_doubles_none() {
    const TASKS: u64 = 2_000;
    let pool = Pool::new().unwrap();
    let job = pool.job(None, BY_TIME);
    submit_all(&job, (0..TASKS).map(|n| [0, n as u8]));
    let mut crew = vec![fork(&pool, work), fork(&pool, work)];
    let killed = AtomicU32::new(0);
    let mut lost = 0;
    let mut finished = 0;
    while let Some((_, item)) = job.take_any(soon()).unwrap() {
        finished += 1;
        lost += u32::from(matches!(item, Item::Lost(_)));
        if finished % 40 == 0 {
            let victim = crew.swap_remove(0);
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(victim.pid, libc::SIGKILL) };
            assert_eq!(bury(&pool, &victim).0, -libc::SIGKILL);
            killed.fetch_add(1, SeqCst);
            crew.push(fork(&pool, work));
        }
    }
    assert_eq!(finished, TASKS);
    assert!(lost <= killed.load(SeqCst), "{lost} tasks lost to {killed:?} deaths");
    assert!(pool.is_idle());
    dismiss(&pool, &crew);
}

#[test]
fn strangers_writing_into_the_pool_do_no_harm_to_its_maker() {
    let pool = Pool::new().unwrap();
    let job = pool.job(None, Terms::default());
    submit_all(&job, [[0, 1], [0, 2]]);
    let shared = &pool.inner_view().shared;
    // A stack that claims more than there is, and names slots that are in other use or do not exist.
    for word in [u64::MAX, 5 << 32 | 1, 1 << 32 | 63, 9 << 32 | 0x00ff_ffff] {
        shared.finished.0.store(word, SeqCst);
        assert_eq!(job.progress(), (2, 0));
    }
    let crew = [fork(&pool, work)];
    job.wait(soon()).unwrap();
    let takes: Vec<Incoming> = (0..2)
        .map(|n| match job.take(n, soon()).unwrap() {
            Some(Item::Done(message)) => message,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((takes[0].body(), takes[1].body()), ([2].as_slice(), [4].as_slice()));
    dismiss(&pool, &crew);
}

#[test]
fn a_withdrawn_task_is_passed_over() {
    let pool = Pool::new().unwrap();
    let first = pool.job(None, Terms::default());
    let (second, third) = (pool.job(None, Terms::default()), pool.job(None, Terms::default()));
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
    let crew = [fork(&pool, work)];
    assert_eq!(done(first.take(0, soon()).unwrap()), [2]);
    assert_eq!(done(third.take(0, soon()).unwrap()), [6]);
    assert_eq!(
        third.cancel(),
        super::Withdrawn::default(),
        "what is finished is not withdrawn"
    );
    assert!(pool.is_idle());
    // The slots can be used again, and with them the line is still whole.
    let again = pool.job(None, Terms::default());
    submit_all(&again, (0..100).map(|n| [0, n]));
    again.wait(soon()).unwrap();
    assert_eq!(done(again.take(99, soon()).unwrap()), [198]);
    dismiss(&pool, &crew);
}

#[test]
fn withdrawing_all_that_is_in_line_leaves_nothing_to_do() {
    let pool = Pool::new().unwrap();
    for _ in 0..1_000 {
        let job = pool.job(None, Terms::default());
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
    while pool.stats().running == 0 {
        std::thread::yield_now();
    }
}

/// What must be stopped, once there is something.
fn overdue(pool: &Pool) -> Vec<u32> {
    loop {
        let overdue = pool.overdue();
        if !overdue.places.is_empty() {
            return overdue.places;
        }
        let limit = Some(overdue.again.unwrap_or(Duration::from_secs(20)));
        pool.notice().wait(&[], limit);
    }
}

fn kill(hired: &Hired) {
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(hired.pid, libc::SIGKILL) };
}

/// As `work`, but a command of 5 lasts until the worker is killed, and 6 until its task is taken away.
fn work_for_ever(pool: &Pool, place: u32) {
    let worker = Worker::attach(pool.handle(), place).unwrap();
    worker.ready();
    while let Some((task, arguments)) = worker.next().unwrap() {
        let command = arguments.body()[0];
        worker.begin_item();
        if command == 5 {
            std::thread::sleep(Duration::from_secs(60));
        }
        while command == 6 && !worker.is_condemned(&task) {
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
    let crew = [fork(&pool, work_for_ever)];
    let limit = Duration::from_millis(30);
    let terms = Terms {
        timeout: Some(limit),
        ..Terms::default()
    };
    let job = pool.job(None, terms);
    submit_all(&job, [[0, 1], [5, 2], [0, 3]]);
    assert_eq!(overdue(&pool), [crew[0].place]);
    assert!(pool.overdue().places.is_empty(), "named once");
    assert!(!job.is_complete(), "not lost before its worker is dead");
    kill(&crew[0]);
    bury(&pool, &crew[0]);
    let second = fork(&pool, work_for_ever);
    job.wait(soon()).unwrap();
    match job.take(1, soon()).unwrap() {
        Some(Item::Lost(Loss::TimedOut(after, death))) => {
            assert_eq!((after, death.pid), (limit, crew[0].pid));
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
        let first = fork(&pool, work_for_ever);
        let (job, next) = (pool.job(None, Terms::default()), pool.job(None, Terms::default()));
        submit_all(&job, [[command, 1]]);
        submit_all(&next, [[0, 1]]);
        until_running(&pool);
        let withdrawn = job.cancel();
        assert_eq!((withdrawn.pending, withdrawn.running), (0, 1));
        assert!(matches!(
            job.take(0, soon()).unwrap(),
            Some(Item::Lost(Loss::Cancelled))
        ));
        assert_eq!(overdue(&pool), [first.place]);
        if command == 5 {
            kill(&first);
        }
        let (exitcode, remains) = bury(&pool, &first);
        assert_eq!(exitcode, if command == 5 { -libc::SIGKILL } else { 0 });
        assert!(matches!(remains, Remains::Worked { lost: true }));
        assert!(!next.is_complete(), "the worker left");
        let second = fork(&pool, work_for_ever);
        assert_eq!(done(next.take(0, soon()).unwrap()), [1]);
        dismiss(&pool, &[second]);
    }
}

#[test]
fn the_end_of_a_withdrawn_tasks_worker_does_not_concern_the_next_job() {
    let pool = Pool::new().unwrap();
    let first = fork(&pool, work_for_ever);
    let job = pool.job(None, Terms::default());
    submit_all(&job, [[5, 1]]);
    until_running(&pool);
    job.cancel();
    let key = job.id();
    drop(job);
    let next = pool.job(None, Terms::default());
    assert_eq!(next.id(), key, "keys are used again");
    submit_all(&next, [[0, 1]]);
    assert_eq!(overdue(&pool), [first.place]);
    kill(&first);
    bury(&pool, &first);
    let second = fork(&pool, work_for_ever);
    assert_eq!(done(next.take(0, soon()).unwrap()), [1]);
    dismiss(&pool, &[second]);
}

#[test]
fn a_task_is_tried_again_as_often_as_its_terms_say() {
    let pool = Pool::new().unwrap();
    let terms = Terms {
        retries: 2,
        ..Terms::default()
    };
    let job = pool.job(None, terms);
    let large = [[2u8].as_slice(), &[1; 300]].concat();
    submit_all(&job, [[2, 1]]);
    let other = pool.job(None, terms);
    other.submit(message(&large)).unwrap();
    other.seal();
    for attempt in 0..6 {
        assert_eq!((job.is_complete(), other.is_complete()), (attempt == 5, false));
        bury(&pool, &fork(&pool, work));
    }
    for (job, arguments) in [(job, [2, 1].as_slice()), (other, &large)] {
        match job.take(0, soon()).unwrap() {
            Some(Item::Lost(Loss::Died(death))) => assert_eq!(death.arguments.as_deref(), Some(arguments)),
            other => panic!("{other:?}"),
        }
    }
    assert!(pool.is_idle());
}

#[test]
fn a_function_lives_as_long_as_a_job_or_its_maker_wants_it() {
    let pool = Pool::new().unwrap();
    let function = pool.function(message(&[3])).unwrap();
    let slot = pool.inner_view().slot(function.index).unwrap();
    let holds = |slot: &super::shared::Slot| slot.load().is_some_and(|state| state.status == Status::Function);
    let is_there = || holds(slot);
    let jobs = [0, 1].map(|_| pool.job(Some(&function), Terms::default()));
    for job in &jobs {
        submit_all(job, [[0, 5]]);
    }
    drop(function);
    let crew = [fork(&pool, work)];
    for job in jobs {
        assert!(is_there());
        assert_eq!(done(job.take(0, soon()).unwrap()), [15]);
    }
    assert!(!is_there());
    // A task can have one of its own, also of a job that has none.
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
    dismiss(&pool, &crew);
}

#[test]
fn a_dismissed_worker_leaves_and_the_figures_add_up() {
    let pool = Pool::new().unwrap();
    let crew = [fork(&pool, work)];
    let job = pool.job(None, Terms::default());
    submit_all(&job, [[4, 1], [4, 2]]);
    job.wait(soon()).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.done, stats.queued, stats.running), (2, 0, 0));
    let worker = stats.workers[0];
    assert_eq!((worker.tasks, worker.received, worker.sent), (2, 4, 2));
    assert!(worker.busy >= Duration::from_millis(100), "{worker:?}");
    pool.dismiss(crew[0].place);
    assert_eq!(bury(&pool, &crew[0]).0, 0);
    assert!(pool.stats().workers.is_empty());
}
