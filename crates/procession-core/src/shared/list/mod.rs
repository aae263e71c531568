//! A list: items that any number of processes change at once.
//!
//! The README of this folder has the structure, why it is right, and what each death leaves. Values are bytes; their
//! meaning is left to the faces.

mod layout;
mod packed;
mod read;
mod settle;
mod splice;

#[cfg(test)]
mod tests;

use crate::arena::node::Node;
use crate::arena::reclaiming::{Cell, OwnerWord};
use crate::arena::{Label, Ref};
use crate::ids::{Handle, Kind, Owner};
use crate::Result;

pub(crate) use layout::ListHead;
pub use read::{Items, KnownPages, Version};

/// A reference to a list. Its clones, and references made from its handle, are the same list.
#[derive(Clone, Debug)]
pub struct SharedList(Ref<ListHead>);

impl SharedList {
    /// Create an empty list.
    pub fn create() -> Result<Self> {
        Self::labelled(Label::default())
    }

    /// Create an empty list with a label.
    pub fn labelled(label: Label<'_>) -> Result<Self> {
        Ref::labelled(label).map(Self)
    }

    /// The name that it was made with.
    pub fn name(&self) -> Option<String> {
        self.0.name()
    }

    /// The list that a handle refers to. Fails if it is gone.
    pub fn attach(handle: Handle) -> Result<Self> {
        Ref::attach(handle).map(Self)
    }

    /// The handle to send to other processes.
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }
}

/// Recover a node that a dead process owned, if it is one of a list's. Returns whether it is.
pub(crate) fn recover_node(cell: &Cell, word: OwnerWord, dead: Owner) -> bool {
    let kind = match cell.read_note().kind {
        kind if kind == Kind::ListRoot as u8 => Kind::ListRoot,
        kind if kind == Kind::ListNode as u8 => Kind::ListNode,
        kind if kind == Kind::ListValue as u8 => Kind::ListValue,
        _ => return false,
    };
    // Without address space the node stays, and is lost.
    if let Ok(Some(node)) = Node::over(*cell, word.generation, kind) {
        let _ = settle::recover(&node, dead);
    }
    true
}
