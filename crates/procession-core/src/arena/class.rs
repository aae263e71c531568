//! Size classes: how large the cells of each are, and how many of them a slab has.

/// Sizes of small cells; the last two are those of queue segments and of parts of dictionaries' tables, which share
/// their classes with nothing else.
const SMALL: [u32; BUCKETS + 1] = [
    64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 4608, 4096,
];
/// The class of queue segments.
pub(crate) const SEGMENTS: usize = 18;
/// The class of the parts of dictionaries' tables.
pub(crate) const BUCKETS: usize = 19;
/// The first class of large cells: powers of two. Only the pages that a block needs are committed of them.
pub(crate) const FIRST_LARGE: usize = BUCKETS + 1;
/// Number of size classes.
pub(crate) const CLASSES: usize = FIRST_LARGE + 24;
/// The largest payload of a small cell.
pub(crate) const LARGEST_SMALL: usize = 32 << 10;
/// Log2 of the size of the first large class.
const FIRST_LOG: u32 = 16;
/// Largest slab of small cells, except for the slab of 64 segments.
const LARGEST_SLAB: u64 = 256 << 10;
/// Size of a slab of large cells, unless it has a single cell.
const LARGE_SLAB: u64 = 1 << 20;
/// Largest number of cells in a slab of large ones.
pub(crate) const LARGE_CELLS: usize = 16;

const CLASS_OF: [u8; LARGEST_SMALL / 64 + 1] = {
    let mut table = [0; LARGEST_SMALL / 64 + 1];
    let mut granules = 0;
    let mut class = 0;
    while granules < table.len() {
        while (SMALL[class] as usize) < granules * 64 {
            class += 1;
        }
        table[granules] = class as u8;
        granules += 1;
    }
    table
};

/// The class of cells that hold `len` bytes, if there is one.
pub(crate) fn class_of(len: usize) -> Option<usize> {
    if let Some(&class) = CLASS_OF.get(len.div_ceil(64)) {
        return Some(usize::from(class));
    }
    let log = len.checked_next_power_of_two()?.ilog2().max(FIRST_LOG);
    Some(FIRST_LARGE + (log - FIRST_LOG) as usize).filter(|&class| class < CLASSES)
}

/// Bytes of a cell.
pub(crate) fn size_of_cell(class: usize) -> u64 {
    match SMALL.get(class) {
        Some(&size) => u64::from(size),
        None => 1 << (FIRST_LOG as usize + class - FIRST_LARGE),
    }
}

/// Cells of a slab.
pub(crate) fn cells_of(class: usize) -> u32 {
    let size = size_of_cell(class);
    match class {
        SEGMENTS | BUCKETS => 64,
        FIRST_LARGE.. => (LARGE_SLAB / size).clamp(1, LARGE_CELLS as u64) as u32,
        _ => ((LARGEST_SLAB / size) as u32).next_power_of_two().clamp(8, 64),
    }
}

/// Bytes of a slab.
pub(crate) fn bytes_of(class: usize) -> u64 {
    size_of_cell(class) * u64::from(cells_of(class))
}

/// One bit for each cell of a slab.
pub(crate) fn mask_of(class: usize) -> u64 {
    u64::MAX >> (64 - cells_of(class))
}

/// Whether all slabs of this class have the same size as those of some other classes, and can become theirs.
pub(crate) fn is_convertible(class: usize) -> bool {
    is_large(class) && bytes_of(class) == LARGE_SLAB
}

pub(crate) fn is_large(class: usize) -> bool {
    class >= FIRST_LARGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_are_for_and_waste_at_most_half() {
        for len in (0..=LARGEST_SMALL).chain((20..400).map(|n| n * 4999)) {
            let class = class_of(len).unwrap();
            assert!(class != SEGMENTS && class != BUCKETS && size_of_cell(class) >= len as u64);
            let smaller = if class == FIRST_LARGE {
                SEGMENTS - 1
            } else {
                class.wrapping_sub(1)
            };
            assert!(class == 0 || size_of_cell(smaller) < len as u64);
        }
        assert_eq!(class_of(1 << 39), Some(CLASSES - 1));
        assert_eq!(class_of((1 << 39) + 1), None);
        assert_eq!(class_of(usize::MAX), None);
    }

    #[test]
    fn slabs_are_whole_pages() {
        for class in 0..CLASSES {
            assert!((1..=64).contains(&cells_of(class)) && (is_large(class) || cells_of(class) >= 8));
            assert!(!is_large(class) || cells_of(class) as usize <= LARGE_CELLS);
            assert_eq!(bytes_of(class) % 4096, 0);
            assert_eq!(mask_of(class).count_ones(), cells_of(class));
        }
    }
}
