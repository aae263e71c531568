//! A dictionary: keys and values that any number of processes change at once.
//!
//! The README of this folder has the structure, the invariants, and what each death leaves. Keys and values are bytes;
//! their meaning is left to the faces.

mod bucket;
mod change;
mod key;
mod layout;
mod migrate;
mod read;
mod recover;
mod snapshot;
mod word;

#[cfg(test)]
mod stale;
#[cfg(test)]
mod tests;

use crate::arena::node::Node;
use crate::arena::reclaiming::{Cell, OwnerWord};
use crate::arena::Ref;
use crate::family;
use crate::ids::{Handle, Kind, Owner};
use crate::sync::primitive::Ordering::{Relaxed, Release};
use crate::sys::memory::random_id;
use crate::{Error, Result};
use std::borrow::Cow;

use super::bytes::ValueBytes;
pub use change::{Change, Done};
pub use key::{Key, LONGEST_FORM, LONGEST_KEY};
pub(crate) use layout::Dict;
pub use snapshot::{Snapshot, SnapshotItem};

/// A reference to a dictionary. Its clones, and references made from its handle, are the same dictionary.
#[derive(Clone, Debug)]
pub struct SharedDict(Ref<Dict>);

impl SharedDict {
    /// Create an empty dictionary.
    pub fn create() -> Result<Self> {
        let dict = Ref::<Dict>::create()?;
        dict.seed.store(random_id()? as u64, Relaxed);
        dict.handle.store(dict.handle().0, Release);
        Ok(Self(dict))
    }

    /// The dictionary that a handle refers to. Fails if it is gone.
    pub fn attach(handle: Handle) -> Result<Self> {
        Ref::attach(handle).map(Self)
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
        let me = family()?.me();
        self.0.change(me, key, false, |_| Change::Put(Cow::Borrowed(value)))
    }

    /// Remove a key.
    pub fn remove(&self, key: &Key) -> Result<Done> {
        let me = family()?.me();
        self.0.change(me, key, false, |_| Change::Remove)
    }

    /// Change a key by what `decide` returns for its value, in one step that no other change comes between. `decide` may
    /// be called several times: the last call counts.
    pub fn change<'a>(&self, key: &Key, decide: impl FnMut(Option<&[u8]>) -> Change<'a>) -> Result<Done> {
        let me = family()?.me();
        self.0.change(me, key, true, decide)
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
