//! The parent's book of slots: what each is used for. It lies in the parent's own memory, so no worker can damage it.

use super::shared::View;
use crate::Result;

/// What a slot is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    Free,
    /// The task of this number in this job.
    Task {
        job: u32,
        item: u64,
    },
    Function,
    Worker,
}

#[derive(Clone, Copy)]
struct Entry {
    generation: u32,
    used: Use,
}

/// All slots of a pool.
pub(super) struct Table {
    entries: Vec<Entry>,
    /// Free ones, the one freed last at the end: it is still in the cache.
    free: Vec<u32>,
}

impl Table {
    pub fn new() -> Self {
        let mut table = Self {
            entries: Vec::new(),
            free: Vec::new(),
        };
        table.add(View::initial());
        table
    }

    fn add(&mut self, slots: std::ops::Range<u32>) {
        self.entries.resize(
            slots.end as usize,
            Entry {
                generation: 0,
                used: Use::Free,
            },
        );
        self.free.extend(slots.rev());
    }

    /// A free slot and its new generation.
    pub fn take(&mut self, view: &View, used: Use) -> Result<(u32, u32)> {
        let mut index = self.free.pop();
        if let Some(head) = index.filter(|&index| view.is_head(index)) {
            // The line still starts at this one: leave it for another time.
            index = self.free.pop();
            self.free.push(head);
        }
        let Some(index) = index else {
            self.add(view.grow()?);
            return self.take(view, used);
        };
        let entry = &mut self.entries[index as usize];
        entry.generation = (entry.generation + 1) % super::shared::State::GENERATIONS;
        entry.used = used;
        Ok((index, entry.generation))
    }

    /// Give a slot back. It must have left the line (`View::pass`), or never have been in it.
    pub fn give_back(&mut self, index: u32) {
        self.entries[index as usize].used = Use::Free;
        self.free.push(index);
    }

    /// What a slot is used for, and its generation. Any number may be asked for.
    pub fn get(&self, index: u32) -> (Use, u32) {
        self.entries
            .get(index as usize)
            .map_or((Use::Free, 0), |entry| (entry.used, entry.generation))
    }
}
