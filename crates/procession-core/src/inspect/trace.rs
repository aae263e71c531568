//! A trace of a family: switched on and off from outside, and read out of the rings of its processes.
//!
//! Of the family's memory one word is written: the one that says that it is traced. All else is mapped for reading.

use super::error::{InspectError, Look};
use super::file::ArenaFile;
use super::find::Inspector;
use super::objects::name_of;
use super::snapshot::ObjectId;
use crate::arena::seen::{FixedTable, TraceWords, TRACE_WORDS};
use crate::ids::{Handle, Kind, Owner};
use crate::liveness::seen::Entry;
use crate::sys::memory::ReadOnly;
use crate::trace::seen::{Cursor, RingSeen, Written};
use crate::trace::What;
use std::mem::offset_of;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
};

/// An event of a traced family.
#[derive(Clone, Copy, Debug)]
pub struct TraceEvent {
    /// The process, as no other of the family is named, also if the system uses its identifier again.
    pub process: u32,
    /// Its process identifier.
    pub pid: u32,
    /// The kernel's identifier of the thread.
    pub thread: u32,
    /// Nanoseconds of the system's monotonic clock.
    pub time_ns: u64,
    /// What happened.
    pub what: What,
    /// See [`What`].
    pub detail: u64,
    object: u64,
}

impl TraceEvent {
    /// The object that it concerns.
    pub fn object(&self) -> Option<ObjectId> {
        let (cell, generation) = Handle::from_bits(self.object)?.split()?;
        Some(ObjectId::new(cell, generation))
    }

    /// The kind of the object that a thread waits for: `lock`, `queue` and so on; empty if it is none that is known.
    pub fn awaited(&self) -> &'static str {
        let kind = u8::try_from(self.detail).ok().and_then(Kind::from_number);
        kind.map_or("", name_of)
    }

    /// The name, or a piece of one, that a [`What::Label`] has, with zeros at its end.
    pub fn text(&self) -> [u8; 16] {
        (u128::from(self.detail) << 64 | u128::from(self.object)).to_le_bytes()
    }
}

/// A trace under way. It ends when this is dropped.
pub struct Tracer {
    inspector: Inspector,
    words: ReadOnly,
    rings: Vec<Ring>,
    /// Events lost before the trace, for want of memory.
    refused: u64,
    lost: u64,
    batch: Vec<Written>,
}

struct Ring {
    slot: usize,
    memory: ReadOnly,
    cursor: Cursor,
}

impl Inspector {
    /// Trace the family from now on. [`Traced`](InspectError::Traced) if another observer does.
    pub fn trace(self) -> Result<Tracer, InspectError> {
        self.file().claim_trace()?;
        let words = self.file().map(TRACE_WORDS, size_of::<TraceWords>() as u64)?;
        let mut tracer = Tracer {
            inspector: self,
            words,
            rings: Vec::new(),
            refused: 0,
            lost: 0,
            batch: Vec::new(),
        };
        tracer.find_rings()?;
        for ring in &mut tracer.rings {
            if let Some(seen) = RingSeen::over(ring.memory.words()) {
                ring.cursor = seen.end();
            }
        }
        tracer.refused = tracer.words().lost.load(Relaxed);
        tracer.file().write_tracer(std::process::id())?;
        Ok(tracer)
    }
}

impl Tracer {
    fn file(&self) -> &ArenaFile {
        self.inspector.file()
    }

    fn words(&self) -> &TraceWords {
        // SAFETY: mapped with this length, and all atomics.
        unsafe { &*self.words.words().as_ptr().cast() }
    }

    /// The observer that the trace was made of.
    pub fn inspector(&self) -> &Inspector {
        &self.inspector
    }

    /// Begin with the oldest events that are still there, also those from before the trace.
    #[doc(hidden)]
    pub fn rewind(&mut self) {
        self.rings.iter_mut().for_each(|ring| ring.cursor = Cursor::default());
    }

    /// Switch the trace off: no event begins after this, and those that are being written can be read.
    pub fn stop(&mut self) -> Result<(), InspectError> {
        self.file().write_tracer(0)
    }

    /// Append the events that came since the last call: of each thread in their order. Returns whether it should be
    /// called again at once, because a ring is filling up. `all`: events that are not complete are not waited for any
    /// longer.
    pub fn read(&mut self, all: bool, events: &mut Vec<TraceEvent>) -> Result<bool, InspectError> {
        self.find_rings()?;
        let mut is_filling = false;
        let pid = self.file().pid();
        for ring in &mut self.rings {
            let seen = RingSeen::over(ring.memory.words()).ok_or(InspectError::Damaged {
                pid,
                what: "a ring of events",
            })?;
            self.batch.clear();
            self.lost = self
                .lost
                .saturating_add(seen.read(&mut ring.cursor, all, &mut self.batch));
            is_filling |= seen.is_filling(&ring.cursor);
            events.extend(self.batch.iter().map(|event| TraceEvent {
                process: ring.cursor.owner,
                pid: ring.cursor.pid,
                thread: event.thread,
                time_ns: event.time,
                what: event.what,
                detail: event.detail,
                object: event.object,
            }));
        }
        Ok(is_filling)
    }

    /// How many events were lost so far: overwritten before they were read, or for want of memory.
    pub fn lost(&self) -> u64 {
        self.lost + self.words().lost.load(Relaxed).saturating_sub(self.refused)
    }

    /// The name of a traced process, unless its entry of the process table is another's by now.
    pub fn name_of(&self, process: u32) -> Result<Option<String>, InspectError> {
        let Some(owner) = Owner::from_bits(process) else {
            return Ok(None);
        };
        let (table, length) = self.file().layout().table(FixedTable::Processes);
        let at = owner.slot() as u64 * size_of::<Entry>() as u64;
        if at >= length {
            return Ok(None);
        }
        let entry = self.file().read::<Entry>(table + at)?.seen(owner.slot());
        Ok(entry.filter(|entry| entry.owner == owner).map(|entry| entry.name))
    }

    /// Map the rings that are new.
    fn find_rings(&mut self) -> Look<()> {
        let (table, _) = self.file().layout().table(FixedTable::Rings);
        let (length, most) = (self.file().layout().ring, self.file().layout().processes as usize);
        let mut found = Vec::new();
        for (number, word) in self.words().rings.iter().enumerate() {
            let mut bits = word.load(Acquire);
            while bits != 0 {
                let slot = number * u64::BITS as usize + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                // Rings stay where they are.
                if slot < most && self.rings.binary_search_by_key(&slot, |ring| ring.slot).is_err() {
                    found.push(slot);
                }
            }
        }
        for slot in found {
            let memory = self.file().map(table + slot as u64 * length, length)?;
            let cursor = Cursor::default();
            let at = self.rings.partition_point(|ring| ring.slot < slot);
            self.rings.insert(at, Ring { slot, memory, cursor });
        }
        Ok(())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It was written before, so this can fail only if the family is gone. A dead tracer is no tracer, either.
        let _ = self.stop();
    }
}

impl ArenaFile {
    /// Write the word that says which process traces the family.
    fn write_tracer(&self, pid: u32) -> Look<()> {
        let at = TRACE_WORDS + offset_of!(TraceWords, tracer) as u64;
        self.write(at, &pid.to_ne_bytes())
    }
}

const _: () = assert!(size_of::<TraceWords>() % size_of::<AtomicU64>() == 0);
