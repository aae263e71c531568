//! The process-global arena and this process's entry in the process table.
//!
//! A root creates its arena on first use; a child of spawn or of a fork server attaches to its parent's beforehand; a
//! child of fork inherits its parent's.

use crate::arena::Arena;
use crate::ids::Owner;
use crate::liveness;
use crate::{Error, Result};
use once_cell::race::OnceBox;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The processes that share one arena, seen from one of them.
pub struct Family {
    pub(crate) arena: Arena,
}

static FAMILY: OnceBox<Family> = OnceBox::new();

/// The family of this process, which is in the process table afterwards. The arena is created on first use. A second
/// call costs two loads.
pub fn family() -> Result<&'static Family> {
    let family = found()?;
    liveness::me()?;
    Ok(family)
}

/// The family, whether or not this process is in its process table.
pub(crate) fn found() -> Result<&'static Family> {
    if let Some(family) = FAMILY.get() {
        return Ok(family);
    }
    // Two threads may both make an arena; one of the two is dropped. A lock could be inherited held by a child of fork.
    let arena = Arena::create()?;
    liveness::register_forks()?;
    let family = FAMILY.get_or_init(|| Box::new(Family { arena }));
    liveness::open(&family.arena);
    Ok(family)
}

/// The family, if this process has one.
pub(crate) fn existing() -> Option<&'static Family> {
    FAMILY.get()
}

impl Family {
    /// Join the family of the arena that `fd` refers to. Must come before the first call of [`family`], which then
    /// enters this process in the process table.
    pub fn attach(fd: OwnedFd) -> Result<&'static Family> {
        let arena = Arena::attach(fd)?;
        let id = arena.id();
        liveness::register_forks()?;
        let family = FAMILY.get_or_init(|| Box::new(Family { arena }));
        if family.id() == id {
            liveness::open(&family.arena);
            Ok(family)
        } else {
            Err(Error::Foreign("arena"))
        }
    }

    /// The arena's descriptor, reopened if the program closed it.
    pub fn arena_fd(&self) -> Result<BorrowedFd<'static>> {
        self.arena.passable_fd()
    }

    /// This family's random identity, by which handles that left it are recognised.
    pub fn id(&self) -> u128 {
        self.arena.id()
    }

    /// This process, as an owner (renewed in a child of fork).
    ///
    /// # Panics
    /// Panics in a process that was forked when the process table was full. There [`family`] fails, so call that each
    /// time.
    pub fn me(&self) -> Owner {
        liveness::me().expect("an entry in the process table: family() has made sure of it")
    }

    /// The arena.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }
}
