//! What lower rooms ask of higher ones.
//!
//! The allocator has to know which processes live, and a death gives back objects whose types are defined further up.
//! Such a question goes through [`Hooks`]. `wiring` lists the answers, as a constant: no process can ask before they
//! are there. This file names `wiring`, which is the one arrow that runs up.

use crate::ids::Owner;
use crate::Result;

/// The answers.
pub(crate) struct Hooks {
    /// Have forks registered. Called before any thread can find the arena.
    pub register_forks: fn() -> Result<()>,
    /// This process, which is in the process table afterwards.
    pub me: fn() -> Result<Owner>,
    /// When this process started, as the kernel counts.
    pub own_start: fn() -> u64,
    /// The identifiers of the family's processes.
    pub pids: fn() -> Vec<u32>,
    /// Whether a process of the family may have been born by fork after this birth number.
    pub fork_born_after: fn(birth: u64) -> bool,
    /// Reap processes that executed another program, if one was seen.
    pub reap_executed: fn(),
    /// Whether a thread of a living process of the family sleeps in the engine.
    pub some_process_waits: fn() -> bool,
    /// Run the `destroy` of an object of this kind, at this address, in a cell of this size.
    pub destroy: fn(kind: u8, ptr: *const u8, size: usize),
    /// Give back everything that a dead process owned. The second process is its reaper.
    pub reclaim: fn(dead: Owner, me: Owner),
    /// Whether this very thread reclaims, or sweeps what is deferred.
    pub is_reclaiming: fn() -> bool,
    /// Free what is deferred only because of processes that are gone. Returns how many cells stay.
    pub sweep_deferred: fn() -> Result<u64>,
    /// Note how many threads of the engine's own this process has.
    pub note_helpers: fn(),
    /// Whether the calling thread's wait for a lock, which began at `since`, is part of a deadlock that it has to end:
    /// the deadlock in words.
    pub deadlock: fn(since: u64) -> Option<String>,
    /// Called in a child of fork, in this order. Async-signal-safe.
    pub after_fork_child: &'static [fn()],
}

/// The answers of the rooms above.
#[inline]
pub(crate) fn hooks() -> &'static Hooks {
    &crate::wiring::HOOKS
}
