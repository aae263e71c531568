//! The workloads with procession.

use crate::{micros, now, rate, work, Message, Span, ITEMS, JOBS, LARGE, LARGE_ONES, MESSAGES, STARTS, TRIPS};
use procession::{bounded, channel, spawn, Pool, Queue, Receiver, Sender};
use std::time::Instant;

fn send((to, count): (Sender<Message>, u64)) {
    for number in 0..count {
        to.send(&Message::new(number)).unwrap();
    }
}

fn receive(from: Receiver<Message>) -> Span {
    let (mut first, mut count) = (0, 0);
    for message in &from {
        std::hint::black_box(message.unwrap());
        if count == 0 {
            first = now();
        }
        count += 1;
    }
    (first, now(), count)
}

pub fn one_to_one() -> f64 {
    let (to, from) = channel().unwrap();
    let child = spawn(send, (to, MESSAGES)).unwrap();
    let span = receive(from);
    child.join().unwrap();
    rate(&[span]) / 1e6
}

fn put_many((queue, count): (Queue<Message>, u64)) {
    let messages: Vec<_> = (0..100).map(Message::new).collect();
    for _ in 0..count / 100 {
        queue.put_many(&messages).unwrap();
    }
}

pub fn many_to_one() -> f64 {
    let queue = Queue::new().unwrap();
    let child = spawn(put_many, (queue.clone(), MESSAGES)).unwrap();
    let (mut first, mut count) = (0, 0);
    while count < MESSAGES {
        count += queue.get_many(100).unwrap().len() as u64;
        if first == 0 {
            first = now();
        }
    }
    let span = (first, now(), count);
    child.join().unwrap();
    rate(&[span]) / 1e6
}

pub fn four_to_four() -> f64 {
    let (to, from) = channel().unwrap();
    let receivers = [(); 4].map(|()| spawn(receive, from.clone()).unwrap());
    let senders = [(); 4].map(|()| spawn(send, (to.clone(), MESSAGES / 4)).unwrap());
    drop((to, from));
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    rate(&receivers.map(|receiver| receiver.join().unwrap())) / 1e6
}

fn echo((from, to): (Receiver<Message>, Sender<Message>)) {
    for message in &from {
        to.send(&message.unwrap()).unwrap();
    }
}

pub fn round_trip() -> f64 {
    let (to, theirs) = channel().unwrap();
    let (back, from) = channel().unwrap();
    let child = spawn(echo, (theirs, back)).unwrap();
    let trip = || {
        to.send(&Message::new(1)).unwrap();
        from.recv().unwrap()
    };
    trip();
    let begin = Instant::now();
    for _ in 0..TRIPS {
        trip();
    }
    let time = begin.elapsed();
    drop(to);
    child.join().unwrap();
    micros(time, TRIPS)
}

fn send_large(to: Sender<Vec<u8>>) {
    let bytes = vec![1; LARGE];
    for _ in 0..=LARGE_ONES {
        to.send(&bytes).unwrap();
    }
}

pub fn large() -> f64 {
    let (to, from) = bounded(1).unwrap();
    let child = spawn(send_large, to).unwrap();
    from.recv().unwrap();
    let begin = Instant::now();
    for bytes in from.iter() {
        assert_eq!(bytes.unwrap().len(), LARGE);
    }
    let time = begin.elapsed();
    child.join().unwrap();
    micros(time, LARGE_ONES) / 1e3
}

pub fn start() -> f64 {
    spawn(|n: u64| n, 1).unwrap().join().unwrap();
    let begin = Instant::now();
    for n in 0..STARTS {
        spawn(|n: u32| n, n).unwrap().join().unwrap();
    }
    micros(begin.elapsed(), STARTS)
}

pub fn job() -> f64 {
    let pool = Pool::new(1).unwrap();
    pool.apply(|n: u32| n, 0).unwrap();
    let begin = Instant::now();
    for n in 0..JOBS {
        pool.apply(|n: u32| n, n).unwrap();
    }
    micros(begin.elapsed(), JOBS)
}

pub fn map() -> f64 {
    let pool = Pool::new(procession::cpu_count()).unwrap();
    pool.map(work, 0..10).unwrap();
    let begin = Instant::now();
    pool.map(work, 0..ITEMS).unwrap();
    micros(begin.elapsed(), ITEMS as u32)
}
