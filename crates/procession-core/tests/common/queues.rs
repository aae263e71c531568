//! Messages that are numbers, put and got.

use procession_core::channel::{Incoming, Message, Outgoing, Queue};
use procession_core::{Deadline, WaitError};
use std::collections::VecDeque;

pub fn body(bytes: &[u8]) -> Outgoing<'_> {
    Outgoing {
        body: bytes,
        ..Outgoing::default()
    }
}

pub fn put(queue: &Queue, number: u64) {
    queue.send(body(&number.to_le_bytes()), Deadline::Never).unwrap();
}

pub fn number(incoming: &Incoming) -> u64 {
    u64::from_le_bytes(incoming.body().try_into().unwrap())
}

pub fn get(queue: &Queue) -> u64 {
    number(&queue.get(Deadline::Never).unwrap())
}

pub fn packed(numbers: impl IntoIterator<Item = u64>) -> VecDeque<Message> {
    let pack = |number: u64| Message::pack(body(&number.to_le_bytes())).unwrap();
    numbers.into_iter().map(pack).collect()
}

pub fn put_many(queue: &Queue, numbers: impl IntoIterator<Item = u64>) {
    queue.put_many(&mut packed(numbers), Deadline::Never).unwrap();
}

/// Take up to `most` messages that are there, after a wait for the first.
pub fn get_many(queue: &Queue, most: usize) -> Vec<u64> {
    let mut got = Vec::new();
    let mut deadline = Deadline::Never;
    while got.len() < most && queue.get_many(most - got.len(), deadline, &mut got).is_ok() {
        deadline = Deadline::Now;
    }
    got.iter().map(number).collect()
}

pub fn timed_out<T>(result: &Result<T, WaitError>) -> bool {
    matches!(result, Err(WaitError::TimedOut))
}
