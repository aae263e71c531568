//! A bound on what is read for a snapshot, so that a damaged arena does not keep its observer.

use std::cell::Cell;

/// How many chunks and segments of all objects are read. The lists of damaged or hostile memory may share their parts.
const MOST_PARTS: u32 = 65_536;

/// How many more parts of objects may be read for a snapshot.
pub(super) struct Budget(Cell<u32>);

impl Default for Budget {
    fn default() -> Self {
        Self::of(MOST_PARTS)
    }
}

impl Budget {
    pub(super) fn of(parts: u32) -> Self {
        Self(Cell::new(parts))
    }

    /// Take `number` of them. False: there are not so many left.
    pub(super) fn take(&self, number: u32) -> bool {
        let left = self.0.get().checked_sub(number);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}
