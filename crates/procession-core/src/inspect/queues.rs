//! How much lies in a queue, and in a pool's queue of tasks.

use super::budget::Budget;
use super::cells::Cells;
use super::error::Look;
use super::file::ArenaFile;
use super::snapshot::{ObjectId, PoolSeen, PoolWorkerSeen, QueueSeen};
use crate::arena::seen::CellSeen;
use crate::channel::seen::{QueueState, Segment};
use crate::pool::seen::{now, PoolState, Slot, SlotCounts};
use std::collections::HashSet;

/// How many segments of a queue are read: what lies behind them counts as full.
const MOST_SEGMENTS: usize = 256;
/// How many further segments of a pool are read: 16,320 slots.
const MOST_POOL_SEGMENTS: usize = 8;
/// Slots that are read at once.
const BATCH: u32 = 64;
/// Parts that a batch of slots counts for: each slot may be a worker, which is listed.
const BATCH_PARTS: u32 = 8;

/// Count a queue's messages. False beside it: the queue's list of segments is damaged, or changed on the way.
pub(super) fn queue(
    file: &ArenaFile,
    cells: &Cells,
    budget: &Budget,
    id: ObjectId,
    state: &QueueState,
) -> Look<QueueSeen> {
    let mut seen = QueueSeen {
        id,
        depth: 0,
        is_depth_exact: true,
        is_long: false,
        maxsize: 0,
        put: 0,
        tasks_done: 0,
        getters: Vec::new(),
        putters: Vec::new(),
        joiners: Vec::new(),
    };
    seen.maxsize = state.maxsize();
    // Without a segment nothing was ever put.
    let Some(words) = state.seen() else { return Ok(seen) };
    seen.put = words.tail.saturating_sub(words.skipped);
    seen.tasks_done = words.done;
    let (mut at, mut link, mut passed) = (words.head, Some(words.first), HashSet::new());
    while let Some(here) = link {
        let segment = cells
            .segment(here.index)
            .filter(|_| passed.insert(here.index) && passed.len() <= MOST_SEGMENTS && budget.take(1));
        let part = match segment {
            Some(cell) => file.read::<Segment>(cell.offset)?.seen(here, words.head),
            None => None,
        };
        let Some(part) = part else {
            // Too long, or taken apart meanwhile: all up to the tail may be there.
            seen.depth += words.tail.saturating_sub(at);
            seen.is_depth_exact = false;
            // The segments before were there just now, so the tickets behind them were not taken.
            seen.is_long = passed.len() > MOST_SEGMENTS;
            return Ok(seen);
        };
        seen.depth += part.full;
        at = at.max(part.end);
        link = part.next;
    }
    Ok(seen)
}

/// Count a pool's tasks.
pub(super) fn pool(
    file: &ArenaFile,
    cells: &Cells,
    budget: &Budget,
    id: ObjectId,
    state: &PoolState,
) -> Look<(PoolSeen, SlotCounts)> {
    let mut counts = SlotCounts::default();
    let mut first = 0;
    for slot in state.first_slots() {
        counts.count(first, slot);
        first += 1;
    }
    let mut is_complete = true;
    for (number, (index, generation, slots)) in state.further().enumerate() {
        let cell = cells.block(index, generation);
        let Some(cell) = cell
            .filter(|_| number < MOST_POOL_SEGMENTS && budget.take(slots.div_ceil(BATCH).saturating_mul(BATCH_PARTS)))
        else {
            is_complete = false;
            break;
        };
        count_slots(file, &cell, (first, slots), &mut counts)?;
        first += slots;
    }
    let past = state.past();
    counts.times.sort_unstable();
    // The smallest time that is not less than so many per cent of them.
    let time_of = |percent: usize| {
        let at = (counts.times.len() * percent).div_ceil(100).checked_sub(1)?;
        counts.times.get(at).map(|nanos| nanos / 1_000)
    };
    let ms = |nanos: u64| nanos / 1_000_000;
    let seen = PoolSeen {
        id,
        state: state.phase_name(),
        queued: counts.queued,
        running: counts.running,
        uncollected: counts.finished,
        done: counts
            .workers
            .iter()
            .fold(past.done, |sum, worker| sum.saturating_add(worker.tasks_done.into())),
        failed: counts
            .workers
            .iter()
            .fold(past.failed, |sum, worker| sum.saturating_add(worker.failed)),
        workers_ended: past.workers,
        median_us: time_of(50),
        p99_us: time_of(99),
        is_complete,
        workers: counts
            .workers
            .iter()
            .map(|worker| PoolWorkerSeen {
                pid: None,
                is_ready: worker.ready,
                tasks_done: worker.tasks_done.into(),
                item_ms: worker.item_since.map(|since| ms(now().saturating_sub(since))),
                busy_ms: ms(worker.busy),
                tasks_failed: worker.failed,
                function: counts.function(worker).map(<[u8]>::to_vec),
            })
            .collect(),
    };
    Ok((seen, counts))
}

/// Count the slots of a segment, of which the first has the number `base`.
fn count_slots(file: &ArenaFile, cell: &CellSeen, (base, slots): (u32, u32), counts: &mut SlotCounts) -> Look<()> {
    let size = size_of::<Slot>() as u64;
    for first in (0..slots).step_by(BATCH as usize) {
        if u64::from(first + BATCH) * size > cell.bytes {
            break;
        }
        let batch = file.read::<[Slot; BATCH as usize]>(cell.offset + u64::from(first) * size)?;
        for (slot, index) in batch.iter().zip(base + first..) {
            counts.count(index, slot);
        }
    }
    Ok(())
}
