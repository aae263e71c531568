//! The arena of this process's family, and this process in it.
//!
//! A root creates its arena on first use; a child of spawn or of a fork server attaches to its parent's beforehand; a
//! child of fork inherits its parent's.

use super::Arena;
use crate::hooks::hooks;
use crate::ids::Owner;
use crate::{Error, Result};
use once_cell::race::OnceBox;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

static ARENA: OnceBox<Arena> = OnceBox::new();

/// What stands for the tracer's word until there is an arena.
static NO_TRACER: AtomicU32 = AtomicU32::new(0);
/// The tracer's word in the arena. Apart from `ARENA`, so that a look at it costs no more than it must.
static TRACER: AtomicPtr<AtomicU32> = AtomicPtr::new((&raw const NO_TRACER).cast_mut());

/// The process that traces the family; zero: none does.
#[inline]
pub(crate) fn tracer() -> &'static AtomicU32 {
    // SAFETY: either of two words that last as long as the process; the arena's first window stays mapped.
    unsafe { &*TRACER.load(Ordering::Relaxed) }
}

/// The arena of this process's family, created on first use.
pub(crate) fn current() -> Result<&'static Arena> {
    match ARENA.get() {
        Some(arena) => Ok(arena),
        // Two threads may both make an arena; one of the two is dropped. A lock could be inherited held by a child of
        // fork.
        None => adopt(Arena::create()?),
    }
}

/// The arena, if this process has one.
pub(crate) fn existing() -> Option<&'static Arena> {
    ARENA.get()
}

/// Join the family of the arena that `fd` refers to, unless this process has another one.
pub(crate) fn attach(fd: OwnedFd) -> Result<&'static Arena> {
    let arena = Arena::attach(fd)?;
    let id = arena.id();
    let adopted = adopt(arena)?;
    if adopted.id() == id {
        Ok(adopted)
    } else {
        Err(Error::Foreign("arena"))
    }
}

fn adopt(arena: Arena) -> Result<&'static Arena> {
    (hooks().register_forks)()?;
    let arena = ARENA.get_or_init(|| Box::new(arena));
    TRACER.store((&raw const arena.trace_words().tracer).cast_mut(), Ordering::Relaxed);
    Ok(arena)
}

/// The arena and this process, which is in the process table afterwards. A second call costs a few loads.
pub(crate) fn here() -> Result<(&'static Arena, Owner)> {
    let arena = current()?;
    Ok((arena, (hooks().me)()?))
}
