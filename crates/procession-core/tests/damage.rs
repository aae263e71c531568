//! A damaged arena: words of it are overwritten at random, and whoever goes on using it gets errors or wrong answers, but never a crash, never a
//! panic, and never waits for ever.
//!
//! Each round is a process of its own with an arena of its own. A failure names its seed: `PROCESSION_DAMAGE=seed` runs that round alone.

use procession_core::arena::{Block, Handle, Token};
use procession_core::channel::{Incoming, Outgoing, Queue};
use procession_core::sync::{Barrier, Condition, Event, Lock, RLock, Semaphore};
use procession_core::{family, roll, Deadline, WaitError};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Rounds of a test run; `PROCESSION_ROUNDS` says otherwise.
const ROUNDS: u64 = 200;
/// A round takes milliseconds; whoever is not done by then hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// `SplitMix64` (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// The parts of the arena that hold data, mapped a second time.
struct Extents(Vec<&'static mut [u64]>);

impl Extents {
    fn of_arena() -> Self {
        let fd = family().unwrap().arena_fd().unwrap().as_raw_fd();
        let mut parts = Vec::new();
        let mut at = 0;
        loop {
            // SAFETY: plain system calls on a descriptor that stays open; an error (no more data) is -1.
            let (start, end) = unsafe {
                let start = libc::lseek(fd, at, libc::SEEK_DATA);
                (start, libc::lseek(fd, start.max(0), libc::SEEK_HOLE))
            };
            if start < 0 {
                return Self(parts);
            }
            let length = (end - start) as usize;
            // SAFETY: a new mapping of that part of the file; it is never unmapped. Others change it too: what is read here is only written back.
            unsafe {
                let flags = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
                let base = libc::mmap(std::ptr::null_mut(), length, flags.0, flags.1, fd, start);
                assert!(base != libc::MAP_FAILED);
                parts.push(std::slice::from_raw_parts_mut(base.cast(), length / 8));
            }
            at = end;
        }
    }

    fn pick(&mut self, random: &mut Random) -> &mut u64 {
        let part = random.below(self.0.len() as u64) as usize;
        let part = &mut self.0[part];
        // Half of all damage near the beginning, where there is more that is in use.
        let reach = if random.below(2) == 0 { 512 } else { part.len() as u64 };
        let at = random.below(reach.min(part.len() as u64)) as usize;
        &mut part[at]
    }

    fn damage(&mut self, random: &mut Random) {
        let other = *self.pick(random);
        let word = self.pick(random);
        *word = match random.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => random.next(),
            3 => random.below(100),
            4 => other,
            5 => word.wrapping_add(1),
            6 => *word & 0xffff_ffff | random.next() << 32,
            _ => *word ^ 1 << random.below(64),
        };
    }
}

/// Everything that is used while it breaks.
struct House {
    queues: Vec<procession_core::arena::Ref<Queue>>,
    lock: Lock,
    rlock: RLock,
    semaphore: Semaphore,
    condition: Condition,
    event: Event,
    barrier: Barrier,
    blocks: Vec<Block>,
    tokens: Vec<(Token, usize)>,
    handles: Vec<Handle>,
    taken: Vec<Incoming>,
}

impl House {
    fn build() -> Self {
        let lock = Lock::create().unwrap();
        let event = Event::create().unwrap();
        let mut house = Self {
            queues: vec![Queue::create(0).unwrap(), Queue::create(3).unwrap()],
            handles: vec![lock.handle(), event.handle()],
            lock,
            event,
            rlock: RLock::create().unwrap(),
            semaphore: Semaphore::create(3, 5).unwrap(),
            condition: Condition::create().unwrap(),
            barrier: Barrier::create(2).unwrap(),
            blocks: Vec::new(),
            tokens: Vec::new(),
            taken: Vec::new(),
        };
        let mut random = Random(1);
        for _ in 0..60 {
            let _ = house.use_once(&mut random);
        }
        house
    }

    /// Do something; what comes of it does not matter.
    fn use_once(&mut self, random: &mut Random) -> Result<(), WaitError> {
        let soon = Deadline::after(Duration::from_millis(1));
        let size = match random.below(4) {
            0 => random.below(100),
            1 => random.below(5_000),
            2 => random.below(70_000),
            _ => random.below(300_000),
        } as usize;
        let which = random.below(2) as usize;
        match random.below(24) {
            0..=3 => {
                let bytes = vec![7; size];
                let buffers: &[&[u8]] = if random.below(2) == 0 { &[] } else { &[&bytes] };
                let out = Outgoing {
                    body: &bytes[..size.min(3_000)],
                    buffers,
                    handles: &self.handles[..random.below(3) as usize],
                };
                self.queues[which].send(out, Deadline::Now)?;
            }
            4..=6 => self.taken.push(self.queues[which].get(soon)?),
            7 => drop(self.taken.drain(..)),
            8 => drop((
                self.queues[which].len()?,
                self.queues[which].is_full()?,
                self.queues[which].task_done(),
            )),
            9 => self.blocks.push(Block::alloc(size)?),
            10 => drop(self.blocks.pop()),
            11 => self.tokens.extend(self.blocks.pop().map(|block| {
                let length = block.len();
                (block.send(), length)
            })),
            12 => {
                if let Some((token, length)) = self.tokens.pop() {
                    self.blocks.push(Block::take(token, length)?);
                }
            }
            13 => self.lock.acquire(soon)?,
            14 => drop(self.lock.release()),
            15 => self.rlock.acquire(soon)?,
            16 => drop(self.rlock.release()),
            17 => self.semaphore.acquire(soon)?,
            18 => drop((self.semaphore.release(), self.event.set())),
            19 => {
                let mut waiter = self.condition.enqueue()?;
                self.condition.notify(random.below(3) as u32);
                waiter.wait(soon)?;
            }
            20 => {
                if let Ok(procession_core::sync::Arrival::Waits(mut participant)) = self.barrier.arrive() {
                    let _ = participant.wait(soon);
                }
                let _ = self.barrier.reset();
            }
            21 => drop(Lock::attach(self.handles[which])?),
            22 => {
                self.event.clear();
                self.event.wait(self.event.begin(), soon)?;
            }
            _ => drop((roll::members(), roll::sweep())),
        }
        Ok(())
    }
}

/// One process's life with a breaking arena.
fn round(seed: u64) {
    let mut random = Random(seed);
    let mut house = House::build();
    let mut extents = Extents::of_arena();
    for _ in 0..40 {
        for _ in 0..random.below(4) {
            extents.damage(&mut random);
        }
        let _ = house.use_once(&mut random);
    }
}

/// How the round's process ended, if not well.
fn run(seed: u64) -> Option<String> {
    // SAFETY: this process has one thread, and the child leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let code = std::panic::catch_unwind(|| round(seed)).map_or(1, |()| 0);
        // SAFETY: always sound. What the arena's owner would do at the end is not what is asked here.
        unsafe { libc::_exit(code) };
    }
    let end = Instant::now() + LIMIT;
    let mut status = 0;
    loop {
        // SAFETY: a child of ours that was not waited for yet.
        match unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } {
            0 if Instant::now() > end => {
                // SAFETY: as above.
                unsafe {
                    libc::kill(pid, libc::SIGKILL);
                    libc::waitpid(pid, &raw mut status, 0);
                }
                return Some("hung".into());
            }
            0 => std::thread::sleep(Duration::from_millis(1)),
            _ if status == 0 => return None,
            _ if libc::WIFSIGNALED(status) => return Some(format!("died of signal {}", libc::WTERMSIG(status))),
            _ => return Some("panicked".into()),
        }
    }
}

#[test]
fn a_damaged_arena_harms_nobody() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    if let Some(seed) = number("PROCESSION_DAMAGE") {
        return round(seed);
    }
    let failures: Vec<_> = (0..number("PROCESSION_ROUNDS").unwrap_or(ROUNDS))
        .filter_map(|seed| run(seed).map(|how| format!("seed {seed} {how}")))
        .collect();
    assert!(failures.is_empty(), "{} rounds failed: {failures:#?}", failures.len());
}
