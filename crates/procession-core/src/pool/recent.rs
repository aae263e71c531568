//! How long a worker's last tasks took, as its slot keeps it for observers: a byte for each, on a logarithmic scale.
//!
//! Only the worker writes, and nothing depends on what it writes. An observer that reads while it does may see one of the
//! times as it was before.

use super::shared::{PoolSlot, SlotNote};
use std::sync::atomic::Ordering::Relaxed;

/// How many tasks are kept of each worker.
pub(super) const TASKS: u32 = 32;
/// The first word, of those that [`SlotNote`] numbers.
const FIRST_WORD: usize = 6;
const IN_A_WORD: u32 = 8;

/// Steps between a time and its double.
const STEPS: u32 = 8;
/// Binary logarithm of the shortest time that is told from none, in nanoseconds.
const SHORTEST: u32 = 10;

/// The byte for a time: 1 for up to about a microsecond, 255 for an hour and more. 0 stands for no task.
fn code(nanos: u64) -> u8 {
    let nanos = nanos.max(1 << SHORTEST);
    let power = nanos.ilog2();
    let step = (nanos >> (power - 3)) as u32 & (STEPS - 1);
    ((power - SHORTEST) * STEPS + step + 1).min(255) as u8
}

/// The time in the middle of those that have this byte.
fn nanos(code: u8) -> Option<u64> {
    let number = u32::from(code.checked_sub(1)?);
    let (power, step) = (number / STEPS + SHORTEST, number % STEPS);
    let (first, width) = (u64::from(STEPS + step) << (power - 3), 1 << (power - 3));
    Some(first + width / 2)
}

impl PoolSlot {
    /// Keep the time of the task that is the worker's number `tasks`, counted from zero.
    pub(super) fn keep_time(&self, tasks: u32, nanos: u64, failed: bool) {
        let at = tasks % TASKS;
        let word = &self.header.spare_words()[FIRST_WORD + (at / IN_A_WORD) as usize];
        let shift = at % IN_A_WORD * 8;
        let others = word.load(Relaxed) & !(0xff << shift);
        word.store(others | u64::from(code(nanos)) << shift, Relaxed);
        if failed {
            self.add_to_note(SlotNote::Failed, 1);
        }
    }

    /// The times of the worker's last tasks, in nanoseconds, exact to 7 per cent; in no order.
    pub(super) fn kept_times(&self) -> impl Iterator<Item = u64> + '_ {
        let words = &self.header.spare_words()[FIRST_WORD..][..(TASKS / IN_A_WORD) as usize];
        let codes = words.iter().flat_map(|word| word.load(Relaxed).to_le_bytes());
        codes.filter_map(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_to_a_few_per_cent() {
        for power in 10..41 {
            for part in 0..50_u64 {
                let time = (1 << power) + (part << power) / 50;
                let kept = nanos(code(time)).unwrap();
                assert!(kept.abs_diff(time) * 100 <= time * 7, "{time} kept as {kept}");
            }
        }
        assert_eq!(code(0), 1);
        assert_eq!(code(u64::MAX), 255);
        assert_eq!(nanos(0), None);
    }

    #[test]
    fn the_last_tasks_are_kept() {
        let slot = PoolSlot::default();
        assert_eq!(slot.kept_times().count(), 0);
        for task in 0..40 {
            let time = if task < 8 { 1 << 20 } else { 1 << 30 };
            slot.keep_time(task, time, task % 4 == 0);
        }
        let times: Vec<u64> = slot.kept_times().collect();
        assert_eq!(times.len(), 32);
        assert!(times.iter().all(|&time| time >= 1 << 30), "the first 8 are gone");
        assert_eq!(slot.note(SlotNote::Failed).load(Relaxed), 10);
        assert_eq!(slot.note(SlotNote::Sent).load(Relaxed), 0);
    }
}
