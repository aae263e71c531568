//! A model of the table of jobs. It keeps the state of each item, never forgets one, and counts everything anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::pool::types::JobOptions;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ModelItem {
    Waiting {
        slot: u32,
        bytes: u32,
        tries: u32,
        timeout: Option<Duration>,
    },
    Ready {
        slot: u32,
        raised: bool,
    },
    Lost,
    Taken,
}

#[derive(Debug)]
pub(super) struct ModelJob {
    pub function: u32,
    pub options: JobOptions,
    pub items: Vec<ModelItem>,
    /// The numbers of ended items, in the order in which they ended.
    pub ended: Vec<u64>,
    /// How many of `ended` `next_finished` has named.
    pub named: usize,
    pub failed: Option<u64>,
    pub sealed: bool,
    pub announced: bool,
    pub dropped: bool,
}

impl ModelJob {
    pub fn waiting(&self) -> impl Iterator<Item = (u64, u32, u32)> + '_ {
        (0..).zip(&self.items).filter_map(|(number, item)| match *item {
            ModelItem::Waiting { slot, bytes, .. } => Some((number, slot, bytes)),
            _ => None,
        })
    }

    pub fn is_complete(&self) -> bool {
        self.sealed && self.waiting().next().is_none()
    }
}

/// What the table should hold, and what it asked for.
#[derive(Default)]
pub(super) struct Model {
    pub jobs: BTreeMap<u32, ModelJob>,
    /// The largest number of jobs at any time.
    pub most: usize,
    /// Slots and functions that are in use.
    pub slots: BTreeSet<u32>,
    pub functions: BTreeSet<u32>,
    pub next: u32,
    pub done: u64,
    pub completed: Vec<u32>,
    pub closing: bool,
    pub stopped: bool,
    pub closed: bool,
    /// What was once lost or taken: job, number, slot.
    pub past: Vec<(u32, u64, u32)>,
}

impl Model {
    pub fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    pub fn open(&mut self, key: u32, function: u32, options: JobOptions) {
        self.functions.insert(function);
        let job = ModelJob {
            function,
            options,
            items: Vec::new(),
            ended: Vec::new(),
            named: 0,
            failed: None,
            sealed: false,
            announced: false,
            dropped: false,
        };
        self.jobs.insert(key, job);
        self.most = self.most.max(self.jobs.len());
    }

    /// The key of an open job that was not dropped.
    pub fn pick(&self, which: usize, growing: bool) -> Option<u32> {
        let keys: Vec<u32> = self
            .jobs
            .iter()
            .filter(|(_, job)| !(job.dropped || growing && job.sealed))
            .map(|(&key, _)| key)
            .collect();
        (!keys.is_empty()).then(|| keys[which % keys.len()])
    }

    /// A waiting task: job, number, slot.
    pub fn pick_task(&self, which: usize) -> Option<(u32, u64, u32)> {
        let tasks: Vec<_> = self
            .jobs
            .iter()
            .flat_map(|(&key, job)| job.waiting().map(move |(number, slot, _)| (key, number, slot)))
            .collect();
        (!tasks.is_empty()).then(|| tasks[which % tasks.len()])
    }

    pub fn end(&mut self, key: u32, number: u64, ended: ModelItem) {
        let job = self.jobs.get_mut(&key).unwrap();
        let dropped = job.dropped;
        job.items[number as usize] = if dropped { ModelItem::Taken } else { ended };
        job.ended.push(number);
        if !matches!(ended, ModelItem::Ready { raised: false, .. }) {
            job.failed = job.failed.or(Some(number));
        }
        if let (ModelItem::Ready { slot, .. }, true) = (ended, dropped) {
            self.slots.remove(&slot);
        }
        self.resolve(key);
    }

    /// Announce a job that has become complete; forget it if it was dropped as well.
    pub fn resolve(&mut self, key: u32) {
        let job = self.jobs.get_mut(&key).unwrap();
        if !job.is_complete() {
            return;
        }
        if std::mem::take(&mut job.announced) {
            self.completed.push(key);
        }
        if job.dropped && !self.stopped {
            self.completed.retain(|&other| other != key);
            for item in &job.items {
                if let ModelItem::Ready { slot, .. } = item {
                    self.slots.remove(slot);
                }
            }
            self.functions.remove(&job.function);
            self.jobs.remove(&key);
        }
    }

    pub fn seal(&mut self, key: u32) {
        self.jobs.get_mut(&key).unwrap().sealed = true;
        self.resolve(key);
    }

    pub fn unfinished(&self) -> u64 {
        self.jobs.values().map(|job| job.waiting().count() as u64).sum()
    }
}
