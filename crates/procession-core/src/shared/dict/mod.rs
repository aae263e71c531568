//! A dictionary: keys and values that any number of processes change at once.
//!
//! The README of this folder has the structure, the invariants, and what each death leaves. Keys and values are bytes;
//! their meaning is left to the faces.

mod bucket;
mod change;
mod evict;
mod key;
mod layout;
mod making;
mod migrate;
mod read;
mod recover;
mod snapshot;
mod table;
mod word;

#[cfg(test)]
mod order;
#[cfg(test)]
mod stale;
#[cfg(test)]
mod tests;

use crate::arena::node::Node;
use crate::arena::reclaiming::{Cell, OwnerWord};
use crate::arena::{Label, Ref};
use crate::family;
use crate::ids::{Handle, Kind, Owner};
use crate::sync::primitive::Ordering::{Relaxed, Release};
use crate::sys::fork_mutex::ForkMutex;
use crate::sys::memory::random_id;
use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;

use super::bytes::ValueBytes;
pub use change::{Change, Done};
use evict::{Aged, Oldest};
pub use key::{Key, LONGEST_FORM, LONGEST_KEY};
pub(crate) use layout::Dict;
pub use snapshot::{Snapshot, SnapshotItem};

/// A reference to a dictionary. Its clones, and references made from its handle, are the same dictionary.
#[derive(Clone, Debug)]
pub struct SharedDict(Ref<Dict>, Arc<KnownOldest>);

/// Some of the oldest entries, as this process knows them.
#[derive(Debug, Default)]
struct KnownOldest(ForkMutex<Vec<Aged>>);

impl Oldest for Arc<KnownOldest> {
    fn pop(&self) -> Option<Aged> {
        self.0.lock().pop()
    }

    fn keep(&self, found: Vec<Aged>) {
        *self.0.lock() = found;
    }
}

impl SharedDict {
    /// Create an empty dictionary.
    pub fn create() -> Result<Self> {
        Self::bounded(0)
    }

    /// The name that it was made with.
    pub fn name(&self) -> Option<String> {
        self.0.name()
    }

    /// Create an empty dictionary that has this many entries at most: the oldest is removed for a new one. 0 = any
    /// number. While changes are under way, there may be one more entry for each.
    pub fn bounded(most: u64) -> Result<Self> {
        Self::labelled(most, Label::default())
    }

    /// As [`bounded`](Self::bounded), with a label.
    pub fn labelled(most: u64, label: Label<'_>) -> Result<Self> {
        let dict = Ref::<Dict>::labelled(label)?;
        dict.seed.store(random_id()? as u64, Relaxed);
        dict.most.store(most, Relaxed);
        dict.handle.store(dict.handle().0, Release);
        Ok(Self(dict, Arc::default()))
    }

    /// The dictionary that a handle refers to. Fails if it is gone.
    pub fn attach(handle: Handle) -> Result<Self> {
        Ok(Self(Ref::attach(handle)?, Arc::default()))
    }

    /// The most entries that it may have; 0 = any number.
    pub fn most(&self) -> u64 {
        self.0.most.load(Relaxed)
    }

    /// The handle to send to other processes.
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// A key of this dictionary: the bytes by which it is compared, and the form in which it was given. Fails if it is
    /// too long.
    pub fn key(&self, bytes: &[u8], form: &[u8]) -> Result<Key> {
        Key::new(self.0.seed.load(Relaxed), bytes, form).ok_or(Error::Exhausted {
            what: "a dictionary's key",
            wanted: bytes.len().max(form.len()) as u64,
        })
    }

    /// The value of a key.
    pub fn get(&self, key: &Key) -> Result<Option<ValueBytes>> {
        self.0.read(key, true)
    }

    /// Whether there is a value for a key.
    pub fn contains(&self, key: &Key) -> Result<bool> {
        Ok(self.0.read(key, false)?.is_some())
    }

    /// Give a key a value.
    pub fn set(&self, key: &Key, value: &[u8]) -> Result<Done> {
        self.change_looking(key, false, |_| Change::Put(Cow::Borrowed(value)))
    }

    /// Remove a key.
    pub fn remove(&self, key: &Key) -> Result<Done> {
        let me = family()?.me();
        self.0.change(me, key, false, |_| Change::Remove)
    }

    /// Change a key by what `decide` returns for its value, in one step that no other change comes between. `decide` may
    /// be called several times: the last call counts.
    pub fn change<'a>(&self, key: &Key, decide: impl FnMut(Option<&[u8]>) -> Change<'a>) -> Result<Done> {
        self.change_looking(key, true, decide)
    }

    fn change_looking<'a>(
        &self,
        key: &Key,
        look: bool,
        decide: impl FnMut(Option<&[u8]>) -> Change<'a>,
    ) -> Result<Done> {
        let me = family()?.me();
        let done = self.0.change(me, key, look, decide)?;
        if done == Done::Added {
            // The change is made, and does not depend on this. Where memory for it lacks, the next addition does it.
            let _ = self.0.evict(&self.1);
        }
        Ok(done)
    }
}

/// Recover a node that a dead process owned, if it is one of a dictionary's that must be asked for. Returns whether it
/// is.
pub(crate) fn recover_node(cell: &Cell, word: OwnerWord, dead: Owner) -> bool {
    let kind = match cell.read_note().kind {
        kind if kind == Kind::DictBucket as u8 => Kind::DictBucket,
        kind if kind == Kind::DictTable as u8 => Kind::DictTable,
        _ => return false,
    };
    // Without address space the node stays, and is lost.
    if let Ok(Some(node)) = Node::over(*cell, word.generation, kind) {
        let _ = match kind {
            Kind::DictTable => recover::recover_table(&node, dead),
            _ => recover::recover_bucket(&node, dead),
        };
    }
    true
}
