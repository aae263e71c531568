//! What an observer of another family reads of a pool, given copies of its memory.

use super::shared::{segment_len, Phase, PoolMemory, PoolSlot, SlotNote, Status, SEGMENTS};
use crate::arena::seen::{token_parts, AnyBits};
use crate::ids::Owner;
use std::collections::HashMap;
use std::mem::offset_of;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) use super::shared::{now, PoolMemory as PoolState, PoolSlot as Slot};

// SAFETY: atomics only, as its `Object` says.
unsafe impl AnyBits for PoolMemory {}
// SAFETY: atomics only.
unsafe impl AnyBits for PoolSlot {}

/// A worker of a pool, by its own report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerSeen {
    pub owner: Option<Owner>,
    /// Whether it takes tasks already.
    pub ready: bool,
    pub tasks_done: u32,
    /// When it began its current item, in nanoseconds of the monotonic clock.
    pub item_since: Option<u64>,
    /// Nanoseconds spent on tasks that are over.
    pub busy: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// The slot of the task that it is about to claim, or runs.
    pub task: u32,
}

/// What workers did that have ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PastSeen {
    pub workers: u64,
    pub done: u64,
    pub failed: u64,
}

/// How many functions and running tasks of a pool are told apart.
const MOST_FUNCTIONS: usize = 1_000;

/// Counts of a pool's slots.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotCounts {
    pub queued: u64,
    pub running: u64,
    /// Finished, and not collected yet.
    pub finished: u64,
    pub workers: Vec<WorkerSeen>,
    /// Times that the last tasks took, in nanoseconds.
    pub times: Vec<u64>,
    /// Of running tasks the slot of the function, by the task's own.
    running_functions: HashMap<u32, u32>,
    /// What defines each function, by its slot, if it is short.
    functions: HashMap<u32, Vec<u8>>,
}

impl SlotCounts {
    /// Count the slot of this number.
    pub(crate) fn count(&mut self, index: u32, slot: &PoolSlot) {
        let Some(state) = slot.load() else { return };
        match state.status {
            Status::Pending => self.queued += 1,
            Status::Running | Status::Cancelled => {
                self.running += 1;
                if self.running_functions.len() < MOST_FUNCTIONS {
                    self.running_functions.insert(index, slot.aux.load(Relaxed));
                }
            }
            Status::Done | Status::Raised => self.finished += 1,
            Status::Starting | Status::Ready => {
                let since = slot.note(SlotNote::Since).load(Relaxed);
                self.workers.push(WorkerSeen {
                    owner: Owner::from_bits(state.owner),
                    ready: state.status == Status::Ready,
                    tasks_done: slot.aux.load(Relaxed),
                    item_since: (since != 0).then_some(since),
                    busy: slot.note(SlotNote::Busy).load(Relaxed),
                    failed: slot.note(SlotNote::Failed).load(Relaxed),
                    task: slot.next.load(Relaxed),
                });
                self.times.extend(slot.kept_times());
            }
            Status::Function if self.functions.len() < MOST_FUNCTIONS => {
                if let Some(body) = slot.header.short_body() {
                    self.functions.insert(index, body);
                }
            }
            Status::Free | Status::Function | Status::Failed => {}
        }
    }

    /// What defines the function that a worker runs, as its face has written it; if it is short.
    pub(crate) fn function(&self, worker: &WorkerSeen) -> Option<&[u8]> {
        worker.item_since?;
        Some(self.functions.get(self.running_functions.get(&worker.task)?)?)
    }
}

/// What a thread waits for that sleeps this far into a pool.
pub(crate) fn awaited(distance: u64) -> &'static str {
    let distance = distance as usize;
    if distance == offset_of!(PoolMemory, work) {
        "next task"
    } else if distance == offset_of!(PoolMemory, done) {
        "results"
    } else if (offset_of!(PoolMemory, room)..offset_of!(PoolMemory, wake_at)).contains(&distance) {
        "room for tasks"
    } else {
        "wait"
    }
}

impl PoolMemory {
    pub(crate) fn phase_name(&self) -> &'static str {
        match self.phase.load(Relaxed) {
            phase if phase == Phase::Run as u32 => "running",
            phase if phase == Phase::Close as u32 => "closed",
            _ => "terminated",
        }
    }

    pub(crate) fn past(&self) -> PastSeen {
        let past = &self.past.0;
        PastSeen {
            workers: past.workers.load(Relaxed),
            done: past.done.load(Relaxed),
            failed: past.failed.load(Relaxed),
        }
    }

    /// The slots that lie in the object itself.
    pub(crate) fn first_slots(&self) -> &[PoolSlot] {
        &self.first
    }

    /// The further segments: cell, generation and number of slots of each.
    pub(crate) fn further(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        let tokens = self.segments.iter().map(|word| word.load(Relaxed));
        tokens.take(SEGMENTS).enumerate().map_while(|(number, token)| {
            let (index, generation) = token_parts(token)?;
            Some((index, generation, segment_len(number)))
        })
    }
}
