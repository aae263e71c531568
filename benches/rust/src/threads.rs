//! The workloads with threads, which copy nothing and share everything.

use crate::{micros, now, rate, work, Message, Span, ITEMS, JOBS, LARGE, LARGE_ONES, MESSAGES, STARTS, TRIPS};
use crossbeam_channel::{bounded, unbounded, Receiver, Sender};
use rayon::prelude::*;
use std::thread;
use std::time::Instant;

fn send(to: Sender<Message>, count: u64) {
    for number in 0..count {
        to.send(Message::new(number)).unwrap();
    }
}

fn receive(from: Receiver<Message>) -> Span {
    let (mut first, mut count) = (0, 0);
    for message in from {
        std::hint::black_box(message);
        if count == 0 {
            first = now();
        }
        count += 1;
    }
    (first, now(), count)
}

pub fn one_to_one() -> f64 {
    let (to, from) = unbounded();
    let thread = thread::spawn(move || send(to, MESSAGES));
    let span = receive(from);
    thread.join().unwrap();
    rate(&[span]) / 1e6
}

pub fn four_to_four() -> f64 {
    let (to, from) = unbounded();
    let receivers = [(); 4].map(|()| {
        let from = from.clone();
        thread::spawn(|| receive(from))
    });
    for _ in 0..4 {
        let to = to.clone();
        thread::spawn(|| send(to, MESSAGES / 4));
    }
    drop(to);
    rate(&receivers.map(|receiver| receiver.join().unwrap())) / 1e6
}

pub fn round_trip() -> f64 {
    let (to, theirs) = unbounded();
    let (back, from) = unbounded();
    let thread = thread::spawn(move || theirs.iter().for_each(|message: Message| back.send(message).unwrap()));
    let begin = Instant::now();
    for _ in 0..TRIPS {
        to.send(Message::new(1)).unwrap();
        from.recv().unwrap();
    }
    let time = begin.elapsed();
    drop(to);
    thread.join().unwrap();
    micros(time, TRIPS)
}

pub fn large() -> f64 {
    let (to, from) = bounded(1);
    let thread = thread::spawn(move || {
        let bytes = vec![1_u8; LARGE];
        for _ in 0..=LARGE_ONES {
            to.send(bytes.clone()).unwrap();
        }
    });
    from.recv().unwrap();
    let begin = Instant::now();
    for bytes in from {
        assert_eq!(bytes.len(), LARGE);
    }
    let time = begin.elapsed();
    thread.join().unwrap();
    micros(time, LARGE_ONES) / 1e3
}

pub fn start() -> f64 {
    let begin = Instant::now();
    for n in 0..STARTS {
        thread::spawn(move || n).join().unwrap();
    }
    micros(begin.elapsed(), STARTS)
}

pub fn job() -> f64 {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let begin = Instant::now();
    for n in 0..JOBS {
        std::hint::black_box(pool.install(|| n));
    }
    micros(begin.elapsed(), JOBS)
}

pub fn map() -> f64 {
    let begin = Instant::now();
    let results: Vec<u64> = (0..ITEMS).into_par_iter().map(work).collect();
    std::hint::black_box(results);
    micros(begin.elapsed(), ITEMS as u32)
}
