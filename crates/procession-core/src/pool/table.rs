//! The parent's table of slots: what each is used for. It lies in the parent's own memory, so no worker can damage it.

use super::shared::{PoolView, StateWord, QUEUES};
use crate::Result;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a slot is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    Free,
    /// The task of this number in this job.
    Task {
        job: u32,
        item: u64,
        /// The function of this task alone, not of its job; 0 = none.
        function: u32,
    },
    /// A function, and the number of its users.
    Function {
        users: u32,
    },
    Worker,
    /// A withdrawn task that is still queued.
    Withdrawn,
}

#[derive(Clone, Copy)]
struct SlotRecord {
    generation: u32,
    used: Use,
    /// The queue that it was in last.
    queue: u8,
    /// Its position in that queue, counted from the first slot ever queued there.
    position: u64,
}

/// All slots of a pool.
pub(super) struct Table {
    entries: Vec<SlotRecord>,
    /// Free slots. The one freed last is at the end: it is still in the cache.
    free: Vec<u32>,
    /// Number of slots queued so far, for each queue.
    enqueued: [u64; QUEUES],
    /// Withdrawn slots of each queue, the first in the queue on top.
    withdrawn: [BinaryHeap<Reverse<(u64, u32)>>; QUEUES],
}

impl Table {
    pub fn new() -> Self {
        let mut table = Self {
            entries: Vec::new(),
            free: Vec::new(),
            enqueued: [0; QUEUES],
            withdrawn: Default::default(),
        };
        table.add(PoolView::initial());
        table
    }

    fn add(&mut self, slots: std::ops::Range<u32>) {
        let free = SlotRecord {
            generation: 0,
            used: Use::Free,
            queue: 0,
            position: 0,
        };
        self.entries.resize(slots.end as usize, free);
        self.free.extend(slots.rev());
    }

    /// Take a free slot, and return its number and its new generation.
    pub fn take(&mut self, view: &PoolView, used: Use) -> Result<(u32, u32)> {
        self.free_passed(view);
        let mut index = self.free.pop();
        // A queue still starts at this slot: keep it for a later call. There are not more of these than queues.
        let mut heads = [0; QUEUES];
        let mut kept = 0;
        while let Some(head) = index.filter(|&index| kept < QUEUES && view.is_head(index)) {
            heads[kept] = head;
            kept += 1;
            index = self.free.pop();
        }
        self.free.extend(heads[..kept].iter().rev());
        let Some(index) = index else {
            self.add(view.grow()?);
            return self.take(view, used);
        };
        let entry = &mut self.entries[index as usize];
        entry.generation = (entry.generation + 1) % StateWord::GENERATIONS;
        entry.used = used;
        Ok((index, entry.generation))
    }

    /// Record that the slot is in this queue now.
    pub fn enqueue(&mut self, index: u32, queue: usize) {
        self.enqueued[queue] += 1;
        let entry = &mut self.entries[index as usize];
        (entry.queue, entry.position) = (queue as u8, self.enqueued[queue]);
    }

    /// The queue that the slot was in last.
    pub fn queue_of(&self, index: u32) -> usize {
        self.entries
            .get(index as usize)
            .map_or(0, |entry| usize::from(entry.queue))
    }

    /// Free a slot. It must have left the queue (`PoolView::pass`), or never have been in it.
    pub fn give_back(&mut self, index: u32) {
        self.entries[index as usize].used = Use::Free;
        self.free.push(index);
    }

    /// The function of the task in this slot alone, not of its job; 0 = none.
    pub fn own_function(&self, index: u32) -> u32 {
        match self.get(index).0 {
            Use::Task { function, .. } => function,
            _ => 0,
        }
    }

    /// Free a slot that may still be queued, once the queue's head is at it or beyond.
    pub fn give_back_later(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.used = Use::Withdrawn;
        self.withdrawn[usize::from(entry.queue)].push(Reverse((entry.position, index)));
    }

    fn free_passed(&mut self, view: &PoolView) {
        for queue in 0..QUEUES {
            if self.withdrawn[queue].is_empty() {
                continue;
            }
            // The head's entry still has its position in the queue: the slot cannot be used again before the head has
            // left it.
            let head = view.head(queue) as usize;
            let passed = self.entries.get(head).map_or(0, |entry| entry.position);
            while let Some(&Reverse((position, index))) = self.withdrawn[queue].peek() {
                if position > passed {
                    break;
                }
                self.withdrawn[queue].pop();
                self.give_back(index);
            }
        }
    }

    /// Add `change` to the number of users of the function in this slot, and return the new number.
    pub fn count_user(&mut self, index: u32, change: i32) -> u32 {
        match self.entries.get_mut(index as usize).map(|entry| &mut entry.used) {
            Some(Use::Function { users }) => {
                *users = users.saturating_add_signed(change);
                *users
            }
            _ => 0,
        }
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What a slot is used for, and its generation. `index` may be any number.
    pub fn get(&self, index: u32) -> (Use, u32) {
        self.entries
            .get(index as usize)
            .map_or((Use::Free, 0), |entry| (entry.used, entry.generation))
    }
}
