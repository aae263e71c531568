//! For how long items lie in queues. No item has a time of its own, because that would cost each `put` a look at the
//! clock: how many were put until each look says how old the oldest is at least.

use super::is_counted;
use procession_core::inspect::{FamilySnapshot, ObjectId, QueueSeen};
use std::collections::{HashMap, VecDeque};

/// How many looks are kept of a queue.
const MOST_MARKS: usize = 128;

/// How many items had been put until a look, and when that was.
type Mark = (u64, u64);

#[derive(Default)]
pub(super) struct Ages(HashMap<ObjectId, VecDeque<Mark>>);

impl Ages {
    /// Add a look. Returns of each queue with items the least age of the oldest, in milliseconds, if it is known.
    pub(super) fn see(&mut self, seen: &FamilySnapshot) -> HashMap<ObjectId, u64> {
        let mut before = std::mem::take(&mut self.0);
        let mut ages = HashMap::new();
        for queue in seen.queues.iter().filter(|queue| queue.depth > 0 && is_counted(queue)) {
            let mut marks = before.remove(&queue.id).unwrap_or_default();
            note(&mut marks, queue, seen.taken_ms);
            if let Some(&(_, then)) = marks.front().filter(|(_, then)| *then < seen.taken_ms) {
                ages.insert(queue.id, seen.taken_ms - then);
            }
            self.0.insert(queue.id, marks);
        }
        ages
    }
}

/// Keep the looks since which the oldest item is there. The first of them has seen it.
fn note(marks: &mut VecDeque<Mark>, queue: &QueueSeen, taken_ms: u64) {
    let taken = queue.put.saturating_sub(queue.depth);
    while marks.front().is_some_and(|(put, _)| *put <= taken) {
        marks.pop_front();
    }
    if marks.back().is_none_or(|(put, _)| *put < queue.put) {
        marks.push_back((queue.put, taken_ms));
    }
    if marks.len() > MOST_MARKS {
        // The look that is missed least: the items that it saw first count as put before the next one.
        let gap = |&number: &usize| marks[number + 1].1.saturating_sub(marks[number - 1].1);
        if let Some(number) = (1..marks.len() - 1).min_by_key(gap) {
            marks.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::queue;

    fn look(ages: &mut Ages, taken_ms: u64, depth: u64, put: u64) -> Option<u64> {
        let seen = FamilySnapshot {
            taken_ms,
            queues: vec![queue(9, depth, put)],
            ..FamilySnapshot::default()
        };
        ages.see(&seen).get(&ObjectId::new(9, 0)).copied()
    }

    #[test]
    fn the_oldest_item_is_as_old_as_the_look_that_first_saw_it() {
        let mut ages = Ages::default();
        assert_eq!(look(&mut ages, 1_000, 5, 5), None, "one look shows no age");
        assert_eq!(look(&mut ages, 2_000, 10, 10), Some(1_000));
        assert_eq!(
            look(&mut ages, 3_000, 6, 10),
            Some(2_000),
            "the fifth was there at first"
        );
        assert_eq!(look(&mut ages, 4_000, 5, 10), Some(2_000), "the sixth was not");
        assert_eq!(look(&mut ages, 5_000, 1, 16), None, "it was put since the last look");
        assert_eq!(look(&mut ages, 6_000, 0, 16), None);
        assert_eq!(look(&mut ages, 7_000, 1, 17), None);
        assert_eq!(look(&mut ages, 9_000, 1, 17), Some(2_000));
    }

    #[test]
    fn a_long_watch_keeps_a_bounded_number_of_looks() {
        let mut ages = Ages::default();
        for second in 0..10_000 {
            // Each item lies there for 1,000 seconds.
            let age = look(&mut ages, second * 1_000, 1_000.min(second + 1), second + 1);
            assert!(age.unwrap_or(0) < 1_000_000);
            assert!(second < 5_000 || age.unwrap() > 900_000, "{second}: {age:?}");
        }
        assert!(ages.0.values().all(|marks| marks.len() <= MOST_MARKS));
    }
}
