//! Poll descriptors of a queue, and exits that wait for them.

use super::*;
use crate::channel::pollers::Poller;
use crate::channel::{flush_before_exit, Readiness};
use crate::ids::Kind;
use crate::liveness::{is_alive, members};

fn is_readable(readiness: &Readiness, timeout: i32) -> bool {
    use std::os::fd::AsRawFd;
    let mut poll = libc::pollfd {
        fd: readiness.fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&raw mut poll, 1, timeout) == 1 }
}

const LONG: i32 = 30_000;

#[test]
fn a_descriptor_is_readable_while_there_are_messages() {
    let queue = Ref::<Queue>::create().unwrap();
    let readiness = Readiness::new(&queue).unwrap();
    for _ in 0..50 {
        assert!(!is_readable(&readiness, 0));
        put(&queue, b"one");
        put(&queue, b"two");
        assert!(is_readable(&readiness, LONG));
        get(&queue);
        readiness.resolve();
        assert!(is_readable(&readiness, LONG), "one is left");
        get(&queue);
        readiness.resolve();
    }
}

#[test]
fn a_descriptor_is_readable_while_its_process_holds_messages() {
    let queue = Ref::<Queue>::create().unwrap();
    let readiness = Readiness::new(&queue).unwrap();
    for _ in 0..50 {
        readiness.resolve_or(|| true);
        assert!(is_readable(&readiness, 0));
        put(&queue, b"one");
        get(&queue);
        readiness.resolve_or(|| true);
        assert!(is_readable(&readiness, 0), "it holds some still");
        readiness.resolve_or(|| false);
        assert!(!is_readable(&readiness, 0));
    }
    put(&queue, b"one");
    assert!(is_readable(&readiness, LONG));
}

#[test]
fn a_descriptor_is_readable_by_the_put_of_another_process_that_died_since() {
    let queue = Ref::<Queue>::create().unwrap();
    let readiness = Readiness::new(&queue).unwrap();
    in_a_child_that_dies(|| put(&queue, b"last item"));
    assert!(is_readable(&readiness, LONG));
    assert_eq!(get(&queue).body(), b"last item");
}

#[test]
fn a_descriptor_takes_no_wake_from_consumers() {
    let queue = Ref::<Queue>::create().unwrap();
    let readiness = Readiness::new(&queue).unwrap();
    for _ in 0..200 {
        std::thread::scope(|threads| {
            let taker = threads.spawn(|| queue.get(Deadline::after(std::time::Duration::from_secs(30))));
            put(&queue, b"message");
            assert!(taker.join().unwrap().is_ok());
        });
        readiness.resolve();
    }
}

#[test]
fn a_dropped_descriptor_leaves_no_thread() {
    let queue = Ref::<Queue>::create().unwrap();
    let readiness = Readiness::new(&queue).unwrap();
    let name = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    while !threads().any(|thread| name(thread).starts_with("procession-read")) {
        std::thread::yield_now();
    }
    drop(readiness);
    while threads().any(|thread| name(thread).starts_with("procession-read")) {
        std::thread::yield_now();
    }
}

#[test]
fn a_descriptor_agrees_with_the_queue_once_it_is_updated() {
    let queue = Queue::create(0).unwrap();
    put(&queue, b"before");
    let readiness = Readiness::new(&queue).unwrap();
    for _ in 0..50 {
        assert!(is_readable(&readiness, 0));
        get(&queue);
        readiness.resolve();
        assert!(!is_readable(&readiness, 0));
        put(&queue, b"next");
        readiness.resolve();
    }
}

/// This process, as a poller whose descriptor does not show what is in the queue, as if its thread had not come to it
/// yet.
fn join(queue: &Queue) -> Poller {
    queue.waiting.pollers.join(family().unwrap().me(), is_alive)
}

/// A child that puts something and then waits as an exiting process does, but without a limit. Returns once the child
/// waits; the caller must end its wait.
fn child_that_puts_and_exits(queue: &Queue) -> i32 {
    let pid = child(|| {
        put(queue, b"last item");
        flush_before_exit::wait(Deadline::Never);
    });
    let waits = |kinds: &[(u32, _, _)]| kinds.iter().any(|wait| wait.0 == Kind::Queue as u32);
    while !members()
        .iter()
        .any(|member| member.pid == pid as u32 && waits(&member.waits))
    {
        // SAFETY: no status is asked for.
        let ended = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
        assert_eq!(ended, 0, "it did not wait");
        std::thread::yield_now();
    }
    pid
}

#[test]
fn an_exiting_process_waits_until_the_descriptor_shows_its_last_item() {
    let queue = Queue::create(0).unwrap();
    let poller = join(&queue);
    let pid = child_that_puts_and_exits(&queue);
    queue.waiting.pollers.show(poller);
    end(pid);
    assert!(!is_empty(&queue));
    assert!(queue.waiting.pollers.may_clear(poller, || true));
    let pid = child_that_puts_and_exits(&queue);
    queue.waiting.pollers.leave(poller);
    end(pid);
}

#[test]
fn an_exiting_process_does_not_wait_for_an_item_that_was_taken() {
    let queue = Queue::create(0).unwrap();
    let (first, second) = (join(&queue), join(&queue));
    let pid = child_that_puts_and_exits(&queue);
    queue.waiting.pollers.show(first);
    assert_eq!(get(&queue).body(), b"last item");
    end(pid);
    queue.waiting.pollers.leave(second);
}

#[test]
fn an_exiting_process_does_not_wait_for_dead_pollers() {
    let queue = Queue::create(0).unwrap();
    // There are more pollers than slots: the slots of dead ones are taken again.
    for _ in 0..10 {
        let poller = child(|| {
            join(&queue);
            loop {
                std::thread::park();
            }
        });
        while !is_a_living_poller_behind(&queue) {
            std::thread::yield_now();
        }
        let pid = child_that_puts_and_exits(&queue);
        // SAFETY: always sound; a child not waited for yet.
        assert_eq!(unsafe { libc::kill(poller, libc::SIGKILL) }, 0);
        // SAFETY: no status is asked for.
        assert_eq!(unsafe { libc::waitpid(poller, std::ptr::null_mut(), 0) }, poller);
        end(pid);
        get(&queue);
        assert!(!is_a_living_poller_behind(&queue));
    }
}

fn is_a_living_poller_behind(queue: &Queue) -> bool {
    queue.waiting.pollers.behind(family().unwrap().me()).any(is_alive)
}

#[test]
fn an_exiting_process_waits_only_for_pollers_that_are_behind() {
    let (unwatched, own, shown) = (
        Queue::create(0).unwrap(),
        Queue::create(0).unwrap(),
        Queue::create(0).unwrap(),
    );
    let poller = join(&shown);
    shown.waiting.pollers.show(poller);
    in_a_child_that_dies(|| {
        join(&own);
        for queue in [&unwatched, &own, &shown] {
            put(queue, b"last item");
        }
        assert_eq!(flush_before_exit::noted(), []);
        flush_before_exit::wait(Deadline::Never);
    });
    in_a_child_that_dies(|| {
        shown.waiting.pollers.may_clear(poller, || true);
        put(&shown, b"last item");
        assert_eq!(flush_before_exit::noted(), [shown.handle().to_bits()]);
        shown.waiting.pollers.show(poller);
        flush_before_exit::wait(Deadline::Never);
        assert_eq!(flush_before_exit::noted(), []);
    });
}

#[test]
fn notes_of_queues_that_were_noticed_make_room() {
    let queues: Vec<_> = (0..40).map(|_| Queue::create(0).unwrap()).collect();
    let pollers: Vec<_> = queues.iter().map(|queue| join(queue)).collect();
    in_a_child_that_dies(|| {
        for (number, queue) in queues.iter().enumerate() {
            put(queue, b"once");
            put(queue, b"twice");
            if number % 10 != 0 {
                queue.waiting.pollers.show(pollers[number]);
            }
        }
        let noted = flush_before_exit::noted();
        for queue in queues.iter().step_by(10) {
            assert!(noted.contains(&queue.handle().to_bits()));
        }
    });
}
