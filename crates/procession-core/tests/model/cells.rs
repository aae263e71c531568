//! Memory of queue segments: two slots each, so that their ends are reached often; reused at once, so that stale links
//! occur.

use crate::futex::{change_segments, segments, zeroed};
use crate::ids::Owner;
use crate::Result;
use std::sync::Arc;

pub const SEGMENT_BYTES: usize = 3 * 128;

#[repr(C, align(64))]
struct Memory([u8; SEGMENT_BYTES]);

#[allow(clippy::unnecessary_wraps)]
pub fn alloc_segment() -> Result<(u32, u32)> {
    Ok(change_segments(|all| {
        let index = all.free.pop().unwrap_or_else(|| {
            all.cells.push((Arc::into_raw(zeroed::<Memory>()) as usize, 1));
            all.cells.len() as u32 - 1
        });
        (index, all.cells[index as usize].1)
    }))
}

pub fn segment_ptr(index: u32) -> Option<*mut u8> {
    segments(|all| all.cells.get(index as usize).map(|&(address, _)| address as *mut u8))
}

/// A stale generation does nothing.
pub fn free_segment(index: u32, generation: u32) {
    change_segments(|all| {
        let cell = &mut all.cells[index as usize];
        if cell.1 == generation {
            cell.1 += 1;
            all.free.push(index);
        }
    });
}

/// The number of segments that were not given back.
pub fn in_use() -> u32 {
    segments(|all| (all.cells.len() - all.free.len()) as u32)
}

/// The owner of a segment matters only to survivors; no model cleans up after a process that dies while it links one.
pub fn hand_over(_index: u32, _generation: u32, _owner: Owner) {}

/// As [`hand_over`].
pub fn claim(_index: u32, _generation: u32, _me: Owner) {}
