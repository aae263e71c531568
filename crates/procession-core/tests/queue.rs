//! The queue from outside: order, bounds, growth, many processes, and what is left when some of them are killed.

use procession_core::arena::{census, Ref};
use procession_core::channel::{Incoming, Message, Outgoing, Parcel, Pipe, Queue};
use procession_core::{family, roll, Deadline, WaitError};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

fn body(bytes: &[u8]) -> Outgoing<'_> {
    Outgoing {
        body: bytes,
        ..Outgoing::default()
    }
}

fn put(queue: &Queue, number: u64) {
    queue.send(body(&number.to_le_bytes()), Deadline::Never).unwrap();
}

fn number(incoming: &Incoming) -> u64 {
    u64::from_le_bytes(incoming.body().try_into().unwrap())
}

fn get(queue: &Queue) -> u64 {
    number(&queue.get(Deadline::Never).unwrap())
}

fn timed_out<T>(result: &Result<T, WaitError>) -> bool {
    matches!(result, Err(WaitError::TimedOut))
}

/// Run `work` in a child of fork, which exits with 0 if it did not panic.
fn child(work: impl FnOnce()) -> i32 {
    family().unwrap().me();
    // SAFETY: the child runs only `work` and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        // SAFETY: always sound.
        unsafe { libc::_exit(i32::from(!fine)) };
    }
    pid
}

fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

fn kill(pid: i32) {
    // SAFETY: always sound; the pid is that of a child not waited for yet.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    wait(pid);
}

#[test]
fn messages_of_all_sizes_arrive_whole_and_in_order() {
    let queue = Queue::create(0).unwrap();
    let sizes = [0, 1, 7, 8, 103, 104, 105, 4096, 100_000, 3_000_000];
    for size in sizes {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 31 + size) as u8).collect();
        queue.send(body(&bytes), Deadline::Now).unwrap();
    }
    assert_eq!(queue.len().unwrap(), sizes.len() as u64);
    for size in sizes {
        let incoming = queue.get(Deadline::Now).unwrap();
        assert!(incoming
            .body()
            .iter()
            .enumerate()
            .all(|(at, &byte)| byte == (at * 31 + size) as u8));
        assert_eq!(incoming.body().len(), size);
    }
    assert!(timed_out(&queue.get(Deadline::Now)));
}

#[test]
fn buffers_become_blocks_of_the_receiver() {
    let queue = Queue::create(0).unwrap();
    let (large, small) = (vec![7; 200_000], [1, 2, 3]);
    let out = Outgoing {
        body: b"two buffers",
        buffers: &[&large, &small],
        handles: &[],
    };
    queue.send(out, Deadline::Now).unwrap();
    let mut incoming = queue.get(Deadline::Now).unwrap();
    let mut blocks = incoming.take_buffers();
    assert_eq!(incoming.body(), b"two buffers");
    drop(incoming);
    assert_eq!(blocks[0].as_slice(), large);
    assert_eq!(blocks[1].as_slice(), small);
    blocks[0].as_mut_slice().fill(9);
}

#[test]
fn a_queue_in_a_queue_outlives_the_sender_s_reference() {
    let outer = Queue::create(0).unwrap();
    let inner = Queue::create(0).unwrap();
    put(&inner, 42);
    let handle = inner.handle();
    let out = Outgoing {
        body: b"",
        buffers: &[],
        handles: &[handle],
    };
    outer.send(out, Deadline::Now).unwrap();
    drop(inner);
    let incoming = outer.get(Deadline::Now).unwrap();
    assert_eq!(incoming.handles(), [handle]);
    let inner = Ref::<Queue>::attach(incoming.handles()[0]).unwrap();
    drop(incoming);
    assert_eq!(get(&inner), 42);
    drop(inner);
    assert!(Ref::<Queue>::attach(handle).is_err());
}

#[test]
fn a_message_thrown_away_gives_its_references_back() {
    let outer = Queue::create(0).unwrap();
    let inner = Queue::create(0).unwrap();
    let handle = inner.handle();
    let out = Outgoing {
        body: b"",
        buffers: &[],
        handles: &[handle],
    };
    outer.send(out, Deadline::Now).unwrap();
    drop(Message::pack(out).unwrap());
    drop(inner);
    drop(outer);
    assert!(Ref::<Queue>::attach(handle).is_err());
}

#[test]
fn a_bounded_queue_is_full_and_has_room_again() {
    let queue = Queue::create(3).unwrap();
    for round in 0..100 {
        for at in 0..3 {
            put(&queue, round * 3 + at);
        }
        assert!(queue.is_full().unwrap());
        let mut fourth = Some(Message::pack(body(b"x")).unwrap());
        assert!(timed_out(&queue.put(&mut fourth, Deadline::Now)));
        assert!(timed_out(
            &queue.put(&mut fourth, Deadline::after(Duration::from_millis(1)))
        ));
        assert!(fourth.is_some());
        for at in 0..3 {
            assert_eq!(get(&queue), round * 3 + at);
        }
        assert!(queue.is_empty().unwrap());
    }
}

#[test]
fn a_waiting_put_goes_on_when_there_is_room() {
    let queue = Queue::create(1).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..5000).for_each(|at| put(&queue, at)));
        (0..5000).for_each(|at| assert_eq!(get(&queue), at));
    });
}

#[test]
fn task_done_and_join() {
    let queue = Queue::create(0).unwrap();
    assert!(!queue.task_done());
    queue.join(Deadline::Now).unwrap();
    put(&queue, 1);
    put(&queue, 2);
    assert!(timed_out(&queue.join(Deadline::after(Duration::from_millis(5)))));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                get(&queue);
                assert!(queue.task_done());
            }
        });
        queue.join(Deadline::Never).unwrap();
    });
    assert!(!queue.task_done());
}

#[test]
fn a_hundred_thousand_messages_wait_and_are_drained() {
    let queue = Queue::create(0).unwrap();
    for _ in 0..2 {
        (0..100_000).for_each(|at| put(&queue, at));
        assert_eq!(queue.len().unwrap(), 100_000);
        (0..100_000).for_each(|at| assert_eq!(get(&queue), at));
        assert!(queue.is_empty().unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn it_behaves_like_a_sequential_queue(maxsize in 0_u64..5, steps in prop::collection::vec(0_u8..5, 1..300)) {
        let queue = Queue::create(maxsize).unwrap();
        let mut model = VecDeque::new();
        for (at, step) in steps.into_iter().enumerate() {
            let room = maxsize == 0 || (model.len() as u64) < maxsize;
            if step <= 2 {
                let value = at as u64;
                let sent = queue.send(body(&value.to_le_bytes()), Deadline::Now);
                prop_assert_eq!(sent.is_ok(), room);
                if room {
                    model.push_back(value);
                }
            } else {
                let got = queue.get(Deadline::Now).ok().map(|incoming| number(&incoming));
                prop_assert_eq!(got, model.pop_front());
            }
            prop_assert_eq!(queue.len().unwrap(), model.len() as u64);
            prop_assert_eq!(queue.is_empty().unwrap(), model.is_empty());
            prop_assert_eq!(queue.is_full().unwrap(), maxsize != 0 && model.len() as u64 == maxsize);
        }
    }
}

/// Every value once, and those of one producer in order as seen by one consumer.
fn check(got: &[Vec<u64>], producers: u64, each: u64) {
    let mut all = HashSet::new();
    for sequence in got {
        let mut last = HashMap::new();
        for &value in sequence {
            assert!(all.insert(value), "{value} came twice");
            let (producer, at) = (value >> 32, value & 0xffff_ffff);
            let before = last.insert(producer, at);
            assert!(
                before.is_none_or(|before| before < at),
                "producer {producer}: {before:?} before {at}"
            );
        }
    }
    assert_eq!(all.len() as u64, producers * each);
}

#[test]
fn threads_many_to_many() {
    const EACH: u64 = 20_000;
    for maxsize in [0, 1, 10] {
        let queue = Queue::create(maxsize).unwrap();
        let got: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let queue = &queue;
            for producer in 0..3 {
                scope.spawn(move || (0..EACH).for_each(|at| put(queue, producer << 32 | at)));
            }
            let consumers: Vec<_> = (0..3)
                .map(|_| scope.spawn(move || (0..EACH).map(|_| get(queue)).collect()))
                .collect();
            consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect()
        });
        check(&got, 3, EACH);
    }
}

#[test]
fn processes_many_to_many() {
    const EACH: u64 = 10_000;
    let queue = Queue::create(0).unwrap();
    let results: Vec<Ref<Queue>> = (0..3).map(|_| Queue::create(0).unwrap()).collect();
    let mut children = Vec::new();
    for producer in 0..3 {
        let queue = &queue;
        children.push(child(move || {
            (0..EACH).for_each(|at| put(queue, producer << 32 | at));
        }));
    }
    for result in &results {
        children.push(child(|| (0..EACH).for_each(|_| put(result, get(&queue)))));
    }
    for pid in children {
        assert_eq!(wait(pid), 0);
    }
    let got: Vec<Vec<u64>> = results
        .iter()
        .map(|result| (0..EACH).map(|_| get(result)).collect())
        .collect();
    check(&got, 3, EACH);
    assert!(queue.is_empty().unwrap());
}

#[test]
fn what_a_child_put_outlives_it() {
    let queue = Queue::create(0).unwrap();
    let big = vec![5; 20_000_000];
    let pid = child(|| queue.send(body(&big), Deadline::Now).unwrap());
    assert_eq!(wait(pid), 0);
    assert!(!queue.is_empty().unwrap());
    assert_eq!(queue.get(Deadline::Now).unwrap().body(), big);
}

#[test]
fn a_parcel_is_had_once() {
    let parcel = Parcel::pack(body(b"what to do")).unwrap();
    let token = parcel.token();
    let pid = child(|| assert_eq!(Parcel::take(token).unwrap().body(), b"what to do"));
    assert_eq!(wait(pid), 0);
    assert!(Parcel::take(token).is_err());
    drop(parcel);

    let parcel = Parcel::pack(body(&[1; 10_000])).unwrap();
    let token = parcel.token();
    drop(parcel);
    assert!(Parcel::take(token).is_err());
}

#[test]
fn a_parcel_goes_with_its_packer_until_somebody_knows_of_it() {
    let what = Queue::create(0).unwrap();
    let token = Queue::create(0).unwrap();
    let out = Outgoing {
        body: &[1; 1000],
        buffers: &[&[2; 10_000]],
        handles: &[what.handle()],
    };
    let packed = |tell: bool| {
        let pid = child(|| {
            let parcel = std::mem::ManuallyDrop::new(Parcel::pack(out).unwrap());
            if tell {
                put(&token, parcel.token());
            }
        });
        assert_eq!(wait(pid), 0);
        roll::sweep();
    };
    // The queue's segment, and the slabs, exist from now on.
    put(&token, 0);
    assert_eq!(get(&token), 0);
    let before = census().unwrap();
    packed(false);
    assert_eq!(census().unwrap(), before);
    packed(true);
    let incoming = Parcel::take(get(&token)).unwrap();
    assert_eq!(incoming.body(), [1; 1000]);
    drop(incoming);
    assert_eq!(census().unwrap(), before);
}

#[test]
fn pipes_carry_frames_until_the_end_of_file() {
    let (a, b) = Pipe::pair().unwrap();
    assert!(!b.poll(Deadline::Now).unwrap());
    let large = vec![3; 1_000_000];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for frame in [&b""[..], b"short", &large] {
                a.send(frame).unwrap();
            }
        });
        assert_eq!(b.recv().unwrap().unwrap(), b"");
        assert!(b.poll(Deadline::Never).unwrap());
        assert_eq!(b.recv().unwrap().unwrap(), b"short");
        assert_eq!(b.recv().unwrap().unwrap(), large);
    });
    b.send(b"and back").unwrap();
    assert_eq!(a.recv().unwrap().unwrap(), b"and back");
    drop(a);
    assert!(b.poll(Deadline::Now).unwrap());
    assert_eq!(b.recv().unwrap(), None);
    assert!(b.send(b"nobody there").is_err());
}

/// Memory that the processes of a storm write to directly, so that a killed one's last word is known.
struct Board {
    /// Messages whose `put` had returned, by producer.
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

/// Small, large and out-of-band messages take turns; every byte depends on who and which.
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
        // Not synchronisation: it only varies where the blow falls.
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
    // The survivor can use it as ever.
    put(&queue, 1);
    assert_eq!(get(&queue), 1);

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
        // The one put of which we do not know whether it was done.
        assert!(got[(put + 1).min(MOST)..].iter().all(|times| times.load(SeqCst) == 0));
    }
    assert!(put_in_all > 100, "only {put_in_all} messages were put");
    assert!(
        lost <= dead_consumers,
        "{lost} messages lost, {dead_consumers} consumers killed"
    );
}

/// How many storms: each kills 79 processes. `make storm` asks for more than one.
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
