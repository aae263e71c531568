//! Rings in ordinary memory: what a reader finds, and what it counts as lost. `tests/trace.rs` has those of a family.

use super::event::{EventSlot, What, Written};
use super::ring::{Head, HEAD};
use super::seen::{Cursor, RingSeen};
use crate::ids::Owner;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SLOTS: u64 = 8;

/// A ring with room for six events.
#[repr(C, align(64))]
struct Memory([AtomicU64; 4 * SLOTS as usize]);

impl Memory {
    fn new() -> Self {
        let memory = Self(std::array::from_fn(|_| AtomicU64::new(0)));
        memory.take_over(1);
        memory
    }

    /// Give it to the process with this generation.
    fn take_over(&self, generation: u16) {
        self.head()
            .take_over(SLOTS - 1, Owner::new(0, generation), generation.into());
    }

    fn head(&self) -> &Head {
        // SAFETY: aligned, long enough, and all atomics.
        unsafe { &*self.0.as_ptr().cast() }
    }

    fn write(&self, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| self.head().write(SLOTS - 1, event(number)));
    }

    fn read(&self, cursor: &mut Cursor, all: bool) -> (Vec<u64>, u64) {
        let mut events = Vec::new();
        let lost = RingSeen::over(&self.0).unwrap().read(cursor, all, &mut events);
        assert!(events.iter().all(|&found| found == event(found.detail)), "a torn event");
        (events.iter().map(|event| event.detail).collect(), lost)
    }
}

fn event(number: u64) -> Written {
    Written {
        what: What::Put,
        thread: 4_000_000,
        time: number + 1,
        object: number + 2,
        detail: number,
    }
}

#[test]
fn events_come_in_order_and_once() {
    let (memory, mut cursor) = (Memory::new(), Cursor::default());
    for round in 0..50 {
        memory.write(4 * round..4 * round + 4);
        assert_eq!(
            memory.read(&mut cursor, false),
            ((4 * round..4 * round + 4).collect(), 0)
        );
    }
    assert_eq!(memory.read(&mut cursor, true), (vec![], 0));
}

#[test]
fn what_was_overwritten_is_counted() {
    for number in 0..60 {
        let (memory, mut cursor) = (Memory::new(), Cursor::default());
        memory.write(0..number);
        let (read, lost) = memory.read(&mut cursor, false);
        assert_eq!(read.len() as u64 + lost, number);
        assert_eq!(read, (lost..number).collect::<Vec<_>>());
        assert!(lost <= number.saturating_sub(SLOTS - HEAD));
    }
}

#[test]
fn an_event_that_never_comes_is_waited_for_and_lost() {
    let (memory, mut cursor) = (Memory::new(), Cursor::default());
    memory.head().next.fetch_add(1, Relaxed);
    memory.write(7..9);
    let mut looks = 0;
    let found = loop {
        looks += 1;
        match memory.read(&mut cursor, false) {
            (none, 0) if none.is_empty() => assert!(looks < 1000),
            found => break found,
        }
    };
    assert_eq!(found, (vec![7, 8], 1));
    assert!(looks > 10);
    memory.head().next.fetch_add(1, Relaxed);
    memory.write(9..10);
    assert_eq!(memory.read(&mut cursor, true), (vec![9], 1));
}

#[test]
fn a_slot_has_the_later_of_two_events_a_round_apart() {
    let slot = EventSlot::default();
    slot.write(SLOTS + 5, event(2));
    slot.write(5, event(1));
    assert_eq!(slot.read(5), None);
    assert_eq!(slot.read(SLOTS + 5), Some(event(2)));
    slot.write(2 * SLOTS + 5, event(3));
    assert_eq!(slot.read(2 * SLOTS + 5), Some(event(3)));
}

#[test]
fn a_ring_that_another_process_took_over_is_read_from_its_begin() {
    let (memory, mut cursor) = (Memory::new(), Cursor::default());
    memory.write(0..3);
    memory.read(&mut cursor, false);
    memory.take_over(2);
    memory.write(5..7);
    assert_eq!(memory.read(&mut cursor, false), (vec![5, 6], 0));
    assert_eq!((cursor.owner, cursor.pid), (Owner::new(0, 2).to_bits(), 2));
    memory.head().owner.store(0, Relaxed);
    assert_eq!(memory.read(&mut cursor, false), (vec![], 0));
}

#[test]
fn what_a_dead_process_wrote_and_nobody_read_is_lost() {
    let (memory, mut cursor) = (Memory::new(), Cursor::default());
    memory.write(0..4);
    assert_eq!(memory.read(&mut cursor, false).0.len(), 4);
    memory.write(4..7);
    memory.take_over(2);
    // Two processes came and went between two looks, the second without an event.
    memory.write(7..9);
    memory.take_over(3);
    memory.take_over(4);
    memory.write(9..11);
    assert_eq!(memory.read(&mut cursor, false), (vec![9, 10], 5));
    assert_eq!(memory.read(&mut cursor, true), (vec![], 0));
    // To an observer that finds the ring only now, it is as new.
    assert_eq!(memory.read(&mut Cursor::default(), true), (vec![9, 10], 9));
}

#[test]
fn memory_that_is_no_ring_is_refused_and_damage_is_survived() {
    let memory = Memory::new();
    assert!(RingSeen::over(&memory.0[..8]).is_none(), "no slot but the head's");
    assert!(RingSeen::over(&memory.0[..12]).is_none(), "no power of two");
    assert!(RingSeen::over(&memory.0[1..17]).is_none(), "not aligned");
    let mut cursor = Cursor::default();
    for next in [0, 1, u64::MAX, u64::MAX / 2, 1 << 34] {
        memory.0.iter().for_each(|word| word.store(u64::MAX, Relaxed));
        memory.head().next.store(next, Relaxed);
        let mut events = Vec::new();
        RingSeen::over(&memory.0).unwrap().read(&mut cursor, true, &mut events);
        assert!(events.is_empty());
    }
}
