//! An event, and the slot of a ring that has it. Leaves the ring to `ring`, and looks from outside to `seen`.

use std::sync::atomic::{
    fence, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum What {
    /// A thread is about to sleep. Detail: number of the object's kind.
    WaitBegin = 1,
    /// It goes on.
    WaitEnd = 2,
    /// Items come into a queue: comes before a consumer can see them. Detail: ticket of the first (48 bits), number.
    Put = 3,
    /// Items were taken out of a queue. Detail as for `Put`.
    Get = 4,
    /// A lock was acquired.
    Acquire = 5,
    /// A lock is about to be released.
    Release = 6,
    /// A task is about to be queued. Object: the pool. Detail: the task's slot, and the slot's generation.
    TaskSubmit = 7,
    /// A worker has claimed it. Detail as for `TaskSubmit`.
    TaskStart = 8,
    /// A worker has finished it, and is about to report that.
    TaskEnd = 9,
    /// The parent has collected its result.
    TaskResult = 10,
    /// A process was started. Detail: its process identifier.
    ProcessStart = 11,
    /// The process is about to exit. Detail: the code.
    ProcessEnd = 12,
    /// A process was found dead. Detail: its process identifier.
    Death = 13,
    /// 16 bytes of the name of the task that the thread began last. Not the object, but the bytes, are in the event.
    Label = 14,
}

impl What {
    const ALL: [Self; 14] = [
        Self::WaitBegin,
        Self::WaitEnd,
        Self::Put,
        Self::Get,
        Self::Acquire,
        Self::Release,
        Self::TaskSubmit,
        Self::TaskStart,
        Self::TaskEnd,
        Self::TaskResult,
        Self::ProcessStart,
        Self::ProcessEnd,
        Self::Death,
        Self::Label,
    ];

    pub(super) fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get((number as usize).checked_sub(1)?).copied()
    }
}

/// Bits of a head's number of the event, of its thread, and of the rest.
const WHAT: u32 = 8;
const TID: u32 = 22;
/// The position + 1 is above these; its uppermost bits are cut off.
const POSITION: u32 = WHAT + TID;
/// The number of a slot that is being written.
const WRITING: u64 = (1 << WHAT) - 1;

/// A slot of a ring. Zero-filled is one that was never used.
///
/// Head: `position + 1 34 | thread 22 | event 8`. Its event is [`WRITING`] while a thread writes the other words;
/// no other thread touches a slot then.
#[repr(C)]
#[derive(Default)]
pub(super) struct EventSlot {
    head: AtomicU64,
    /// Nanoseconds of the system's monotonic clock.
    time: AtomicU64,
    object: AtomicU64,
    detail: AtomicU64,
}

/// An event, copied out of its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    pub what: What,
    pub thread: u32,
    pub time: u64,
    pub object: u64,
    pub detail: u64,
}

fn head(position: u64, thread: u32, what: u64) -> u64 {
    position.wrapping_add(1) << POSITION | (u64::from(thread) & ((1 << TID) - 1)) << WHAT | what
}

/// How many events there are from the position of one head to that of another, less than 2^33 either way.
fn distance(from: u64, to: u64) -> i64 {
    ((to >> POSITION << POSITION).wrapping_sub(from >> POSITION << POSITION) as i64) >> POSITION
}

impl EventSlot {
    /// Write the event of this position. It is lost if another thread is writing here, or has written a later one:
    /// threads that are a whole round apart.
    pub(super) fn write(&self, position: u64, event: Written) {
        let before = self.head.load(Relaxed);
        let writing = head(position, event.thread, WRITING);
        let is_busy = before & WRITING == WRITING;
        if is_busy || before != 0 && distance(before, writing) <= 0 {
            return;
        }
        // SYNC: acquires what the writer of the event before it has stored: those words are overwritten, not these.
        // DEATH: a slot that its writer left so stays so until the ring has its next process.
        if self.head.compare_exchange(before, writing, Acquire, Relaxed).is_err() {
            return;
        }
        // SYNC: a reader that sees one of the words below sees the head changed when it looks again.
        fence(Release);
        self.time.store(event.time, Relaxed);
        self.object.store(event.object, Relaxed);
        self.detail.store(event.detail, Relaxed);
        self.head
            .store(head(position, event.thread, event.what as u64), Release);
    }

    /// The event of this position, if it is there and whole.
    pub(super) fn read(&self, position: u64) -> Option<Written> {
        let found = self.head.load(Acquire);
        let thread = (found >> WHAT) as u32 & ((1 << TID) - 1);
        let number = found & WRITING;
        if found != head(position, thread, number) {
            return None;
        }
        let event = Written {
            what: What::from_number(number)?,
            thread,
            time: self.time.load(Relaxed),
            object: self.object.load(Relaxed),
            detail: self.detail.load(Relaxed),
        };
        // SYNC: as in `write`.
        fence(Acquire);
        (self.head.load(Relaxed) == found).then_some(event)
    }

    pub(super) fn clear(&self) {
        self.head.store(0, Relaxed);
    }
}
