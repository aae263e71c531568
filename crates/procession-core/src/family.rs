//! The processes that share one arena, seen from one of them.

use crate::arena::{self, Arena};
use crate::ids::Owner;
use crate::{liveness, Result};
use std::os::fd::{BorrowedFd, OwnedFd};

/// The family of this process.
#[derive(Clone, Copy)]
pub struct Family {
    arena: &'static Arena,
}

/// The family of this process, which is in the process table afterwards. The arena is created on first use. A second
/// call costs a few loads.
pub fn family() -> Result<Family> {
    arena::here().map(|(arena, _)| Family { arena })
}

impl Family {
    /// Join the family of the arena that `fd` refers to. Must come before the first call of [`family`], which then
    /// enters this process in the process table.
    pub fn attach(fd: OwnedFd) -> Result<Self> {
        let arena = arena::attach(fd)?;
        liveness::open(arena);
        Ok(Self { arena })
    }

    /// The arena's descriptor, reopened if the program closed it.
    pub fn arena_fd(&self) -> Result<BorrowedFd<'static>> {
        self.arena.passable_fd()
    }

    /// This family's random identity, by which handles that left it are recognised.
    pub fn id(&self) -> u128 {
        self.arena.id()
    }

    /// This process's entry in the process table (renewed in a child of fork).
    ///
    /// # Panics
    /// Panics in a process that was forked when the process table was full. There [`family`] fails, so call that each
    /// time.
    pub fn me(&self) -> Owner {
        liveness::me().expect("an entry in the process table: family() has made sure of it")
    }

    /// The arena.
    pub fn arena(&self) -> &'static Arena {
        self.arena
    }
}
