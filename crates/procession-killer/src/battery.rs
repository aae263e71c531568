//! What other processes of the family do while one is stopped: every operation, on objects of their own, each one
//! timed.

use crate::operations::handle;
use crate::remote::wait;
use crate::stage::board;
use libc::pid_t;
use procession_core::arena::Block;
use procession_core::channel::{Mailbox, Message, Outgoing, Queue};
use procession_core::pool::{JobOptions, Pool, Verdict, Worker};
use procession_core::shared::{SharedBytes, SharedDict, SharedList};
use procession_core::sync::{Arrival, Barrier, Condition, Event, Lock, RLock, Semaphore};
use procession_core::{liveness, sweep_deferred, Deadline};
use std::time::{Duration, Instant};

/// The longest that an operation of another process may take, apart from waits that it asks for.
const LIMIT: Duration = Duration::from_millis(100);

/// Times operations. The time that a process waited for a processor is not counted.
#[derive(Default)]
pub struct Clock {
    slowest: Duration,
    late: Vec<String>,
}

impl Clock {
    /// Run an operation that must not wait, or wait no longer than some milliseconds.
    pub fn time<T>(&mut self, name: &str, operation: impl FnOnce() -> T) -> T {
        self.time_both(name, None, operation)
    }

    /// The same, where the operation waits for what another process does. The time that either process waited for a
    /// processor is not counted.
    pub fn time_both<T>(&mut self, name: &str, other: Option<pid_t>, operation: impl FnOnce() -> T) -> T {
        let waits = || {
            let its = other.map(|pid| waited_for_a_processor(&pid.to_string()));
            waited_for_a_processor("self") + its.unwrap_or_default()
        };
        board().say(name);
        let (begin, waited) = (Instant::now(), waits());
        let end = operation();
        let took = begin.elapsed().saturating_sub(waits().saturating_sub(waited));
        self.slowest = self.slowest.max(took);
        if took > LIMIT {
            self.late.push(format!("{name}: {} ms", took.as_millis()));
        }
        end
    }

    /// What took too long.
    pub fn late(&self) -> String {
        self.late.join(", ")
    }

    /// Report to the tracer.
    pub fn report(&self) {
        board().write(&[self.slowest.as_micros() as u64]);
        board().say(&self.late());
    }

    /// Read the report: the slowest operation, and the operations that took too long.
    pub fn read() -> (Duration, Option<String>) {
        let slowest = board().read().first().copied().unwrap_or_default();
        let late = Some(board().said()).filter(|late| !late.is_empty());
        (Duration::from_micros(slowest), late)
    }
}

fn waited_for_a_processor(process: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap_or_default();
    let nanoseconds = text.split(' ').nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// Every operation, on new objects.
pub fn go_on(clock: &mut Clock) {
    clock.time("process entry", || {
        liveness::me().expect("an entry in the process table")
    });
    memory(clock);
    messages(clock);
    locks(clock);
    notices(clock);
    pool(clock);
    processes(clock);
    clock.time("sweep", || {
        liveness::sweep();
        sweep_deferred().expect("memory to sweep what is deferred");
    });
}

fn memory(clock: &mut Clock) {
    for length in [64, 100, 256, 1024, 4096, 20_000, 32_768, 65_536, 300_000, 2_000_000] {
        let blocks: Vec<_> = clock.time(&format!("block alloc, {length} bytes"), || {
            (0..3).map(|_| Block::alloc(length).expect("memory")).collect()
        });
        clock.time(&format!("block free, {length} bytes"), || drop(blocks));
    }
    clock.time("shared bytes create and drop", || {
        drop(SharedBytes::create(100_000).expect("memory"));
    });
    clock.time("dictionary", || {
        let dict = SharedDict::create().expect("memory");
        for number in 0..30u64 {
            let key = dict.key(&number.to_le_bytes(), b"").expect("a key");
            dict.set(&key, &[1; 2000]).expect("memory");
            assert!(dict.contains(&key).expect("memory"));
            if number % 2 == 0 {
                dict.remove(&key).expect("memory");
            }
        }
        assert_eq!(dict.len().expect("memory"), 15);
    });
    clock.time("list", || {
        let list = SharedList::create().expect("memory");
        for number in 0..40u64 {
            let item = [number as u8; 200];
            list.splice(&[item], |_, len| Some(len..len)).expect("memory");
            assert_eq!(list.get(-1).expect("memory").expect("an item").as_slice(), item);
        }
        assert_eq!(list.items(|len| 0..len).expect("memory").iter().len(), 40);
    });
    clock.time("object create, attach, drop", || {
        let locks: Vec<_> = (0..70).map(|_| Lock::create().expect("a lock")).collect();
        let again: Vec<_> = locks
            .iter()
            .map(|lock| Lock::attach(lock.handle()).expect("the lock"))
            .collect();
        drop((locks, again));
    });
}

fn messages(clock: &mut Clock) {
    let lock = clock.time("object create", || Lock::create().expect("a lock"));
    for (name, length, buffer) in [("inline", 8, 0), ("of 3 KB", 3000, 0), ("large", 200_000, 70_000)] {
        let (body, buffer) = (vec![1; length], vec![2; buffer]);
        let out = Outgoing {
            body: &body,
            buffers: if buffer.is_empty() { &[] } else { &[&buffer] },
            handles: if buffer.is_empty() { &[] } else { &[lock.handle()] },
            ..Outgoing::default()
        };
        let queue = clock.time("queue create", || Queue::create(50).expect("a queue"));
        for _ in 0..3 {
            clock.time(&format!("queue put, {name}"), || {
                queue.send(out, Deadline::Now).expect("room");
            });
        }
        let got = clock.time(&format!("queue get, {name}"), || {
            queue.get(Deadline::Now).expect("a message")
        });
        assert_eq!(got.body(), body);
        clock.time("message drop", || drop(got));
        clock.time("queue task_done", || assert!(queue.task_done()));
        clock.time("queue get, put", || {
            for _ in 0..40 {
                queue.send(out, Deadline::Now).expect("room");
                drop(queue.get(Deadline::Now).expect("a message"));
            }
        });
        clock.time("queue drop", || drop(queue));
        clock.time(&format!("mailbox, {name}"), || {
            let mailbox = Mailbox::pack(out).expect("a mailbox");
            assert_eq!(Mailbox::take(mailbox.token()).expect("the mailbox").body(), body);
        });
    }
}

/// A deadline short enough not to count as late.
fn briefly() -> Deadline {
    Deadline::after(Duration::from_millis(2))
}

fn locks(clock: &mut Clock) {
    clock.time("lock", || {
        let lock = Lock::create().expect("a lock");
        lock.acquire(briefly()).expect("the lock");
        assert!(lock.acquire(briefly()).is_err() && lock.release());
    });
    clock.time("rlock", || {
        let lock = RLock::create().expect("a lock");
        for _ in 0..2 {
            lock.acquire(briefly()).expect("the lock");
        }
        assert!(lock.release() && lock.release());
    });
    for recovers in [false, true] {
        clock.time(
            &format!("semaphore{}", if recovers { " that recovers" } else { "" }),
            || {
                let make = if recovers {
                    Semaphore::recovering
                } else {
                    Semaphore::create
                };
                let semaphore = make(1, 2).expect("a semaphore");
                semaphore.acquire(briefly()).expect("a permit");
                assert!(semaphore.acquire(briefly()).is_err());
                assert!(semaphore.release().expect("a semaphore") && semaphore.release().expect("a semaphore"));
            },
        );
    }
}

fn notices(clock: &mut Clock) {
    clock.time("condition", || {
        let condition = Condition::create().expect("a condition");
        let mut waiter = condition.enqueue().expect("a waiter slot");
        assert!(waiter.wait(briefly()).is_err());
        let mut waiter = condition.enqueue().expect("a waiter slot");
        condition.notify(1).unwrap();
        waiter.wait(briefly()).expect("notified");
    });
    clock.time("event", || {
        let event = Event::create().expect("an event");
        assert!(event.wait(event.begin(), briefly()).is_err());
        event.set();
        event.wait(event.begin(), briefly()).expect("set");
    });
    clock.time("barrier", || {
        let barrier = Barrier::create(2).expect("a barrier");
        passes(&barrier);
        let Ok(Arrival::Waits(mut late)) = barrier.arrive(briefly()) else {
            panic!("the first of two")
        };
        assert!(late.wait(briefly()).is_err() && barrier.is_broken());
        barrier.reset().expect("a barrier");
        passes(&barrier);
    });
}

/// Let two participants pass the barrier.
pub fn passes(barrier: &Barrier) {
    let Ok(Arrival::Waits(mut first)) = barrier.arrive(briefly()) else {
        panic!("the first of two")
    };
    let Ok(Arrival::Last(last)) = barrier.arrive(briefly()) else {
        panic!("the second of two")
    };
    last.release();
    first.wait(briefly()).expect("all are there");
}

fn pool(clock: &mut Clock) {
    let message = || {
        let out = Outgoing {
            body: &[1; 300],
            ..Outgoing::default()
        };
        Message::pack(out).expect("a message")
    };
    let pool = clock.time("pool create", || Pool::new().expect("a pool"));
    let job = pool.job(None, JobOptions::default());
    clock.time("pool submit", || job.submit(message()).expect("a task"));
    job.seal();
    let worker_index = pool.enlist().expect("a worker record");
    let worker = clock.time("pool worker attach", || {
        let worker = Worker::attach(handle(pool.handle().to_bits()), worker_index).expect("the worker record");
        worker.ready();
        worker
    });
    clock.time("pool task", || {
        let (task, arguments) = worker.next().expect("a pool").expect("a task");
        drop(arguments);
        worker.finish(task, Verdict::Done, message()).expect("a pool");
    });
    clock.time("pool result", || {
        assert!(job.take(0, briefly()).expect("a result").is_some());
    });
    clock.time("pool drop", || drop((worker, job, pool)));
}

/// Fork a child that dies while it holds objects of all kinds, and use them.
fn processes(clock: &mut Clock) {
    let (lock, semaphore, queue) = clock.time("object create", || {
        (
            Lock::create().expect("a lock"),
            Semaphore::recovering(1, 1).expect("a semaphore"),
            Queue::create(0).expect("a queue"),
        )
    });
    // SAFETY: one thread; the child leaves by `_exit`.
    let child = clock.time("fork", || unsafe { libc::fork() });
    if child == 0 {
        lock.acquire(briefly()).expect("the lock");
        semaphore.acquire(briefly()).expect("a permit");
        let out = Outgoing {
            body: &vec![1; 100_000],
            ..Outgoing::default()
        };
        queue.send(out, Deadline::Now).expect("room");
        std::mem::forget((Block::alloc(100), Block::alloc(100_000), Lock::create(), queue.clone()));
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) }
    }
    wait(child);
    clock.time("lock acquire, its holder having died", || {
        let told = lock.acquire(Deadline::after(Duration::from_secs(5)));
        assert!(
            matches!(told, Err(procession_core::WaitError::OwnerDied(_))),
            "{told:?}"
        );
    });
    clock.time("semaphore acquire, its holder having died", || {
        semaphore
            .acquire(Deadline::after(Duration::from_secs(5)))
            .expect("a permit");
    });
    clock.time("queue get, its producer having died", || {
        drop(queue.get(Deadline::Now).expect("a message"));
    });
    clock.time("object drop", || drop((lock, semaphore, queue)));
}
