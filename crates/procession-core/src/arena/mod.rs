//! The family's shared memory: mapping, allocator, handles, objects and blocks.
//!
//! Leaves to `roll` who is alive, and to `reclaim` what an object of a certain kind gives back when it ends.

mod block;
mod handle;
pub(crate) mod layout;
mod lock;
mod map;
mod object;
mod run;
mod slab;
mod word;

pub use block::{Block, Token};
pub use handle::Handle;
pub(crate) use layout::{Layout, Table};
pub use map::Arena;
pub use object::{Kind, Object, Ref};

/// Process-local state of this room after a fork; async-signal-safe.
pub(crate) fn after_fork_child() {}

/// A message (or another object) gets a reference of its own, which is in no process's holdings. False when the object is gone.
pub(crate) fn retain_for_message(handle: Handle) -> crate::Result<bool> {
    let _ = handle;
    todo!()
}

/// A message gives its reference back. A stale handle does nothing.
pub(crate) fn release_from_message(handle: Handle) -> crate::Result<()> {
    let _ = handle;
    todo!()
}
