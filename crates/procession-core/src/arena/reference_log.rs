//! The objects that this process holds explicitly: one entry in the arena for each, so that a survivor can give the
//! reference back, and process-local counts, so that a further clone costs no write to the arena.
//!
//! Leaves to `change` how an entry and the object's count change together.

use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ptr;
use std::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::class::class_of;
use super::directory::Directory;
use super::layout::FixedTable;
use super::slab::Cell;
use super::word::{CellState, OwnerWord};
use super::Arena;
use crate::ids::{Handle, Owner};
use crate::{Error, Result};

/// Bytes of a chunk: the number of the next chunk's cell (+ 1), then entries (handles, 0 = empty).
const CHUNK: usize = 1024;
const ENTRIES: usize = CHUNK / 8;

/// How many forks this process descends from, plus one. What was made under another number was inherited.
static EPOCH: AtomicU32 = AtomicU32::new(1);
/// Made on first use. A child of fork abandons its parent's: a thread of the parent may have been changing it.
static LOCAL: AtomicPtr<LocalLog> = AtomicPtr::new(ptr::null_mut());

#[derive(Default)]
struct LocalLog {
    held: Mutex<Held>,
    changing: Mutex<()>,
}

type Map = HashMap<u64, (u64, &'static AtomicU64), BuildHasherDefault<HandleHasher>>;

/// This process's explicit references.
#[derive(Default)]
pub(super) struct Held {
    /// For each object, how often it is held here, and its entry.
    counts: Map,
    /// Empty entries.
    empty: Vec<&'static AtomicU64>,
}

/// Hashes handles, which differ in a few bits at both ends: one multiplication spreads them.
#[derive(Default)]
pub(super) struct HandleHasher(u64);

impl Hasher for HandleHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The number of this process among its ancestors by fork.
pub(super) fn epoch() -> u32 {
    EPOCH.load(Relaxed)
}

pub(super) fn after_fork_child() {
    EPOCH.fetch_add(1, Relaxed);
    LOCAL.store(ptr::null_mut(), Release);
}

fn local() -> &'static LocalLog {
    let mut local = LOCAL.load(Acquire);
    if local.is_null() {
        let fresh = Box::into_raw(Box::default());
        local = match LOCAL.compare_exchange(ptr::null_mut(), fresh, AcqRel, Acquire) {
            Ok(_) => fresh,
            Err(first) => {
                // SAFETY: made above, and no other thread has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                first
            }
        };
    }
    // SAFETY: what LOCAL points to is never freed.
    unsafe { &*local }
}

/// The explicit references of this process.
pub(super) fn held() -> MutexGuard<'static, Held> {
    local().held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock of [`alone`], held.
pub(super) struct Alone(#[expect(dead_code, reason = "dropping it is its use")] MutexGuard<'static, ()>);

/// Lock of the thread that runs this process's operation. It is held for a handful of instructions, none of which
/// waits, and none of which drops an object: that would take this lock again, see [`assert_may_end_objects`].
pub(super) fn alone() -> Alone {
    assert_may_end_objects();
    let locked = local().changing.lock().unwrap_or_else(PoisonError::into_inner);
    #[cfg(debug_assertions)]
    IS_ALONE.set(true);
    Alone(locked)
}

#[cfg(debug_assertions)]
thread_local! {
    /// Whether this thread holds the lock of [`alone`].
    static IS_ALONE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(debug_assertions)]
impl Drop for Alone {
    fn drop(&mut self) {
        IS_ALONE.set(false);
    }
}

/// In debug builds, check that this thread does not hold the lock of [`alone`]. All that may end objects, however
/// rarely it does, calls this: the end of an object takes that lock for what the object refers to.
#[inline]
pub(crate) fn assert_may_end_objects() {
    #[cfg(debug_assertions)]
    assert!(!IS_ALONE.get(), "this thread would wait for itself");
}

/// Whether this process refers to no shared object.
pub(crate) fn has_no_references() -> bool {
    held().counts.is_empty()
}

impl Held {
    /// Count one more clone of an object. False if the object is not held yet.
    pub(super) fn add_clone(&mut self, handle: Handle) -> bool {
        match self.counts.get_mut(&handle.0) {
            Some((count, _)) => {
                *count += 1;
                true
            }
            None => false,
        }
    }

    /// Count one clone less. Returns the entry to release if it was the last.
    pub(super) fn remove_clone(&mut self, handle: Handle) -> Option<&'static AtomicU64> {
        let Entry::Occupied(mut found) = self.counts.entry(handle.0) else {
            return None;
        };
        found.get_mut().0 -= 1;
        (found.get().0 == 0).then(|| found.remove().1)
    }

    /// Take an empty entry for an object that is not held yet.
    pub(super) fn reserve(&mut self, arena: &Arena, me: Owner) -> Result<&'static AtomicU64> {
        if self.empty.is_empty() {
            self.empty = arena.add_chunk(me)?;
        }
        self.empty.pop().ok_or(Error::Corrupt("reference log"))
    }

    /// Record that the entry has been filled.
    pub(super) fn entered(&mut self, handle: Handle, entry: &'static AtomicU64) {
        self.counts.insert(handle.0, (1, entry));
    }

    /// Record that the entry is empty (again).
    pub(super) fn give_back(&mut self, entry: &'static AtomicU64) {
        self.empty.push(entry);
    }
}

impl Arena {
    /// The directory of a process table slot. It is committed together with the process table's entries.
    pub(super) fn directory_of(&self, slot: usize) -> Option<&'static Directory> {
        // SAFETY: `Directory` is the table's type; only committed entries are returned.
        let all: &'static [Directory] = unsafe { self.table(FixedTable::Directories) };
        let committed = self.header().committed[FixedTable::Directories as usize].load(Acquire) as usize;
        all.get(slot)
            .filter(|_| (slot + 1) * size_of::<Directory>() <= committed)
    }

    fn add_chunk(&self, me: Owner) -> Result<Vec<&'static AtomicU64>> {
        let directory = self.directory_of(me.slot()).ok_or(Error::Corrupt("process slot"))?;
        let before = directory.chunks.load(Acquire);
        let is_mine = before >> 32 == u64::from(me.to_bits());
        let first = if is_mine { before & u64::from(u32::MAX) } else { 0 };
        let class = class_of(CHUNK).ok_or(Error::Corrupt("chunk size"))?;
        let (cell, _) = self.alloc_cell(class, CHUNK, me)?;
        cell.set_birth(self.births());
        let words = chunk_words(&cell);
        words[0].store(first, Relaxed);
        for entry in &words[1..] {
            entry.store(0, Relaxed);
        }
        // DEATH: before this store the cell is an ordinary one of this process, and is freed as such.
        directory
            .chunks
            .store(u64::from(me.to_bits()) << 32 | u64::from(cell.index + 1), Release);
        Ok(words[1..].iter().collect())
    }

    /// All entries of a process, full and empty.
    pub(crate) fn entries_of(&self, owner: Owner) -> Vec<&'static AtomicU64> {
        let mut entries = Vec::new();
        let Some(directory) = self.directory_of(owner.slot()) else {
            return entries;
        };
        let bits = directory.chunks.load(Acquire);
        if bits >> 32 != u64::from(owner.to_bits()) {
            return entries;
        }
        let mut next = bits as u32;
        // Bounds the walk: a damaged chain must not loop for ever.
        for _ in 0..=self.slab_count() * 64 {
            let Some(cell) = next.checked_sub(1).and_then(|index| self.cell(index)) else {
                break;
            };
            let state = OwnerWord::decode(cell.word.load(Acquire)).state;
            if state != CellState::Owned(owner) || cell.size < CHUNK || self.reach_cell(&cell, CHUNK).is_err() {
                break;
            }
            let words = chunk_words(&cell);
            entries.extend(&words[1..]);
            next = words[0].load(Relaxed) as u32;
        }
        entries
    }

    /// Detach the reference log of a process. Its chunks are ordinary cells of its own from now on.
    pub(crate) fn forget_entries(&self, owner: Owner) {
        if let Some(directory) = self.directory_of(owner.slot()) {
            let bits = directory.chunks.load(Acquire);
            if bits >> 32 == u64::from(owner.to_bits()) {
                let _ = directory.chunks.compare_exchange(bits, 0, AcqRel, Relaxed);
            }
        }
    }
}

fn chunk_words(cell: &Cell) -> &'static [AtomicU64] {
    // SAFETY: a cell of at least CHUNK bytes (checked by the callers), in the mapping, 64-aligned, and used as words
    // while it is a chunk.
    unsafe { std::slice::from_raw_parts(cell.ptr.cast(), ENTRIES) }
}
