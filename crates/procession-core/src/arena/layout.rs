//! Where everything lies in the arena: the header, the fixed tables, and how both scale with the arena's size.
//!
//! Every number here follows from the size alone, so that no process has to trust offsets written by another.

use std::sync::atomic::{AtomicU32, AtomicU64};

use super::class::CLASSES;
use super::descriptor::Descriptor;
use super::directory::Directory;

/// The first word of every arena.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"process1");
/// Changes whenever the layout or the meaning of a word changes: processes of different builds cannot share an arena.
pub(crate) const VERSION: u32 = 8;
/// Tables begin and are committed in multiples of this; a multiple of every page size in use.
pub(crate) const GRAIN: u64 = 64 << 10;
/// Largest size of an arena: cell numbers fit their words.
pub(crate) const MAX_SIZE: u64 = 1 << 40;
/// Smallest size of an arena.
pub(crate) const MIN_SIZE: u64 = 64 << 20;
/// Size of an entry of the process table.
pub(crate) const PROCESS_ENTRY: u64 = 512;

/// Largest size of a process's ring of trace events.
const MAX_RING: u64 = 256 << 10;
/// Where the [`TraceWords`] lie: on a page of their own, in the header's grain.
pub(crate) const TRACE_WORDS: u64 = 4096;
/// Words of the bitmap of rings, a bit for each process slot.
const RING_WORDS: usize = super::word::MOST_SLOTS.div_ceil(64);

const MAX_PROCESSES: u64 = super::word::MOST_SLOTS as u64;
/// Largest number of slabs in an arena of any size.
pub(super) const MAX_SLABS: u64 = 1 << 22;

/// The first page of the arena. Its creator writes it once, except for the counters, locks and hints.
#[repr(C, align(64))]
pub(crate) struct Header {
    /// [`MAGIC`]: written last, so that a half-made arena is not taken for a complete one.
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// Unused.
    pub reserved: AtomicU32,
    /// Size in bytes, a power of two.
    pub size: AtomicU64,
    /// The family's random identity, low half first.
    pub id: [AtomicU64; 2],
    /// Birth number of the process born last. The process table advances it when it claims or reserves an entry.
    pub births: AtomicU64,
    /// How many deaths were reclaimed so far.
    pub deaths: AtomicU64,
    /// Hint: how many cells are deferred.
    pub deferred: AtomicU64,
    /// The deferred count above which a drop sweeps (hint).
    pub sweep_at: AtomicU64,
    /// Words for the process table's own use (hints, high-water mark, ...).
    pub process_table: [AtomicU64; 8],
    /// How many bytes of each fixed table are committed, by [`FixedTable`].
    pub committed: [AtomicU64; FixedTable::COUNT],

    /// Slabs made so far; raising the number publishes a new slab.
    pub slab_count: AtomicU64,
    /// Hint: bytes that are committed for large cells that are not in use.
    pub idle: AtomicU64,
    /// When a process last looked for idle memory, in milliseconds.
    pub looked: AtomicU64,
    /// Hint: for each class, when one of its slabs was last used again soon after it became idle, in milliseconds.
    pub used_again: [AtomicU64; CLASSES],
    /// How many bytes of the file may be committed. Never changes.
    pub budget: AtomicU64,
    /// What the family does about deadlocks: a number of `sync::deadlock`. Zero: not decided yet.
    pub deadlocks: AtomicU64,
}

/// What an observer and the family share about a trace. Zero-filled: no trace.
#[repr(C)]
pub(crate) struct TraceWords {
    /// The process that traces the family; zero: none does. Written by that process alone, from outside.
    pub tracer: AtomicU32,
    /// Events that were lost because their process had no ring.
    pub lost: AtomicU64,
    /// One bit for each process slot: its ring is committed.
    pub rings: [AtomicU64; RING_WORDS],
}

const _: () = assert!(size_of::<Header>() as u64 <= TRACE_WORDS);
const _: () = assert!(TRACE_WORDS + size_of::<TraceWords>() as u64 <= GRAIN);

/// The fixed tables, in the order in which they lie behind the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FixedTable {
    /// [`PROCESS_ENTRY`] bytes for each process.
    Processes,
    /// For each process slot, the [`Directory`]: its reference log, the change under way, and its footprint.
    Directories,
    /// Slab descriptors.
    Slabs,
    /// For each class, one bit for each slab that may have a free cell.
    Partial,
    /// One bit for each slab that may have deferred or awaited cells.
    Marks,
    /// For each process slot, its ring of trace events: see [`Layout::ring`].
    Rings,
}

impl FixedTable {
    pub(crate) const COUNT: usize = 6;
    const ALL: [Self; Self::COUNT] = [
        Self::Processes,
        Self::Directories,
        Self::Slabs,
        Self::Partial,
        Self::Marks,
        Self::Rings,
    ];
}

/// Offsets and capacities for an arena of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Size of the whole arena.
    pub size: u64,
    /// Entries of the process table.
    pub processes: u64,
    /// Slab descriptors.
    pub slabs: u64,
    /// Bytes of each ring of trace events, a power of two.
    pub ring: u64,
    /// Where the data area begins.
    pub data: u64,
    offsets: [u64; FixedTable::COUNT],
    lengths: [u64; FixedTable::COUNT],
}

impl Layout {
    /// The layout of an arena of `size` bytes: a power of two from [`MIN_SIZE`] to [`MAX_SIZE`].
    pub(crate) fn new(size: u64) -> Option<Self> {
        if !size.is_power_of_two() || !(MIN_SIZE..=MAX_SIZE).contains(&size) {
            return None;
        }
        let processes = (size / 512 / PROCESS_ENTRY).min(MAX_PROCESSES);
        let slabs = (size / (64 << 10)).min(MAX_SLABS);
        let mut layout = Self {
            size,
            processes,
            slabs,
            // A sixteenth of a small arena. There are as many processes as a power of two, or one less.
            ring: (size / processes.next_power_of_two() / 16).min(MAX_RING),
            data: 0,
            offsets: [0; FixedTable::COUNT],
            lengths: [0; FixedTable::COUNT],
        };
        let mut end = GRAIN; // the header has the first grain
        for table in FixedTable::ALL {
            let length = match table {
                FixedTable::Processes => processes * PROCESS_ENTRY,
                FixedTable::Directories => processes * size_of::<Directory>() as u64,
                FixedTable::Slabs => slabs * size_of::<Descriptor>() as u64,
                FixedTable::Partial => slabs / 8 * CLASSES as u64,
                FixedTable::Marks => slabs / 8,
                FixedTable::Rings => processes * layout.ring,
            };
            layout.offsets[table as usize] = end;
            layout.lengths[table as usize] = length;
            end += length.next_multiple_of(GRAIN);
        }
        layout.data = end;
        Some(layout)
    }

    /// Where a table lies: offset and length in bytes.
    pub(crate) fn table(&self, table: FixedTable) -> (u64, u64) {
        (self.offsets[table as usize], self.lengths[table as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_follow_each_other_and_leave_most_of_the_arena_to_data() {
        for shift in 26..=40 {
            let layout = Layout::new(1 << shift).unwrap();
            assert!(layout.ring.is_power_of_two() && layout.ring >= 1024, "{layout:?}");
            let mut end = GRAIN;
            for table in FixedTable::ALL {
                let (offset, length) = layout.table(table);
                assert!(
                    offset >= end && offset % GRAIN == 0 && length > 0,
                    "{table:?} of {layout:?}"
                );
                end = offset + length;
            }
            assert!(layout.data >= end);
            assert!(layout.data < layout.size / 5, "{layout:?}");
        }
        assert!(size_of::<Header>() as u64 <= GRAIN);
    }

    #[test]
    fn odd_sizes_have_no_layout() {
        for size in [0, 1, MIN_SIZE - 1, MIN_SIZE + 1, MIN_SIZE / 2, MAX_SIZE * 2, u64::MAX] {
            assert_eq!(Layout::new(size), None);
        }
    }
}
