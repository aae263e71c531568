//! What an observer of another family reads of the arena: copies of its structures, decoded without an arena of its
//! own. Leaves it to `inspect` where the copies come from.

use super::class::{cells_of, size_of_cell};
use super::descriptor::{split, Descriptor};
use super::extent::sure_bytes;
use super::label::LabelParts;
use super::word::{CellNote, OwnerWord};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::class::bytes_of;
pub(crate) use super::descriptor::Descriptor as SlabDescriptor;
pub(crate) use super::label::{StoredCreationSite, StoredName};
pub(crate) use super::layout::{FixedTable, Header, Layout, TraceWords, MAGIC, TRACE_WORDS, VERSION};
pub(crate) use super::word::CellState;

/// A structure of the arena that may be copied byte by byte.
///
/// # Safety
/// Any bytes must be a valid value: it consists of atomics, and of structures and arrays of them. Nothing in it is
/// dropped.
pub(crate) unsafe trait AnyBits: Sized {}

// SAFETY: atomics only.
unsafe impl AnyBits for Header {}
// SAFETY: atomics only.
unsafe impl AnyBits for TraceWords {}
// SAFETY: atomics only.
unsafe impl AnyBits for Descriptor {}
// SAFETY: atomics only.
unsafe impl AnyBits for StoredName {}
// SAFETY: atomics only.
unsafe impl AnyBits for StoredCreationSite {}
// SAFETY: an atomic.
unsafe impl AnyBits for AtomicU64 {}
// SAFETY: an array of what may be copied.
unsafe impl<T: AnyBits, const N: usize> AnyBits for [T; N] {}

/// A cell in use, according to the copy of its slab's descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellSeen {
    /// Number of the cell in the arena.
    pub index: u32,
    pub generation: u32,
    pub state: CellState,
    /// Number of the object's kind; 0 for a block.
    pub kind: u8,
    /// Which parts the object's label has.
    pub label: LabelParts,
    /// Where it lies in the arena.
    pub offset: u64,
    /// Its committed bytes.
    pub bytes: u64,
    /// Its size class.
    pub class: usize,
}

impl Descriptor {
    /// The cells in use of the slab with this number. Nothing if the slab does not lie within the arena.
    pub(crate) fn cells_in_use(&self, slab: u32, layout: &Layout) -> Vec<CellSeen> {
        let Some((base, class)) = split(self.place.load(Relaxed)) else {
            return Vec::new();
        };
        let end = base.checked_add(bytes_of(class));
        if base < layout.data || end.is_none_or(|end| end > layout.size) {
            return Vec::new();
        }
        let size = size_of_cell(class);
        let used = |number: u32| {
            let note = CellNote::decode(self.notes[number as usize].load(Relaxed));
            let word = OwnerWord::decode(self.words[number as usize].load(Relaxed));
            let in_use = !matches!(word.state, CellState::Free | CellState::Spent);
            in_use.then(|| CellSeen {
                index: slab * 64 + number,
                generation: word.generation,
                state: word.state,
                kind: note.kind,
                label: LabelParts::from_bits(note.label),
                class,
                offset: base + u64::from(number) * size,
                bytes: if super::class::is_large(class) {
                    sure_bytes(&self.extents[number as usize % self.extents.len()]).min(size)
                } else {
                    size
                },
            })
        };
        (0..cells_of(class)).filter_map(used).collect()
    }

    /// Whether the cell is still what it was in an earlier copy.
    pub(crate) fn still_has(&self, cell: &CellSeen) -> bool {
        let number = cell.index as usize % 64;
        let word = OwnerWord::decode(self.words[number].load(Relaxed));
        let same = std::mem::discriminant(&word.state) == std::mem::discriminant(&cell.state);
        same && word.generation == cell.generation
            && CellNote::decode(self.notes[number].load(Relaxed)).kind == cell.kind
    }
}

/// Number and generation of the cell that a block's token names.
pub(crate) fn token_parts(token: u64) -> Option<(u32, u32)> {
    crate::ids::Handle::from_bits(token)?.split()
}

/// Whether it is a queue's segment.
pub(crate) fn is_segment(cell: &CellSeen) -> bool {
    cell.class == super::class::SEGMENTS
}
