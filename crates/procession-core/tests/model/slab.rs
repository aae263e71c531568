//! An arena of slabs alone, around the engine's own file of them.

use crate::futex::{AtomicU64, Ordering::Acquire};
use crate::roll::Owner;
use crate::words::zeroed;
use crate::Result;
use loom::sync::{Mutex, MutexGuard};
use std::ptr::NonNull;
use std::sync::Arc;

pub mod layout {
    pub const UNIT: u64 = 64 << 10;

    #[derive(Clone, Copy)]
    pub enum Table {
        Slabs,
        Partial,
    }
}

pub mod warm {
    pub fn charge(_bytes: u64, _what: &'static str) -> crate::Result<()> {
        Ok(())
    }
}

#[path = "../../src/arena/slab.rs"]
pub mod slab;
#[path = "../../src/arena/word.rs"]
pub mod word;

use layout::{Table, UNIT};
use slab::Descriptor;

/// Slabs there is room for.
const SLABS: usize = 2;

#[derive(Default)]
pub struct Header {
    pub slab_count: AtomicU64,
}

pub struct Layout {
    pub data: u64,
    pub slabs: u64,
    pub units: u64,
}

/// Cells are only addresses here: nobody looks into them.
pub struct Arena {
    header: Arc<Header>,
    slabs: Arc<[Descriptor; SLABS]>,
    partial: Arc<[AtomicU64; 8 * slab::CLASSES]>,
    memory: Mutex<()>,
}

// SAFETY: atomics and a lock.
unsafe impl Sync for Arena {}
// SAFETY: as above.
unsafe impl Send for Arena {}

impl Arena {
    pub fn new() -> Self {
        Self {
            header: zeroed(),
            slabs: zeroed(),
            partial: zeroed(),
            memory: Mutex::new(()),
        }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    #[allow(clippy::unused_self)]
    pub fn layout(&self) -> &Layout {
        &Layout {
            data: 1 << 20,
            slabs: SLABS as u64,
            units: 64,
        }
    }

    /// # Safety
    /// `T` is the table's type.
    pub unsafe fn table<T>(&self, table: Table) -> &'static [T] {
        let (start, bytes) = match table {
            Table::Slabs => (Arc::as_ptr(&self.slabs).cast::<T>(), size_of_val(&*self.slabs)),
            Table::Partial => (Arc::as_ptr(&self.partial).cast::<T>(), size_of_val(&*self.partial)),
        };
        // SAFETY: what lies there are `T`s by the caller's word; a model ends before its arena.
        unsafe { std::slice::from_raw_parts(start, bytes / size_of::<T>()) }
    }

    #[allow(clippy::unused_self)]
    pub fn bounded(&self, count: &AtomicU64, _table: Table, _entry: usize) -> u64 {
        count.load(Acquire)
    }

    #[allow(clippy::unused_self)]
    pub fn at(&self, offset: u64, _length: u64) -> Option<NonNull<u8>> {
        NonNull::new(std::ptr::without_provenance_mut(offset as usize))
    }

    pub fn with_memory<T>(&self, _what: &'static str, mut allocate: impl FnMut() -> Result<T>) -> Result<T> {
        allocate()
    }

    pub fn lock_memory(&self, _me: Owner) -> MutexGuard<'_, ()> {
        self.memory.lock().unwrap()
    }

    pub fn ensure(&self, _table: Table, _bytes: u64, _what: &'static str) -> Result<()> {
        Ok(())
    }

    pub fn unit_top(&self) -> u64 {
        0
    }

    pub fn forget_units(&self, _base: u64, _bytes: u64) -> Result<()> {
        Ok(())
    }

    pub fn commit(&self, _offset: u64, _length: u64, _what: &'static str) -> Result<()> {
        Ok(())
    }
}
