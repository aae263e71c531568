//! Atomics, processes that die and a futex for `shuttle`.
//!
//! The atomics are the standard library's, with a point before each operation where the schedule may switch to another
//! thread or end a doomed one. So zero-filled memory is valid, as in the engine. Operations are sequentially
//! consistent: `loom` checks the orderings.

use shuttle::sync::{Condvar, Mutex};
use std::cell::Cell;
use std::time::Duration;

pub use std::sync::atomic::Ordering;

macro_rules! atomic {
    ($name:ident, $number:ty) => {
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name(std::sync::atomic::$name);

        impl $name {
            pub fn load(&self, order: Ordering) -> $number {
                point();
                self.0.load(order)
            }

            pub fn store(&self, value: $number, order: Ordering) {
                point();
                self.0.store(value, order);
            }

            pub fn swap(&self, value: $number, order: Ordering) -> $number {
                point();
                self.0.swap(value, order)
            }

            pub fn compare_exchange(
                &self,
                from: $number,
                to: $number,
                done: Ordering,
                failed: Ordering,
            ) -> Result<$number, $number> {
                point();
                self.0.compare_exchange(from, to, done, failed)
            }

            pub fn fetch_add(&self, value: $number, order: Ordering) -> $number {
                point();
                self.0.fetch_add(value, order)
            }

            pub fn fetch_or(&self, value: $number, order: Ordering) -> $number {
                point();
                self.0.fetch_or(value, order)
            }

            pub fn fetch_and(&self, value: $number, order: Ordering) -> $number {
                point();
                self.0.fetch_and(value, order)
            }

            pub fn fetch_max(&self, value: $number, order: Ordering) -> $number {
                point();
                self.0.fetch_max(value, order)
            }

            derived!($number);
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

/// Operations are sequentially consistent already.
pub fn fence(_: Ordering) {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    Wake,
    Changed,
    TimedOut,
    Interrupted,
}

/// State that changes only while no other thread runs.
struct World {
    threads: u32,
    dead: Vec<u32>,
    blocks: &'static [AtomicU64],
    segments: Segments,
}

/// The cells of queue segments: memory and generation of each, and which are free.
#[derive(Default)]
pub struct Segments {
    pub cells: Vec<(usize, u32)>,
    pub free: Vec<u32>,
}

#[derive(Default)]
struct Kernel {
    /// Word slept on, number of the sleeper.
    sleepers: Vec<(usize, u32)>,
    /// Sleepers that have timed out, because a process died.
    over: Vec<u32>,
    /// Processes that have ended or died.
    ended: Vec<u32>,
}

shuttle::lazy_static! {
    static ref WORLD: std::sync::Mutex<World> = std::sync::Mutex::new(World {
        threads: 0,
        dead: Vec::new(),
        blocks: Vec::leak((0..128).map(|_| AtomicU64::default()).collect()),
        segments: Segments::default(),
    });
    static ref KERNEL: Mutex<Kernel> = Mutex::new(Kernel::default());
    static ref BELL: Condvar = Condvar::new();
    static ref TURN: shuttle::sync::atomic::AtomicBool = shuttle::sync::atomic::AtomicBool::new(false);
}

shuttle::thread_local! {
    static NUMBER: Cell<u32> = Cell::new(0);
    /// The number of deaths when it last slept: a slice that begins before a death is noticed ends after it.
    static SEEN: Cell<usize> = Cell::new(0);
    /// How many operations a doomed process has left.
    static FUSE: Cell<Option<u32>> = Cell::new(None);
}

fn world<T>(look: impl FnOnce(&mut World) -> T) -> T {
    look(&mut WORLD.lock().unwrap())
}

/// A point where the schedule may switch to another thread, and where a doomed process may die.
pub fn point() {
    match FUSE.with(Cell::get) {
        Some(0) => {
            FUSE.with(|fuse| fuse.set(None));
            die(thread_number());
            // Unwinding touches nothing that is shared: to the others it is as if the thread had stopped here.
            std::panic::resume_unwind(Box::new(Dead));
        }
        Some(left) => FUSE.with(|fuse| fuse.set(Some(left - 1))),
        None => {}
    }
    TURN.load(Ordering::SeqCst);
}

/// The calling thread's number, from 1 on.
pub fn thread_number() -> u32 {
    let number = NUMBER.with(Cell::get);
    if number != 0 {
        return number;
    }
    let number = world(|world| {
        world.threads += 1;
        world.threads
    });
    NUMBER.with(|mine| mine.set(number));
    number
}

struct Dead;

pub struct Process(u32);

/// Run `body` as a process, which dies after `fuse` operations.
pub fn process(fuse: Option<u32>, body: impl FnOnce() + Send + 'static) -> Process {
    let number = world(|world| {
        world.threads += 1;
        world.threads
    });
    drop(shuttle::thread::spawn(move || {
        NUMBER.with(|mine| mine.set(number));
        FUSE.with(|mine| mine.set(fuse));
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
            Ok(()) => {
                KERNEL.lock().unwrap().ended.push(number);
                BELL.notify_all();
            }
            Err(why) if why.is::<Dead>() => {}
            Err(why) => std::panic::resume_unwind(why),
        }
    }));
    Process(number)
}

impl Process {
    /// Wait until it has ended or died.
    pub fn join(self) {
        let mut kernel = KERNEL.lock().unwrap();
        while !kernel.ended.contains(&self.0) {
            kernel = BELL.wait(kernel).unwrap();
        }
    }
}

pub fn is_dead(number: u32) -> bool {
    world(|world| world.dead.contains(&number))
}

/// A process dies: every sleeper checks again, as it would when its slice ends.
pub fn die(number: u32) {
    world(|world| world.dead.push(number));
    let mut kernel = KERNEL.lock().unwrap();
    let sleepers: Vec<_> = kernel.sleepers.drain(..).map(|(_, sleeper)| sleeper).collect();
    kernel.over.extend(sleepers);
    kernel.ended.push(number);
    BELL.notify_all();
}

/// What can be slept on: a word, or the lower half of a longer one.
pub trait Word {
    fn low(&self) -> u32;
}

impl Word for AtomicU32 {
    fn low(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Word for AtomicU64 {
    fn low(&self) -> u32 {
        self.0.load(Ordering::SeqCst) as u32
    }
}

pub fn sleep(word: &impl Word, expected: u32, _timeout: Duration) -> Woken {
    let me = thread_number();
    let mut kernel = KERNEL.lock().unwrap();
    // SYNC: the kernel compares the word and adds the sleeper under one lock, which a wake takes too.
    if word.low() != expected {
        return Woken::Changed;
    }
    let deaths = world(|world| world.dead.len());
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
    point();
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

fn address(word: &impl Word) -> usize {
    std::ptr::from_ref(word) as usize
}

/// The state of a message's memory.
pub fn block(number: u64) -> &'static AtomicU64 {
    world(|world| &world.blocks[number as usize])
}

pub fn change_segments<T>(change: impl FnOnce(&mut Segments) -> T) -> T {
    point();
    segments(change)
}

pub fn segments<T>(look: impl FnOnce(&mut Segments) -> T) -> T {
    world(|world| look(&mut world.segments))
}

/// Zero-filled memory.
pub fn zeroed<T>() -> std::sync::Arc<T> {
    let mut memory = std::sync::Arc::<T>::new_uninit();
    let slot = std::sync::Arc::get_mut(&mut memory).expect("not shared yet");
    // SAFETY: the caller asks only for types for which zeros are valid; zeros are valid for these atomics.
    unsafe {
        slot.as_mut_ptr().write_bytes(0, 1);
        memory.assume_init()
    }
}
