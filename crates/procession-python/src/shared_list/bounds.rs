//! Slices of lists of any length.

use pyo3::prelude::*;
use pyo3::types::PySlice;
use std::ops::Range;

/// The bounds of a slice, where a slice of Python's list with these bounds has its items.
#[derive(Clone, Copy)]
pub struct Bounds {
    start: isize,
    end: isize,
    pub step: isize,
}

impl Bounds {
    pub fn of(slice: &Bound<'_, PySlice>) -> PyResult<Self> {
        let (mut start, mut end, mut step) = (0, 0, 0);
        // SAFETY: the object is a slice, and the interpreter's lock is held.
        let done = unsafe { pyo3::ffi::PySlice_Unpack(slice.as_ptr(), &raw mut start, &raw mut end, &raw mut step) };
        if done < 0 {
            return Err(PyErr::fetch(slice.py()));
        }
        Ok(Self { start, end, step })
    }

    /// The numbers of the items in a list of this length: the first, the step, and how many there are.
    pub fn in_list(self, len: u64) -> (u64, i64, u64) {
        let len = len as i128;
        let (start, end, step) = (self.start as i128, self.end as i128, self.step as i128);
        let (low, high) = if step < 0 { (-1, len - 1) } else { (0, len) };
        let within = |bound: i128| (if bound < 0 { bound + len } else { bound }).clamp(low, high);
        let (start, end) = (within(start), within(end));
        let distance = if step < 0 { start - end } else { end - start };
        let count = if distance <= 0 {
            0
        } else {
            (distance - 1) / step.abs() + 1
        };
        (start.max(0) as u64, step as i64, count as u64)
    }

    /// The items from the first to the last.
    pub fn run(self, len: u64) -> Range<u64> {
        let (first, step, count) = self.in_list(len);
        let Some(steps) = count.checked_sub(1) else {
            return first..first;
        };
        let last = first.wrapping_add_signed(step.wrapping_mul(steps as i64));
        first.min(last)..first.max(last) + 1
    }
}
