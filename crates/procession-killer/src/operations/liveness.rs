//! Entries in the process table: taken by a new process, taken by a child of fork, and reaped after a death.

use super::{handle, Operation, Role};
use crate::stage::Values;
use procession_core::arena::{counters, Block, Ref};
use procession_core::channel::{Outgoing, Queue};
use procession_core::process::{self, Forked};
use procession_core::sync::Lock;
use procession_core::{liveness, sweep_deferred, Deadline};
use std::mem::{forget, ManuallyDrop};
use std::time::{Duration, Instant};

/// A queue that holds the only reference to an object; the object is older than every process that enters later.
fn stock() -> Vec<u64> {
    let queue = ManuallyDrop::new(Queue::create(0).expect("a queue"));
    let lock = Lock::create().expect("a lock");
    queue
        .send(
            Outgoing {
                handles: &[lock.handle()],
                ..Outgoing::default()
            },
            Deadline::Now,
        )
        .expect("room");
    vec![queue.handle().to_bits()]
}

/// Check that every entry in the process table belongs to a process, and that what only dead processes could still
/// access is given back in time.
fn comes_back(values: &Values, living: usize) -> String {
    let queue = Ref::<Queue>::attach(handle(values[0])).expect("the queue");
    drop(queue.get(Deadline::Now).expect("the message"));
    let begin = Instant::now();
    // An entry reserved for a child stays for two seconds after its parent's death: the child may be slow.
    while liveness::sweep() != living || counters().expect("counters").deferred > 0 {
        assert!(
            begin.elapsed() < Duration::from_secs(8),
            "not {living}: {:?}",
            liveness::members()
        );
        std::thread::sleep(Duration::from_millis(20));
        sweep_deferred().expect("memory");
    }
    "all came back".to_owned()
}

fn fork() {
    // SAFETY: the victim has one thread.
    match unsafe { process::fork() }.expect("a child") {
        // SAFETY: the child is through.
        Forked::Child => unsafe {
            libc::raise(libc::SIGSTOP);
        },
        Forked::Parent(child) => forget(child),
    }
}

pub fn operations() -> Vec<Operation> {
    vec![
        Operation {
            role: Role::Stranger,
            ..Operation::new(
                "process table entry, of a new process",
                stock,
                |_| {
                    || {
                        liveness::me().expect("an entry in the process table");
                    }
                },
                |values, _| comes_back(values, 2),
            )
        },
        Operation::new(
            "fork, the parent and its child die",
            stock,
            |_| fork,
            |values, _| comes_back(values, 2),
        ),
        Operation {
            role: Role::Child,
            ..Operation::new(
                "fork, the child dies",
                stock,
                |_| fork,
                |values, _| comes_back(values, 3),
            )
        },
        Operation::new(
            "process table exit: reaping a dead process",
            || {
                let values = stock();
                let queue = Ref::<Queue>::attach(handle(values[0])).expect("the queue");
                // SAFETY: one thread; the child leaves by `_exit`.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    forget((
                        Block::alloc(100).expect("memory"),
                        Block::alloc(100_000).expect("memory"),
                        Ref::<Queue>::attach(handle(values[0])).expect("the queue"),
                        Lock::create().expect("a lock"),
                    ));
                    // SAFETY: ends the child.
                    unsafe { libc::_exit(0) }
                }
                crate::remote::wait(pid);
                forget(queue);
                values
            },
            |_| || assert_eq!(liveness::sweep(), 2),
            |values, _| comes_back(values, 2),
        ),
    ]
}
