//! A queue under a storm: some of its producers and consumers are killed all the time.

mod common;

use common::{child, kill};
use procession_core::channel::{Incoming, Outgoing, Queue};
use procession_core::Deadline;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Memory that the processes of a storm write to directly, so that the last act of a killed one is known.
struct Board {
    /// The number of calls of `put` that had returned, by producer.
    put: [AtomicU64; PRODUCERS],
    /// How often each message was got.
    got: [[AtomicU32; MOST]; PRODUCERS],
    torn: AtomicU32,
}

const PRODUCERS: usize = 40;
const MOST: usize = 20_000;

fn board() -> &'static Board {
    // SAFETY: a fresh shared anonymous mapping of that size, never unmapped; zero is valid for atomics.
    unsafe {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let map = libc::mmap(std::ptr::null_mut(), size_of::<Board>(), prot, flags, -1, 0);
        assert_ne!(map, libc::MAP_FAILED);
        &*map.cast()
    }
}

/// Small, large and out-of-band messages take turns; every byte depends on the producer and the message's number.
fn produce(queue: &Queue, board: &Board, producer: usize) {
    for at in 0..MOST {
        let mut bytes = [producer as u64, at as u64].map(u64::to_le_bytes).concat();
        let fill = (producer * 7 + at) as u8;
        bytes.resize(if at % 5 == 0 { 600 } else { 40 }, fill);
        let buffer = vec![fill; 20_000];
        let buffers: &[&[u8]] = if at % 7 == 0 { &[&buffer, &bytes] } else { &[] };
        let out = Outgoing {
            body: &bytes,
            buffers,
            handles: &[],
            ..Outgoing::default()
        };
        queue.send(out, Deadline::Never).unwrap();
        board.put[producer].store(at as u64 + 1, SeqCst);
    }
}

fn consume(board: &Board, mut incoming: Incoming) {
    let word = |at: usize| u64::from_le_bytes(incoming.body()[at..at + 8].try_into().unwrap()) as usize;
    let (producer, at) = (word(0), word(8));
    let fill = (producer * 7 + at) as u8;
    let whole = incoming.body()[16..].iter().all(|&byte| byte == fill);
    let blocks = incoming.take_buffers();
    let buffers = blocks.len() == if at % 7 == 0 { 2 } else { 0 };
    let filled = blocks
        .first()
        .is_none_or(|block| block.as_slice().iter().all(|&byte| byte == fill));
    if !(whole && buffers && filled) {
        board.torn.fetch_add(1, SeqCst);
    }
    board.got[producer][at].fetch_add(1, SeqCst);
}

/// Kill producers and consumers at random while others go on.
fn storm(maxsize: u64, seed: u64) {
    let queue = Queue::create(maxsize).unwrap();
    let board = board();
    let mut random = seed;
    let mut next = move |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let consumer = || {
        child(|| loop {
            consume(board, queue.get(Deadline::Never).unwrap());
        })
    };
    let mut begun = 0..PRODUCERS;
    let mut producer = || {
        let number = begun.next().unwrap();
        child(|| produce(&queue, board, number))
    };
    let mut producers = [producer(), producer(), producer()];
    let mut consumers = [consumer(), consumer()];
    let mut dead_consumers = 0;
    for _ in 0..PRODUCERS - 3 {
        // Not synchronisation: it only varies the point of the kill.
        std::thread::sleep(Duration::from_micros(500 + next(3000)));
        let victim = &mut producers[next(3) as usize];
        kill(*victim);
        *victim = producer();
        let victim = &mut consumers[next(2) as usize];
        kill(*victim);
        *victim = consumer();
        dead_consumers += 1;
    }
    for pid in producers.into_iter().chain(consumers) {
        kill(pid);
    }
    dead_consumers += 2;
    while let Ok(incoming) = queue.get(Deadline::Now) {
        consume(board, incoming);
    }
    assert!(queue.is_empty().unwrap());
    assert_eq!(queue.len().unwrap(), 0);
    // The survivor can still use it.
    let once_more = Outgoing {
        body: &[1],
        ..Outgoing::default()
    };
    queue.send(once_more, Deadline::Now).unwrap();
    assert_eq!(queue.get(Deadline::Now).unwrap().body(), [1]);

    assert_eq!(board.torn.load(SeqCst), 0);
    let mut lost = 0;
    let mut put_in_all = 0;
    for (put, got) in board.put.iter().zip(&board.got) {
        let put = put.load(SeqCst) as usize;
        put_in_all += put;
        assert!(
            got.iter().all(|times| times.load(SeqCst) <= 1),
            "a message was got twice"
        );
        lost += got[..put].iter().filter(|times| times.load(SeqCst) == 0).count();
        // Of one put it is not known whether it took effect.
        assert!(got[(put + 1).min(MOST)..].iter().all(|times| times.load(SeqCst) == 0));
    }
    assert!(put_in_all > 100, "only {put_in_all} messages were put");
    assert!(
        lost <= dead_consumers,
        "{lost} messages lost, {dead_consumers} consumers killed"
    );
}

/// The seeds of the storms; each storm kills 79 processes. `make storm` asks for more than one.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let asked = std::env::var("PROCESSION_STORMS").ok();
    1..=asked.and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn a_storm_of_kills_on_an_unbounded_queue() {
    seeds().for_each(|seed| storm(0, seed));
}

#[test]
fn a_storm_of_kills_on_a_bounded_queue() {
    seeds().for_each(|seed| storm(4, seed + 1));
}
