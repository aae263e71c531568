//! An arena around the engine's own files for slabs and for what is committed of them.

use crate::futex::{AtomicU64, Ordering::Acquire};
use crate::words::zeroed;
use crate::Result;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Arc;

pub mod layout {
    pub const GRAIN: u64 = 64 << 10;

    #[derive(Clone, Copy)]
    pub enum FixedTable {
        Slabs,
        Partial,
        Marks,
    }
}

pub mod footprint {
    pub fn is_list(_cell: &super::slab::Cell) -> bool {
        false
    }
}

pub mod idle {
    /// A model ignores how long a slab has been idle.
    #[derive(Debug, Default)]
    pub struct Idle(std::sync::atomic::AtomicU64);
}

pub mod warm {
    pub fn charge(_bytes: u64, _what: &'static str) -> crate::Result<()> {
        Ok(())
    }
}

#[path = "../../src/arena/class.rs"]
pub mod class;
#[path = "../../src/arena/convert.rs"]
pub mod convert;
#[path = "../../src/arena/descriptor.rs"]
pub mod descriptor;
#[path = "../../src/arena/extent.rs"]
pub mod extent;
#[path = "../../src/arena/partial.rs"]
pub mod partial;
#[path = "../../src/arena/slab.rs"]
pub mod slab;
#[path = "../../src/arena/word.rs"]
pub mod word;

use descriptor::Descriptor;
use layout::FixedTable;
use slab::{Cell, Slab};

/// The number of slabs that fit.
const SLABS: usize = 2;
const DATA: u64 = 1 << 20;
/// Each slab begins in a region of its own.
const REGION: u64 = 256 << 10;

#[derive(Default)]
pub struct Header {
    pub slab_count: AtomicU64,
}

pub struct Layout {
    pub data: u64,
    pub slabs: u64,
    pub size: u64,
}

/// Cells are only addresses here; no thread reads or writes at them.
pub struct Arena {
    header: Arc<Header>,
    slabs: Arc<[Descriptor; SLABS]>,
    partial: Arc<[AtomicU64; 8 * class::CLASSES]>,
    /// Whether each slab is committed: the kernel's knowledge, which has an order of its own.
    pages: [AtomicBool; SLABS],
}

// SAFETY: atomics.
unsafe impl Sync for Arena {}
// SAFETY: as above.
unsafe impl Send for Arena {}

#[allow(clippy::unused_self)]
impl Arena {
    pub fn new() -> Self {
        Self {
            header: zeroed(),
            slabs: zeroed(),
            partial: zeroed(),
            pages: [const { AtomicBool::new(false) }; SLABS],
        }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn layout(&self) -> &Layout {
        &Layout {
            data: DATA,
            slabs: SLABS as u64,
            size: 1 << 30,
        }
    }

    /// # Safety
    /// `T` is the table's type.
    pub unsafe fn table<T>(&self, table: FixedTable) -> &'static [T] {
        let (start, bytes) = match table {
            FixedTable::Slabs => (Arc::as_ptr(&self.slabs).cast::<T>(), size_of_val(&*self.slabs)),
            FixedTable::Marks => unreachable!("only reclaimers read marks"),
            FixedTable::Partial => (Arc::as_ptr(&self.partial).cast::<T>(), size_of_val(&*self.partial)),
        };
        // SAFETY: by the caller's promise the table holds `T`s; a model ends before its arena.
        unsafe { std::slice::from_raw_parts(start, bytes / size_of::<T>()) }
    }

    pub fn bounded(&self, count: &AtomicU64, _table: FixedTable, _entry: usize) -> u64 {
        count.load(Acquire)
    }

    pub fn range(&self, offset: u64, _length: u64) -> Option<NonNull<u8>> {
        NonNull::new(std::ptr::without_provenance_mut(offset as usize))
    }

    pub fn reach(&self, offset: u64, length: u64) -> Result<NonNull<u8>> {
        Ok(self.range(offset, length).expect("not null"))
    }

    pub fn is_reached(&self, _offset: u64, _length: u64) -> bool {
        true
    }

    pub fn reach_slabs(&self, _slabs: u64) -> Result<()> {
        Ok(())
    }

    pub fn reached(&self) -> u64 {
        0
    }

    pub fn with_memory<T>(&self, _what: &'static str, mut allocate: impl FnMut(bool) -> Result<T>) -> Result<T> {
        allocate(true)
    }

    pub fn add_to_footprint(&self, _slab: u32, _me: crate::ids::Owner) {}

    pub fn ensure(&self, _table: FixedTable, _bytes: u64, _what: &'static str) -> Result<()> {
        Ok(())
    }

    pub fn note_used(&self, _cell: &Cell) {}

    pub fn note_freed(&self, _cell: &Cell) {}

    pub fn note_empty(&self, _slab: &Slab) {}

    pub fn commit(&self, offset: u64, _length: u64, _what: &'static str) -> Result<()> {
        self.pages[((offset - DATA) / REGION) as usize].store(true, SeqCst);
        Ok(())
    }

    pub fn punch(&self, offset: u64, _length: u64) -> Result<()> {
        self.pages[((offset - DATA) / REGION) as usize].store(false, SeqCst);
        Ok(())
    }

    /// Whether a cell is committed.
    pub fn is_committed(&self, cell: &Cell) -> bool {
        self.pages[cell.index as usize / 64].load(SeqCst)
    }
}
