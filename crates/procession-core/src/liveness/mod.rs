//! The family's process table: every process, whether it lives, and what it waits for.
//!
//! Leaves to `reclaim` what a death gives back, and to `family` where the table lies.

mod abandoned;
mod awaited;
mod births;
mod death;
mod entry;
mod fork;
mod members;
mod own;
mod registry;
pub(crate) mod seen;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod waits;

pub(crate) use abandoned::{has_root, is_abandoned};
pub(crate) use awaited::{
    all_programs, deadlock, deadlock_word, endless_waits, handles_signals, is_at, note_helpers, program_threads,
    some_process_will_begin, EndlessWait, Target,
};
pub(crate) use births::{forget_inherited, fork_born_after, Forks};
pub(crate) use death::{
    has_ended, has_thread_ended, is_known_dead, is_probably_dead, may_ask, reap_executed, sweep_now_and_then,
};
pub use death::{is_alive, sweep, DeathWatch};
pub use fork::{abandon_reserved, forks_inherit_nothing};
pub(crate) use fork::{confirm_reserved, install as register_forks};
pub use members::{describe, members, note_exit, set_name, Member, MemberState};
pub(crate) use members::{label, noted_exit, set_parent, set_serving};
pub(crate) use own::own_start;
pub use registry::{check_room, me};
pub(crate) use table::{now, open};
pub(crate) use waits::{
    announce, announce_join, announce_low, cores, some_process_waits, Announced, Spinning, WaitKind,
};
