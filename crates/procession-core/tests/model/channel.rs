//! The engine's queue, from its own files. A message is a number and the state of its memory.

use crate::futex::{self, AtomicU64};
use crate::sync::primitive::Ordering::{Relaxed, SeqCst};
use crate::{Error, Result};

#[path = "../../src/channel/claim.rs"]
mod claim;
#[path = "../../src/channel/layout.rs"]
mod layout;
#[path = "../../src/channel/pollers.rs"]
mod pollers;
#[path = "../../src/channel/queue.rs"]
mod queue;
#[path = "../../src/channel/recover.rs"]
mod recover;
#[path = "../../src/channel/segment.rs"]
mod segment;
#[path = "../../src/channel/walk.rs"]
mod walk;

pub use layout::Queue;

/// Time does not pass in a model: a waiter checks for deaths every time.
mod backoff {
    pub struct Backoff;

    impl Backoff {
        pub fn new() -> Self {
            Self
        }

        #[allow(clippy::unused_self)]
        pub fn is_over(&mut self) -> bool {
            true
        }
    }
}

/// A poller, without a thread that sets the descriptor.
pub struct Poller(pollers::Poller);

impl Poller {
    /// A poller with a readable descriptor.
    pub fn new(queue: &Queue) -> Self {
        let poller = queue.waiting.pollers.join(crate::family().unwrap().me(), |_| true);
        queue.waiting.pollers.show(poller);
        Self(poller)
    }

    /// Whether the descriptor is to be cleared.
    pub fn may_clear(&self, queue: &Queue) -> bool {
        let is_empty = || queue.is_empty().unwrap();
        is_empty() && queue.waiting.pollers.may_clear(self.0, is_empty)
    }
}

/// Whether a process that has put something has to wait for a poller.
pub fn is_a_poller_behind(queue: &Queue) -> bool {
    queue.is_a_poller_behind(crate::family().unwrap().me())
}

/// Does nothing: when a model's process ends, the model asks the queue itself.
mod flush_before_exit {
    pub fn note(_handle: u64) {}
}

/// The memory of one message, and its current owner.
pub struct Block(u64);

const WITH_PRODUCER: u64 = 0;
const IN_TRANSIT: u64 = 1;
const FREED: u64 = 2;
/// With the consumer's number in the bits above.
const TAKEN: u64 = 3;

impl Block {
    pub fn of(number: u64) -> Self {
        Self(number)
    }

    fn state(&self) -> &'static AtomicU64 {
        futex::block(self.0)
    }

    fn change(&self, from: u64, to: u64) -> bool {
        self.state().compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }

    pub fn is_in_transit(&self) -> bool {
        self.state().load(SeqCst) == IN_TRANSIT
    }

    /// Whether a consumer that died had taken it.
    pub fn is_with_the_dead(&self) -> bool {
        let state = self.state().load(SeqCst);
        state & 3 == TAKEN && futex::is_dead((state >> 2) as u32)
    }
}

pub struct Message(u64);

impl Message {
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    #[allow(clippy::unnecessary_wraps)]
    pub fn pack(out: Outgoing<'_>) -> Result<Self> {
        Ok(Self(out.body.len() as u64))
    }
}

#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    pub body: &'a [u8],
}

#[derive(Debug)]
pub struct Incoming(u64);

impl Incoming {
    pub fn number(&self) -> u64 {
        self.0
    }
}

/// As long as the engine's.
#[repr(C)]
pub struct MessageHeader {
    number: AtomicU64,
    rest: [u64; 13],
}

impl MessageHeader {
    pub fn clear(&self) {
        self.number.store(0, Relaxed);
    }

    pub fn post(&self, message: Message) {
        self.number.store(message.0, Relaxed);
        assert!(Block::of(message.0).change(WITH_PRODUCER, IN_TRANSIT));
    }

    pub fn open(&self) -> Result<Incoming> {
        let number = self.number.load(Relaxed);
        let taken = u64::from(futex::thread_number()) << 2 | TAKEN;
        if !Block::of(number).change(IN_TRANSIT, taken) {
            return Err(Error::Corrupt("a message that is not there"));
        }
        Ok(Incoming(number))
    }

    pub fn discard(&self) {
        let number = self.number.load(Relaxed);
        if number != 0 {
            Block::of(number).change(IN_TRANSIT, FREED);
        }
    }

    pub fn is_whole(&self) -> bool {
        let number = self.number.load(Relaxed);
        number != 0 && Block::of(number).is_in_transit()
    }
}
