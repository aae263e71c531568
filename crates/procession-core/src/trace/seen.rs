//! What an observer of another family reads of a ring. Leaves it to `inspect` where the ring is mapped.

use super::event::EventSlot;
use super::ring::{Head, HEAD};
use std::sync::atomic::{
    fence, AtomicU64,
    Ordering::{Acquire, Relaxed},
};

pub(crate) use super::event::Written;

/// How often an event that is not whole yet is waited for. Its writer may be stopped, or dead.
const PATIENCE: u32 = 100;

/// How far a ring was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    /// The process whose ring it was; zero: nothing was read.
    pub owner: u32,
    /// That process's identifier.
    pub pid: u32,
    next: u64,
    /// How often the event at `next` was not whole.
    waited: u32,
}

/// A ring of another process: memory that changes at any time, and may be damaged.
pub(crate) struct RingSeen<'a> {
    head: &'a Head,
    slots: &'a [EventSlot],
}

impl<'a> RingSeen<'a> {
    /// The ring that lies here. `None` if the memory is not that of a ring.
    pub(crate) fn over(memory: &'a [AtomicU64]) -> Option<Self> {
        let count = size_of_val(memory) / size_of::<EventSlot>();
        let aligned = memory.as_ptr().align_offset(align_of::<Head>()) == 0;
        if !aligned || !count.is_power_of_two() || count as u64 <= HEAD {
            return None;
        }
        // SAFETY: aligned and long enough; both types are atomics and numbers, valid for any bytes.
        unsafe {
            Some(Self {
                head: &*memory.as_ptr().cast(),
                slots: std::slice::from_raw_parts(memory.as_ptr().cast(), count),
            })
        }
    }

    /// Where the ring ends now: a trace that begins now begins there.
    pub(crate) fn end(&self) -> Cursor {
        let owner = self.head.owner.load(Acquire);
        Cursor {
            owner,
            pid: self.head.pid.load(Relaxed),
            next: self.head.next.load(Acquire),
            waited: 0,
        }
    }

    /// Append the events that came since, and return how many were lost. With `all`, an event that is not whole is not
    /// waited for.
    pub(crate) fn read(&self, cursor: &mut Cursor, all: bool, events: &mut Vec<Written>) -> u64 {
        let owner = self.head.owner.load(Acquire);
        if owner == 0 {
            return 0;
        }
        let mut lost = 0;
        if owner != cursor.owner {
            let end = self.head.next.load(Acquire);
            let first = self.head.first.load(Relaxed).min(end);
            // What the earlier processes of this ring wrote since it was read is gone.
            if cursor.next < first {
                lost = events_between(cursor.next, first, self.slots.len() as u64);
            }
            *cursor = Cursor {
                owner,
                pid: self.head.pid.load(Relaxed),
                next: if cursor.next > end {
                    first
                } else {
                    cursor.next.max(first)
                },
                waited: 0,
            };
        }
        let before = events.len();
        lost += self.read_on(cursor, all, events);
        // SYNC: if the ring was taken over, the owner changed before anything else did.
        fence(Acquire);
        if self.head.owner.load(Relaxed) == owner {
            return lost;
        }
        let read = events.len() - before;
        events.truncate(before);
        lost + read as u64
    }

    fn read_on(&self, cursor: &mut Cursor, all: bool, events: &mut Vec<Written>) -> u64 {
        let count = self.slots.len() as u64;
        let end = self.head.next.load(Acquire);
        if cursor.next > end {
            // Damage: begin where the process says it is.
            cursor.next = end;
        }
        let mut lost = 0;
        let oldest = end.saturating_sub(count);
        if cursor.next < oldest {
            lost += events_between(cursor.next, oldest, count);
            cursor.next = oldest;
        }
        while cursor.next < end {
            let number = cursor.next % count;
            if number >= HEAD {
                match self.slots[number as usize].read(cursor.next) {
                    Some(event) => events.push(event),
                    None if all
                        || cursor.waited >= PATIENCE
                        || self.head.next.load(Relaxed).saturating_sub(cursor.next) > count =>
                    {
                        lost += 1;
                    }
                    None => {
                        cursor.waited += 1;
                        break;
                    }
                }
            }
            cursor.next += 1;
            cursor.waited = 0;
        }
        lost
    }

    /// Whether so much has come since that the ring should be read again at once.
    pub(crate) fn is_filling(&self, cursor: &Cursor) -> bool {
        self.head.next.load(Relaxed).saturating_sub(cursor.next) > self.slots.len() as u64 / 4
    }
}

/// How many of these positions have events: those that do not fall on the head of a ring of `count` slots.
fn events_between(from: u64, to: u64, count: u64) -> u64 {
    let before = |position: u64| position / count * (count - HEAD) + (position % count).saturating_sub(HEAD);
    before(to) - before(from)
}
