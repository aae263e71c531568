//! Which parts of the fixed tables belong to a slab: its descriptor, its mark, and its bit among the slabs of its class
//! that may have a free cell. Leaves to `layout` where the tables lie.

use super::class::CLASSES;
use super::descriptor::Descriptor;
use super::layout::FixedTable;

/// How much of each table belongs to the first `slabs` slabs.
pub(super) fn table_bytes(slabs: u64) -> [(FixedTable, u64); 3] {
    let word = partial_index(CLASSES - 1, slabs.saturating_sub(1) as usize / 64) as u64;
    [
        (FixedTable::Slabs, slabs * size_of::<Descriptor>() as u64),
        (FixedTable::Partial, (word + 1) * 8),
        (FixedTable::Marks, slabs.div_ceil(64) * 8),
    ]
}

/// Index of a word of the partial table. Eight words (one cache line) of a class are followed by eight of the next, so
/// that a prefix of the table serves the slabs that exist.
pub(super) fn partial_index(class: usize, word: usize) -> usize {
    (word / 8 * CLASSES + class) * 8 + word % 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_words_are_all_different() {
        let mut seen = std::collections::HashSet::new();
        for class in 0..CLASSES {
            for word in 0..64 {
                assert!(seen.insert(partial_index(class, word)));
            }
        }
        assert_eq!(seen.len(), seen.iter().max().unwrap() + 1);
    }
}
