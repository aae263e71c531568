//! What a process took out of a queue and could not return, because an exception ended its `get_many`.

use crate::common::lock;
use crate::payload;
use procession_core::channel::Incoming;
use procession_core::family;
use procession_core::ids::Owner;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};

pub enum Leftover {
    Item(Py<PyAny>),
    Message(Incoming),
}

impl Leftover {
    pub fn load(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Self::Item(item) => Ok(item.into_bound(py)),
            Self::Message(message) => payload::loads(py, message),
        }
    }
}

type Kept = VecDeque<(Option<Owner>, Leftover)>;

/// The leftovers of one process, oldest first. They are older than all that is in the queue. A child of fork has none.
#[derive(Default)]
pub struct Leftovers {
    /// The process that has some; 0 = none. It changes under the lock, and a `get` without leftovers costs one load of
    /// it.
    holder: AtomicU32,
    /// Locked only by a thread that holds the interpreter's lock, as one that forks does: no child inherits it locked.
    kept: Mutex<Kept>,
}

fn me() -> Option<Owner> {
    family().ok().map(|family| family.me())
}

impl Leftovers {
    /// Whether there are any. Takes no lock.
    pub fn any(&self) -> bool {
        // SYNC: in a waiter's check this load comes after it announced itself, and `note` before it is woken.
        let holder = self.holder.load(SeqCst);
        holder != 0 && holder == std::process::id()
    }

    /// Note whether there are any. Called with the lock.
    fn note(&self, kept: &MutexGuard<'_, Kept>) {
        let holder = if kept.is_empty() { 0 } else { std::process::id() };
        self.holder.store(holder, SeqCst);
    }

    /// Take the oldest.
    pub fn pop(&self, _py: Python<'_>) -> Option<Leftover> {
        if !self.any() {
            return None;
        }
        let me = me();
        loop {
            let oldest = {
                let mut kept = lock(&self.kept);
                let oldest = kept.pop_front();
                self.note(&kept);
                oldest
            };
            match oldest {
                // The parent's. Dropped without the lock: it may run Python code.
                Some((owner, _)) if owner != me => {}
                oldest => return oldest.map(|(_, leftover)| leftover),
            }
        }
    }

    /// The number of leftovers.
    pub fn len(&self, _py: Python<'_>) -> usize {
        if !self.any() {
            return 0;
        }
        let me = me();
        lock(&self.kept).iter().filter(|(owner, _)| *owner == me).count()
    }

    /// Keep items that were older than what is kept.
    pub fn put_before(&self, items: &Bound<'_, PyList>) {
        let me = me();
        let items: Vec<_> = items.iter().map(|item| (me, Leftover::Item(item.unbind()))).collect();
        let mut kept = lock(&self.kept);
        for item in items.into_iter().rev() {
            kept.push_front(item);
        }
        self.note(&kept);
    }

    /// Keep messages that were newer than what is kept.
    pub fn put_behind(&self, _py: Python<'_>, messages: impl Iterator<Item = Incoming>) {
        let me = me();
        let mut kept = lock(&self.kept);
        kept.extend(messages.map(|message| (me, Leftover::Message(message))));
        self.note(&kept);
    }
}
