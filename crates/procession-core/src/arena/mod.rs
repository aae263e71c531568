//! The family's shared memory: mapping, allocator, handles, objects and blocks.
//!
//! Leaves to `roll` who is alive, and to `reclaim` what an object of a certain kind gives back when it ends.

mod block;
mod handle;
mod object;

pub use block::{Block, Token};
pub use handle::Handle;
pub use object::{Kind, Object, Ref};

/// The mapped arena.
pub struct Arena {}
