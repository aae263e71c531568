//! The parent's record of one job: which of its items wait, are ready, were lost or taken.
//!
//! It is plain data of the parent's own memory. Counts over all jobs, and what follows when an item ends, are left to
//! `job_table`.

use super::room::Load;
use super::types::{JobOptions, Loss};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// What a wait is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    All,
    Item(u64),
    Any,
}

/// The state of an item.
#[derive(Debug)]
pub(super) enum ItemState {
    /// The task is in this slot, and was submitted with this many bytes of arguments.
    Waiting {
        slot: u32,
        bytes: u32,
    },
    Ready {
        slot: u32,
        raised: bool,
    },
    Lost(Loss),
    Taken,
}

/// A copy of a task, in case its worker dies.
pub(super) struct TaskCopy<M> {
    pub message: M,
    /// Number of further tries.
    pub left: u32,
}

/// The parent's record of a job. `M` is the type of the tasks' messages.
pub(super) struct JobRecord<M> {
    pub function: u32,
    pub options: JobOptions,
    /// The items from number `base` on; all earlier ones were taken.
    pub items: VecDeque<ItemState>,
    pub base: u64,
    /// Number of items that are no longer waiting.
    pub finished: u64,
    /// Bytes of arguments of the items that are waiting.
    pub bytes: u64,
    /// The item that was the first in time to fail or to be lost.
    pub failed: Option<u64>,
    /// Finished items that are not taken, in the order in which they finished; kept only for jobs whose items are taken
    /// in that order.
    pub order: Option<VecDeque<u64>>,
    pub sealed: bool,
    /// Whether the pool's `next_completed` reports the job when it is complete.
    pub announce: bool,
    /// The items will not be taken.
    pub abandoned: bool,
    /// Copies of unfinished tasks, for further tries.
    pub copies: HashMap<u64, TaskCopy<M>>,
    /// The time limits of unfinished tasks that differ from the job's.
    pub own_timeouts: BTreeMap<u64, Option<Duration>>,
}

impl<M> JobRecord<M> {
    pub fn new(function: u32, options: JobOptions) -> Self {
        Self {
            function,
            options,
            items: VecDeque::new(),
            base: 0,
            finished: 0,
            bytes: 0,
            failed: None,
            order: options.by_time.then(VecDeque::new),
            sealed: false,
            announce: false,
            abandoned: false,
            copies: HashMap::new(),
            own_timeouts: BTreeMap::new(),
        }
    }

    /// The time limit of a task.
    pub fn timeout_of(&self, number: u64) -> Option<Duration> {
        self.own_timeouts
            .get(&number)
            .copied()
            .unwrap_or(self.options.tasks.timeout)
    }

    pub fn submitted(&self) -> u64 {
        self.base + self.items.len() as u64
    }

    pub fn unfinished(&self) -> u64 {
        self.submitted() - self.finished
    }

    pub fn load(&self) -> Load {
        Load {
            tasks: self.unfinished(),
            bytes: self.bytes,
            sealed: self.sealed,
        }
    }

    pub fn entry(&mut self, number: u64) -> Option<&mut ItemState> {
        self.items
            .get_mut(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    /// The slot of the task for which this item waits.
    pub fn slot_of(&mut self, number: u64) -> Option<u32> {
        match self.entry(number) {
            Some(&mut ItemState::Waiting { slot, .. }) => Some(slot),
            _ => None,
        }
    }

    /// Whether this item waits for the task in this slot.
    pub fn waits_for(&self, number: u64, slot: u32) -> bool {
        let place = number
            .checked_sub(self.base)
            .and_then(|place| usize::try_from(place).ok());
        let entry = place.and_then(|place| self.items.get(place));
        matches!(entry, Some(ItemState::Waiting { slot: its, .. }) if *its == slot)
    }

    pub fn is_complete(&self) -> bool {
        self.sealed && self.finished == self.submitted()
    }

    /// How many more tasks must finish, at least, before the wait for `want` is over.
    pub fn missing(&mut self, want: Want) -> u64 {
        if self.is_complete() {
            return 0;
        }
        match want {
            Want::All => self.unfinished().max(1),
            Want::Item(number) if number < self.base => 0,
            Want::Item(number) => match self.entry(number) {
                Some(ItemState::Waiting { .. }) | None => 1,
                Some(_) => 0,
            },
            Want::Any => u64::from(self.order.as_ref().is_some_and(VecDeque::is_empty)),
        }
    }

    /// Take the item of this number, if it has ended and was not taken.
    pub fn take(&mut self, number: u64) -> Option<ItemState> {
        let entry = self.entry(number)?;
        if matches!(entry, ItemState::Waiting { .. }) {
            return None;
        }
        let entry = std::mem::replace(entry, ItemState::Taken);
        while matches!(self.items.front(), Some(ItemState::Taken)) {
            self.items.pop_front();
            self.base += 1;
        }
        match entry {
            ItemState::Taken => None,
            ended => Some(ended),
        }
    }

    /// The numbers of the items that finished first of those not taken, at most `limit` of them. Each is named once.
    pub fn next_finished(&mut self, limit: usize) -> Vec<u64> {
        let order = self.order.as_mut();
        order.map_or_else(Vec::new, |order| order.drain(..order.len().min(limit)).collect())
    }

    /// The sum of `weight` over the finished tasks.
    pub fn weigh_finished(&self, weight: impl Fn(u64) -> u64) -> u64 {
        let later = self.items.iter().zip(self.base..);
        let finished = later.filter(|(entry, _)| !matches!(entry, ItemState::Waiting { .. }));
        (0..self.base)
            .chain(finished.map(|(_, number)| number))
            .map(weight)
            .sum()
    }
}
