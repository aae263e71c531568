//! How a pipe hands messages over, compiled from the engine's own file, under every order of its atomic operations that
//! the memory model allows. The descriptor is a list under a lock.
//!
//! No message is lost or got twice, and the messages of one sender arrive in the order sent.

#![allow(dead_code, missing_docs, unused_imports)] // a model uses only part of each file

#[macro_use]
#[path = "model/derived.rs"]
mod derived;
#[path = "model/loom_futex.rs"]
mod futex;
#[path = "../src/channel/handover.rs"]
mod handover;
#[path = "model/loom_words.rs"]
mod words;

mod sync {
    pub mod primitive {
        pub use crate::futex::{fence, AtomicU64, Ordering};
    }
}

mod ids {
    pub use procession_core::ids::{Handle, Kind, Owner};
}
pub use procession_core::{Error, Result};

use futex::{AtomicU64, Ordering};
use handover::Handover;
use ids::Owner;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::collections::VecDeque;
use std::sync::Arc;
use words::check;

/// Of each sender one slot is enough: a slot is filled again only after its message was taken.
const SLOTS: usize = 3;

/// One direction of a pipe.
struct Pipe {
    shared: Arc<(Handover, [AtomicU64; SLOTS])>,
    descriptor: Mutex<VecDeque<u64>>,
    readable: Condvar,
}

fn process(number: u32) -> Owner {
    Owner::from_bits(1 << 15 | number).expect("a generation")
}

impl Pipe {
    fn new() -> loom::sync::Arc<Self> {
        loom::sync::Arc::new(Self {
            shared: words::zeroed(),
            descriptor: Mutex::new(VecDeque::new()),
            readable: Condvar::new(),
        })
    }

    fn handover(&self) -> &Handover {
        &self.shared.0
    }

    fn write(&self, message: u64) {
        self.descriptor.lock().unwrap().push_back(message);
        self.readable.notify_all();
    }

    /// Send a message as `Lane`'s users do.
    fn send(&self, slot: usize, message: u64) {
        let place = &self.shared.1[slot];
        if self.handover().state().is_open() && place.load(Ordering::Relaxed) == 0 {
            place.store(message, Ordering::Relaxed);
            if self.handover().hand(slot as u32) {
                return;
            }
            place.store(0, Ordering::Relaxed);
        }
        self.handover().announce();
        self.write(message);
    }

    /// Take a message that was handed over.
    fn take(&self, slot: u32, me: Owner) -> u64 {
        let message = self.shared.1[slot as usize].swap(0, Ordering::Relaxed);
        assert_ne!(message, 0, "the slot's content was not there");
        self.handover().taken(me);
        message
    }

    /// Receive a message as `Lane`'s users do. The spin is one look.
    fn receive(&self, me: Owner) -> u64 {
        if self.handover().begin(me) {
            if self.handover().goes_on(me) {
                thread::yield_now();
            }
            if let Some(slot) = self.handover().withdraw(me) {
                return self.take(slot, me);
            }
        }
        let mut waiting = self.descriptor.lock().unwrap();
        let message = loop {
            match waiting.pop_front() {
                Some(message) => break message,
                None => waiting = self.readable.wait(waiting).unwrap(),
            }
        };
        drop(waiting);
        self.handover().settle();
        message
    }
}

/// Check that messages 11, 12, ... of sender 1, and so on, arrived in order, all of them.
fn in_order(got: &[u64], sent: &[u64]) {
    let mut sorted = got.to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, sent, "lost, or got twice");
    for sender in 1..=2 {
        let own: Vec<_> = got.iter().filter(|&&message| message / 10 == sender).collect();
        assert!(own.is_sorted(), "{got:?}");
    }
}

#[test]
fn a_receiver_gets_all_in_order() {
    check(3, || {
        let pipe = Pipe::new();
        let sender = {
            let pipe = pipe.clone();
            thread::spawn(move || {
                pipe.send(0, 11);
                pipe.send(0, 12);
            })
        };
        let got = [pipe.receive(process(9)), pipe.receive(process(9))];
        sender.join().unwrap();
        in_order(&got, &[11, 12]);
        assert_eq!(pipe.handover().state().pending(), 0);
    });
}

#[test]
fn two_senders_keep_their_orders() {
    check(1, || {
        let pipe = Pipe::new();
        let senders = [(0, 11..13), (1, 21..22)].map(|(slot, messages)| {
            let pipe = pipe.clone();
            thread::spawn(move || messages.for_each(|message| pipe.send(slot, message)))
        });
        let got: Vec<_> = (0..3).map(|_| pipe.receive(process(9))).collect();
        for sender in senders {
            sender.join().unwrap();
        }
        in_order(&got, &[11, 12, 21]);
    });
}

#[test]
fn a_pipe_becomes_plain_in_the_middle() {
    check(2, || {
        let pipe = Pipe::new();
        let sender = {
            let pipe = pipe.clone();
            thread::spawn(move || (11..13).for_each(|message| pipe.send(0, message)))
        };
        let asker = {
            let pipe = pipe.clone();
            thread::spawn(move || pipe.handover().go_plain())
        };
        let got = [pipe.receive(process(9)), pipe.receive(process(9))];
        asker.join().unwrap();
        sender.join().unwrap();
        in_order(&got, &[11, 12]);
        // Nothing is handed over any more: what is sent now, any program finds in the descriptor.
        assert!(!pipe.handover().begin(process(9)));
        pipe.send(0, 13);
        assert_eq!(*pipe.descriptor.lock().unwrap(), [13]);
    });
}

#[test]
fn two_receivers_get_each_message_once() {
    check(2, || {
        let pipe = Pipe::new();
        let sender = {
            let pipe = pipe.clone();
            thread::spawn(move || {
                pipe.send(0, 11);
                pipe.send(1, 12);
            })
        };
        let other = {
            let pipe = pipe.clone();
            thread::spawn(move || pipe.receive(process(8)))
        };
        let mine = pipe.receive(process(9));
        sender.join().unwrap();
        let mut got = [mine, other.join().unwrap()];
        got.sort_unstable();
        assert_eq!(got, [11, 12]);
        assert_eq!(pipe.handover().state().pending(), 0);
    });
}

#[test]
fn a_dead_receiver_has_one_successor() {
    check(3, || {
        let pipe = Pipe::new();
        let dead = process(7);
        assert!(pipe.handover().begin(dead));
        let sender = {
            let pipe = pipe.clone();
            thread::spawn(move || {
                pipe.send(0, 11);
                pipe.send(1, 12);
            })
        };
        let successor = move |me: Owner, pipe: &Pipe| pipe.handover().succeed(dead, me).map(|slot| pipe.take(slot, me));
        let other = {
            let pipe = pipe.clone();
            thread::spawn(move || successor(process(8), &pipe))
        };
        let mut got = Vec::from_iter(successor(process(9), &pipe));
        got.extend(other.join().unwrap());
        sender.join().unwrap();
        got.extend(successor(process(9), &pipe));
        got.extend(pipe.descriptor.lock().unwrap().drain(..));
        in_order(&got, &[11, 12]);
    });
}
