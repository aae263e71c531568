//! A futex for `loom`: a sleeper stays asleep until another thread wakes it, or a process dies.

use loom::sync::{Condvar, Mutex};
use std::cell::Cell;
use std::time::Duration;

pub use crate::words::{zeroed, AtomicU32, AtomicU64};
pub use loom::sync::atomic::{fence, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // a model has no signals
pub enum Woken {
    Wake,
    Changed,
    TimedOut,
    Interrupted,
}

#[derive(Default)]
struct Kernel {
    /// Word slept on, number of the sleeper.
    sleepers: Vec<(usize, u32)>,
    /// Sleepers that have timed out, because a process died.
    over: Vec<u32>,
    dead: Vec<u32>,
    threads: u32,
}

loom::lazy_static! {
    static ref KERNEL: Mutex<Kernel> = Mutex::new(Kernel::default());
    static ref BELL: Condvar = Condvar::new();
}

loom::thread_local! {
    static NUMBER: Cell<u32> = Cell::new(0);
    /// The number of deaths when it last slept: a slice that begins before a death is noticed ends after it.
    static SEEN: Cell<usize> = Cell::new(0);
}

/// The calling thread's number, from 1 on.
pub fn thread_number() -> u32 {
    NUMBER.with(|number| {
        if number.get() == 0 {
            let mut kernel = KERNEL.lock().unwrap();
            kernel.threads += 1;
            number.set(kernel.threads);
        }
        number.get()
    })
}

fn address(word: &impl Word) -> usize {
    std::ptr::from_ref(word) as usize
}

/// What can be slept on: a word, or the lower half of a longer one.
pub trait Word {
    fn low(&self) -> u32;
}

impl Word for AtomicU32 {
    fn low(&self) -> u32 {
        self.load(Ordering::SeqCst)
    }
}

impl Word for AtomicU64 {
    fn low(&self) -> u32 {
        self.load(Ordering::SeqCst) as u32
    }
}

pub fn sleep(word: &impl Word, expected: u32, _timeout: Duration) -> Woken {
    let me = thread_number();
    let mut kernel = KERNEL.lock().unwrap();
    // SYNC: the kernel compares the word and adds the sleeper under one lock, which a wake takes too.
    if word.low() != expected {
        return Woken::Changed;
    }
    let deaths = kernel.dead.len();
    if SEEN.with(|seen| seen.replace(deaths)) != deaths {
        return Woken::TimedOut;
    }
    kernel.sleepers.push((address(word), me));
    while kernel.sleepers.iter().any(|&(_, sleeper)| sleeper == me) {
        kernel = BELL.wait(kernel).unwrap();
    }
    match kernel.over.iter().position(|&sleeper| sleeper == me) {
        Some(at) => {
            kernel.over.remove(at);
            Woken::TimedOut
        }
        None => Woken::Wake,
    }
}

pub fn wake(word: &impl Word, n: u32) -> u32 {
    let mut kernel = KERNEL.lock().unwrap();
    let mut woken = 0;
    kernel.sleepers.retain(|&(at, _)| {
        let wakes = at == address(word) && woken < n;
        woken += u32::from(wakes);
        !wakes
    });
    BELL.notify_all();
    woken
}

pub fn is_dead(number: u32) -> bool {
    KERNEL.lock().unwrap().dead.contains(&number)
}

/// A process ends: every sleeper checks again.
pub fn die(number: u32) {
    let mut kernel = KERNEL.lock().unwrap();
    kernel.dead.push(number);
    let sleepers: Vec<_> = kernel.sleepers.drain(..).map(|(_, sleeper)| sleeper).collect();
    kernel.over.extend(sleepers);
    BELL.notify_all();
}

/// The cells of queue segments: memory and generation of each, and which are free.
#[derive(Default)]
pub struct Segments {
    pub cells: Vec<(usize, u32)>,
    pub free: Vec<u32>,
}

loom::lazy_static! {
    static ref SEGMENTS: std::sync::Mutex<Segments> = std::sync::Mutex::default();
    /// Every change of the allocator sees what was done before the previous one.
    static ref ORDER: loom::sync::atomic::AtomicU32 = loom::sync::atomic::AtomicU32::new(0);
    static ref BLOCKS: std::sync::Arc<[AtomicU64; 8]> = zeroed();
}

/// A point between two instructions. Does nothing: loom switches threads at the atomics themselves.
pub fn point() {}

pub fn change_segments<T>(change: impl FnOnce(&mut Segments) -> T) -> T {
    ORDER.fetch_add(1, Ordering::AcqRel);
    segments(change)
}

/// What was read of the segments never changes, so a read needs no event.
pub fn segments<T>(look: impl FnOnce(&mut Segments) -> T) -> T {
    look(&mut SEGMENTS.lock().unwrap())
}

/// The state of a message's memory. Must be called once before other threads exist, so that all of them see it.
pub fn block(number: u64) -> &'static AtomicU64 {
    &BLOCKS[number as usize]
}
