//! Memory comes back: a waiting process gives it back, or, where none waits, the process that frees it.

use crate::arena::Block;
use crate::sync::wait::EventCount;
use crate::sys::memory;
use crate::{family, Deadline};
use std::time::{Duration, Instant};

/// Bytes that may stay committed in a family that uses nothing.
const STAYS: u64 = 16 << 20;

fn committed() -> u64 {
    memory::committed_bytes(family().unwrap().arena_fd().unwrap()).unwrap()
}

fn burst(sizes: impl Iterator<Item = usize>) -> Vec<Block> {
    let blocks: Vec<_> = sizes
        .map(|len| {
            let mut block = Block::alloc(len).unwrap();
            block.as_mut_slice().fill(1);
            block
        })
        .collect();
    assert!(committed() > 2 * STAYS);
    blocks
}

#[test]
fn a_process_that_frees_gives_back_if_none_waits() {
    drop(burst((0..200_000).map(|_| 200)));
    assert!(committed() < STAYS, "{}", committed());
    for size in [48 << 20, 5 << 20, 300_000] {
        drop(burst((0..(96 << 20) / size).map(|_| size)));
        assert!(committed() < STAYS, "{} after {size}", committed());
    }
    let keep = burst((0..40).map(|_| 1 << 20));
    drop(burst((0..100).map(|_| 1 << 20)));
    assert!(committed() < 2 * (40 << 20) + STAYS, "{}", committed());
    drop(keep);
}

#[test]
fn memory_in_constant_reuse_stays_warm() {
    let count = || {
        let begin = Instant::now();
        drop(burst(std::iter::once(64 << 20)));
        begin.elapsed()
    };
    for _ in 0..6 {
        count();
    }
    // On a machine so busy that rounds take long, no memory is in constant reuse.
    if count() < Duration::from_millis(50) {
        assert!(committed() > 64 << 20, "{}", committed());
    }
}

#[test]
fn a_process_that_waits_gives_back_what_others_freed() {
    family().unwrap().me();
    let (count, over) = (EventCount::default(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (count, over) = (&count, &over);
        let waiter = scope.spawn(move || {
            let ready = || over.load(std::sync::atomic::Ordering::SeqCst).then_some(());
            count.wait(Deadline::after(Duration::from_secs(60)), ready)
        });
        while !crate::liveness::some_process_waits() {
            std::thread::yield_now();
        }
        drop(burst((0..10).map(|_| 10 << 20)));
        drop(burst((0..100_000).map(|_| 500)));
        let begin = Instant::now();
        while committed() > STAYS && begin.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(10));
        }
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        count.notify_all();
        waiter.join().unwrap().unwrap();
        assert!(committed() < STAYS, "{}", committed());
    });
}

#[test]
fn what_was_left_to_a_waiting_process_is_given_back_after_its_death() {
    family().unwrap().me();
    // SAFETY: the child only waits, until it is killed.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let _ = EventCount::default().wait(Deadline::Never, || None::<()>);
        // SAFETY: ends the child.
        unsafe { libc::_exit(1) };
    }
    while !crate::liveness::some_process_waits() {
        std::thread::yield_now();
    }
    let signal = |number| {
        // SAFETY: a signal to the child, which is not reaped yet.
        assert_eq!(unsafe { libc::kill(child, number) }, 0);
    };
    let changed = |options| {
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, options) }, child);
    };
    signal(libc::SIGSTOP);
    changed(libc::WUNTRACED);
    drop(burst((0..6).map(|_| 10 << 20)));
    assert!(committed() > 2 * STAYS, "left to the process that waits");
    signal(libc::SIGKILL);
    changed(0);
    crate::liveness::sweep();
    assert!(committed() < STAYS, "{}", committed());
}
