//! What this process explicitly holds: one entry in the arena per object, so that a survivor can give the reference back,
//! and process-local counts, so that a further clone costs no arena write.
//!
//! How an entry and the object's count change together is `entry`'s business.

use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ptr;
use std::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::layout::Table;
use super::slab::{class_of, write_note, Cell};
use super::word::{State, Word};
use super::{Arena, Handle};
use crate::roll::Owner;
use crate::{Error, Result};

/// Bytes of a chunk: the number of the next chunk's cell (+ 1), then entries (handles, 0 = empty).
const CHUNK: usize = 1024;
const ENTRIES: usize = CHUNK / 8;

/// Which process this is, counted in forks: what was made under another number was inherited.
static EPOCH: AtomicU32 = AtomicU32::new(1);
/// Made on first use. A child of fork leaves its parent's alone: some thread may have been in the middle of changing it.
static LOCAL: AtomicPtr<Local> = AtomicPtr::new(ptr::null_mut());

#[derive(Default)]
struct Local {
    held: Mutex<Held>,
    tagging: Mutex<()>,
}

type Map = HashMap<u64, (u64, &'static AtomicU64), BuildHasherDefault<HandleHasher>>;

/// This process's explicit references.
#[derive(Default)]
pub(super) struct Held {
    /// How often each object is held here, and its entry.
    counts: Map,
    /// Entries that are empty.
    empty: Vec<&'static AtomicU64>,
}

/// Handles are numbers that differ in a few bits at both ends: one multiplication spreads them.
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

/// The number of this process in the line of forks.
pub(super) fn epoch() -> u32 {
    EPOCH.load(Relaxed)
}

pub(super) fn after_fork_child() {
    EPOCH.fetch_add(1, Relaxed);
    LOCAL.store(ptr::null_mut(), Release);
}

fn local() -> &'static Local {
    let mut local = LOCAL.load(Acquire);
    if local.is_null() {
        let fresh = Box::into_raw(Box::default());
        local = match LOCAL.compare_exchange(ptr::null_mut(), fresh, AcqRel, Acquire) {
            Ok(_) => fresh,
            Err(first) => {
                // SAFETY: made above, and seen by nobody.
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

/// What the one thread of this process has that has a count tagged: for a handful of instructions, in which nothing waits.
pub(super) struct Tagging {
    changing: Option<&'static AtomicU64>,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Tagging {
    fn drop(&mut self) {
        // SYNC: after the tag is gone: who sees the tag and this has a damaged word before him.
        if let Some(changing) = self.changing {
            changing.store(0, Release);
        }
    }
}

/// Whether this process refers to no shared object.
pub(crate) fn holds_nothing() -> bool {
    held().counts.is_empty()
}

impl Held {
    /// One more of what is already held; false when it is not.
    pub(super) fn again(&mut self, handle: Handle) -> bool {
        match self.counts.get_mut(&handle.0) {
            Some((count, _)) => {
                *count += 1;
                true
            }
            None => false,
        }
    }

    /// One less: the entry to strike out when it was the last.
    pub(super) fn one_less(&mut self, handle: Handle) -> Option<&'static AtomicU64> {
        let Entry::Occupied(mut found) = self.counts.entry(handle.0) else {
            return None;
        };
        found.get_mut().0 -= 1;
        (found.get().0 == 0).then(|| found.remove().1)
    }

    /// An empty entry for something not yet held.
    pub(super) fn reserve(&mut self, arena: &Arena, me: Owner) -> Result<&'static AtomicU64> {
        if self.empty.is_empty() {
            self.empty = arena.add_chunk(me)?;
        }
        self.empty.pop().ok_or(Error::Corrupt("holdings"))
    }

    /// The entry has been filled.
    pub(super) fn entered(&mut self, handle: Handle, entry: &'static AtomicU64) {
        self.counts.insert(handle.0, (1, entry));
    }

    /// The entry is empty (again).
    pub(super) fn give_back(&mut self, entry: &'static AtomicU64) {
        self.empty.push(entry);
    }
}

/// What the arena knows of the holdings of the process in a roll slot.
#[repr(C)]
struct Directory {
    /// `owner | number of the first chunk's cell + 1`.
    chunks: AtomicU64,
    /// Where in the arena the entry is that the tag of this process, if there is one, is about; 0 when there is none.
    changing: AtomicU64,
}

impl Directory {
    fn owner(&self) -> Option<Owner> {
        Owner::from_bits((self.chunks.load(Acquire) >> 32) as u32)
    }
}

/// The tag of a process: its roll slot + 1.
pub(crate) fn tag_of(owner: Owner) -> u32 {
    owner.slot() as u32 + 1
}

impl Arena {
    fn directory_of(&self, slot: usize) -> Result<&'static Directory> {
        // SAFETY: the table's type; what is given out is committed.
        let all: &'static [Directory] = unsafe { self.table(Table::Holdings) };
        let directory = all.get(slot).ok_or(Error::Corrupt("roll slot"))?;
        let end = (slot + 1) * size_of::<Directory>();
        self.ensure(Table::Holdings, end as u64, "holdings")?;
        Ok(directory)
    }

    /// The process behind a tag, as far as it has holdings.
    pub(crate) fn tagged(&self, tag: u32) -> Option<Owner> {
        self.directory_of(tag.checked_sub(1)? as usize).ok()?.owner()
    }

    /// Have this process in the directory, so that others know its tag, and look for its holdings.
    pub(super) fn enrol(&self, me: Owner) -> Result<()> {
        let directory = self.directory_of(me.slot())?;
        if directory.owner() == Some(me) {
            return Ok(());
        }
        // The slot's previous holder died and was not reclaimed to the end.
        if let Some(dead) = directory.owner().filter(|dead| dead.slot() == me.slot()) {
            crate::reclaim::reclaim(dead)?;
        }
        let bits = directory.chunks.load(Acquire);
        if directory.owner() != Some(me) {
            // If it fails, another thread of ours was first.
            let mine = u64::from(me.to_bits()) << 32;
            let _ = directory.chunks.compare_exchange(bits, mine, AcqRel, Relaxed);
        }
        Ok(())
    }

    /// Say which of the holdings of an enrolled process is about to change, as long as the answer lives.
    pub(super) fn announce(&self, owner: Owner, entry: &AtomicU64) -> Tagging {
        let alone = local().tagging.lock().unwrap_or_else(PoisonError::into_inner);
        let changing = self
            .directory_of(owner.slot())
            .ok()
            .map(|directory| &directory.changing);
        if let Some(changing) = changing {
            changing.store(self.offset_of(entry), Release);
        }
        Tagging {
            changing,
            _alone: alone,
        }
    }

    /// What the entry says that a process is changing: 0 is nothing yet, or nothing any more. `None` if it changes none.
    fn changing(&self, owner: Owner) -> Option<u64> {
        let offset = self.directory_of(owner.slot()).ok()?.changing.load(Acquire);
        let entry = self.at(offset, 8).filter(|_| offset != 0 && offset % 8 == 0)?;
        // SAFETY: a word of the mapping, aligned; all that an entry can lie in is atomic words.
        Some(unsafe { entry.cast::<AtomicU64>().as_ref() }.load(Acquire))
    }

    /// Whether what the dead process was changing when it died says `handle`.
    pub(super) fn had_entered(&self, dead: Owner, handle: Handle) -> bool {
        self.changing(dead) == Some(handle.0)
    }

    /// Whether this process may be the one who has a count of `handle` tagged at this moment.
    pub(super) fn may_be_tagging(&self, owner: Owner, handle: Handle) -> bool {
        self.changing(owner)
            .is_some_and(|entry| entry == 0 || entry == handle.0)
    }

    fn add_chunk(&self, me: Owner) -> Result<Vec<&'static AtomicU64>> {
        self.enrol(me)?;
        let directory = &self.directory_of(me.slot())?.chunks;
        let first = directory.load(Acquire);
        let class = class_of(CHUNK).ok_or(Error::Corrupt("chunk size"))?;
        let (cell, _) = self.alloc_cell(class, me)?;
        write_note(&cell, self.births() as u32, 0);
        let words = chunk_words(&cell);
        words[0].store(first & u64::from(u32::MAX), Relaxed);
        for entry in &words[1..] {
            entry.store(0, Relaxed);
        }
        // DEATH: before this store the cell is an ordinary one of ours, and freed as such.
        directory.store(u64::from(me.to_bits()) << 32 | u64::from(cell.index + 1), Release);
        Ok(words[1..].iter().collect())
    }

    /// All entries of a process, full and empty.
    pub(crate) fn entries_of(&self, owner: Owner) -> Vec<&'static AtomicU64> {
        let mut entries = Vec::new();
        let Ok(directory) = self.directory_of(owner.slot()) else {
            return entries;
        };
        let bits = directory.chunks.load(Acquire);
        if bits >> 32 != u64::from(owner.to_bits()) {
            return entries;
        }
        let mut next = bits as u32;
        // A damaged chain must not go round for ever.
        for _ in 0..=self.slab_count() * 64 {
            let Some(cell) = next.checked_sub(1).and_then(|index| self.cell(index)) else {
                break;
            };
            let state = Word::decode(cell.word.load(Acquire)).state;
            if state != State::Owned(owner) || (cell.size as usize) < CHUNK {
                break;
            }
            let words = chunk_words(&cell);
            entries.extend(&words[1..]);
            next = words[0].load(Relaxed) as u32;
        }
        entries
    }

    /// The holdings of a process are no more: its chunks are ordinary cells of its own now.
    pub(crate) fn forget_entries(&self, owner: Owner) {
        if let Ok(directory) = self.directory_of(owner.slot()) {
            let bits = directory.chunks.load(Acquire);
            if bits >> 32 == u64::from(owner.to_bits()) {
                let _ = directory.chunks.compare_exchange(bits, 0, AcqRel, Relaxed);
            }
        }
    }
}

fn chunk_words(cell: &Cell) -> &'static [AtomicU64] {
    // SAFETY: a cell of at least CHUNK bytes (checked by the callers), in the mapping, 64-aligned, and used as words while it is a chunk.
    unsafe { std::slice::from_raw_parts(cell.ptr.cast(), ENTRIES) }
}
