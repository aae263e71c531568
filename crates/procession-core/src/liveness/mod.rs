//! The family's process table: every process, whether it lives, and what it waits for.
//!
//! Leaves to `reclaim` what a death gives back, and to `family` where the table lies.

mod abandoned;
mod death;
mod entry;
mod fork;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod waits;

pub(crate) use abandoned::{has_root, is_abandoned};
pub(crate) use death::{
    has_ended, has_thread_ended, is_known_dead, is_probably_dead, may_ask, reap_executed, sweep_now_and_then,
};
pub use death::{is_alive, sweep};
pub use fork::{abandon_reserved, forks_inherit_nothing};
pub(crate) use fork::{confirm_reserved, install as register_forks, own_start};
pub use table::{check_room, describe, me, members, note_exit, set_name, Member, State};
pub(crate) use table::{
    forget_inherited, fork_born_after, label, label_of, noted_exit, now, open, set_parent, set_serving, Forks,
};
pub(crate) use waits::{announce, announce_low, cores, some_process_waits, Announced, Spinning, WaitKind};

/// A process of the family, as claim words name it: process slot (15 bits) and that slot's generation (16 bits, never
/// zero). Never zero, always below 2^31: a claim word has a bit to spare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Owner(pub(crate) u32);

impl Owner {
    const SLOT_BITS: u32 = 15;

    pub(crate) fn new(slot: usize, generation: u16) -> Self {
        Self(u32::from(generation) << Self::SLOT_BITS | slot as u32)
    }

    pub(crate) fn slot(self) -> usize {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as usize
    }

    pub(crate) fn generation(self) -> u16 {
        (self.0 >> Self::SLOT_BITS) as u16
    }

    /// The number that claim words store.
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// From a claim word; zero names no process. The uppermost bit is not the owner's and is ignored.
    pub fn from_bits(bits: u32) -> Option<Self> {
        let bits = bits & (u32::MAX >> 1);
        (bits >> Self::SLOT_BITS != 0).then_some(Self(bits))
    }
}
