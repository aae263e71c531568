//! The family's shared memory: mapping, allocator, handles, objects and blocks.
//!
//! Leaves to `liveness` which processes are alive, and to `reclaim` what an object of each kind gives back when it is
//! destroyed.

mod block;
mod cell;
pub(crate) mod cells;
mod change;
mod class;
mod convert;
pub(crate) mod copy;
mod count;
mod counters;
mod current;
mod descriptor;
mod directory;
mod entry;
mod extent;
mod footprint;
mod idle;
mod label;
pub(crate) mod layout;
mod map;
pub(crate) mod node;
mod object;
mod partial;
mod receiver;
mod reference_log;
pub(crate) mod seen;
mod slab;
#[cfg(test)]
mod tests;
mod warm;
mod window;
mod word;

pub use block::{Block, Token};
pub(crate) use counters::awaits_a_newcomer;
pub use counters::{counters, Counters};
pub(crate) use current::{attach, current, existing, here, tracer};
pub use extent::Bytes;
pub use label::Label;
pub(crate) use label::StoredCreationSite;
use layout::{FixedTable, Layout};
pub use map::Arena;
pub(crate) use reference_log::has_no_references;

pub use object::{exists, Object, Ref};
pub(crate) use object::{link, look_up, name_of, unlink};
pub(crate) use word::Receiver;

/// Give back memory that has been idle for long. A waiting process calls this from time to time.
pub(crate) fn trim_idle() {
    if let Some(arena) = existing() {
        arena.trim_idle();
    }
}

/// The parts that `reclaim` uses.
pub(crate) mod reclaiming {
    pub(crate) use super::footprint::Footprints;
    pub(crate) use super::reference_log::assert_may_end_objects;
    pub(crate) use super::slab::Cell;
    pub(crate) use super::word::{full_birth, CellState, OwnerWord};
}

/// Reset the process-local state of this module after a fork; async-signal-safe.
pub(crate) fn after_fork_child() {
    footprint::after_fork_child();
    reference_log::after_fork_child();
    slab::after_fork_child();
}
