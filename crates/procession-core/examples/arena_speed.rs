//! What the arena costs: nanoseconds for each operation (medians), and memory for many small objects.
//!
//! `cargo run --release -p procession-core --example arena_speed`

use procession_core::arena::{Block, Object, Ref};
use procession_core::channel::{Outgoing, Queue};
use procession_core::ids::{Handle, Kind};
use procession_core::Deadline;
use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// As large as a lock.
#[repr(C, align(64))]
struct Small {
    words: [AtomicU64; 8],
}

// SAFETY: atomics; any value is valid.
unsafe impl Object for Small {
    const KIND: Kind = Kind::Event;
    const NAME: &'static str = "small object";
}

fn median(name: &str, repeat: u32, mut work: impl FnMut()) {
    let mut times: Vec<f64> = (0..31)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..repeat {
                work();
            }
            start.elapsed().as_nanos() as f64 / f64::from(repeat)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name:<44} {:>12.0} ns", times[times.len() / 2]);
}

/// Bytes of shared memory in this process.
fn shared() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("RssShmem:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn main() {
    for len in [64, 1000, 20_000] {
        median(&format!("block of {len}: alloc, free"), 10_000, || {
            drop(black_box(Block::alloc(len).unwrap()));
        });
    }
    median("block of 64: alloc, send, take, free", 10_000, || {
        let token = Block::alloc(64).unwrap().send();
        drop(black_box(Block::take(token, 64).unwrap()));
    });
    for megabytes in [1, 64] {
        median(&format!("block of {megabytes} MB, warm: alloc, free"), 1000, || {
            drop(black_box(Block::alloc(megabytes << 20).unwrap()));
        });
    }
    let (queue, small) = (Queue::create(0).unwrap(), Ref::<Small>::create().unwrap());
    let pass = |body: &[u8], handles: &[Handle]| {
        let buffers = &[];
        queue
            .send(
                Outgoing {
                    body,
                    buffers,
                    handles,
                    ..Outgoing::default()
                },
                Deadline::Now,
            )
            .unwrap();
        drop(black_box(queue.get(Deadline::Now).unwrap()));
    };
    median("message of 8 bytes: put, get", 1000, || pass(&[0; 8], &[]));
    median("message of 200 bytes: put, get", 1000, || pass(&[0; 200], &[]));
    median("message with a handle: put, get", 1000, || {
        pass(&[0; 8], &[small.handle()]);
    });
    median("reference: create, drop", 10_000, || {
        drop(black_box(Ref::<Small>::create().unwrap()));
    });
    let object = Ref::<Small>::create().unwrap();
    median("reference: clone, drop", 10_000, || drop(black_box(object.clone())));
    median("reference: attach to what is held, drop", 10_000, || {
        drop(black_box(Ref::<Small>::attach(object.handle()).unwrap()));
    });

    // The same while another process allocates, too.
    // SAFETY: this program has one thread; the child leaves by `_exit`, or is killed.
    let other = unsafe { libc::fork() };
    if other == 0 {
        loop {
            drop(black_box(Block::alloc(64).unwrap()));
        }
    }
    median("block of 64, two processes: alloc, free", 100_000, || {
        drop(black_box(Block::alloc(64).unwrap()));
    });
    // SAFETY: our own child, not yet reaped.
    unsafe {
        libc::kill(other, libc::SIGKILL);
        libc::waitpid(other, std::ptr::null_mut(), 0);
    }

    let before = shared();
    let start = Instant::now();
    let many: Vec<_> = (0..10_000).map(|_| Ref::<Small>::create().unwrap()).collect();
    let each = start.elapsed().as_nanos() / 10_000;
    for object in &many {
        black_box(object.words[0].load(std::sync::atomic::Ordering::Relaxed));
    }
    println!(
        "10,000 objects of 64 bytes: {each} ns each to make, {} KB more of shared memory",
        (shared() - before) / 1024
    );
}
