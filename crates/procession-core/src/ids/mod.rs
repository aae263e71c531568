//! Identifiers: what names a process, an object and a kind of object in shared memory.
//!
//! Leaves it to the rooms above what they refer to, and whether that still exists.

mod handle;
mod kind;
mod owner;

pub use handle::Handle;
pub(crate) use handle::{GENERATION, GENERATION_BITS};
pub use kind::Kind;
pub use owner::Owner;
