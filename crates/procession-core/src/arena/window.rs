//! Where the arena lies in this process's address space, and how much of that is mapped.
//!
//! Every offset lies at `base + offset`, but the range is not reserved: *windows* of it are mapped as they are needed,
//! so that limits of the address space and `mlockall` count what is used. `base` lies in the middle of a large hole,
//! where other mappings do not come to lie. A window that another mapping overlaps all the same is not available.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::hooks::hooks;
use crate::sys::limits;
use crate::sys::memory::{self, FileId, Mapped};
use crate::{Error, Result};

/// Bytes that are mapped at once; a multiple of every page size in use.
const WINDOW: u64 = 4 << 20;
/// Bytes of a limited address space that are left to the rest of the program: windows stay mapped, so it would never
/// get them back.
const RESERVE: u64 = 16 << 20;

pub(super) struct Windows {
    base: NonNull<u8>,
    file: FileId,
    size: u64,
    /// One bit for each window that is mapped. Set after the mapping was made, so a child of fork, or another thread,
    /// may find a mapped window without its bit.
    mapped: Box<[AtomicU64]>,
}

// SAFETY: the address never changes; what lies there is atomics, and memory that owner words give to one user at a
// time.
unsafe impl Send for Windows {}
// SAFETY: as above; windows are mapped by atomic steps.
unsafe impl Sync for Windows {}

impl Windows {
    /// Choose an address range of `size` bytes, none of which is mapped yet.
    pub fn place(file: FileId, size: u64) -> Result<Self> {
        let base = memory::find_hole(size, WINDOW).ok_or(Error::Exhausted {
            what: "the address space of the arena",
            wanted: size,
        })?;
        let words = (size / WINDOW).div_ceil(64) as usize;
        Ok(Self {
            base,
            file,
            size,
            mapped: (0..words).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Address of a range, mapped or not. `None` if it does not lie within.
    #[inline]
    pub fn range(&self, offset: u64, length: u64) -> Option<NonNull<u8>> {
        let end = offset.checked_add(length)?;
        // SAFETY: offset and end lie within the range.
        (end <= self.size).then(|| unsafe { self.base.add(offset as usize) })
    }

    /// Whether a range that lies within is mapped.
    #[inline]
    pub fn covers(&self, offset: u64, length: u64) -> bool {
        let (first, last) = (offset / WINDOW, (offset + length.max(1) - 1) / WINDOW);
        (first..=last).all(|window| self.is_mapped(window))
    }

    #[inline]
    fn is_mapped(&self, window: u64) -> bool {
        // SYNC: none is needed: a thread that sees the bit can also use the mapping, which is the whole process's.
        let word = self.mapped.get(window as usize / 64);
        word.is_some_and(|word| word.load(Relaxed) & 1 << (window % 64) != 0)
    }

    /// Map those windows of a range that are not mapped yet. The range lies within. Several threads may do this at
    /// once.
    #[cold]
    pub fn map(&self, fd: &Result<BorrowedFd<'_>>, offset: u64, length: u64) -> Result<()> {
        let end = (offset + length).div_ceil(WINDOW);
        let mut window = offset / WINDOW;
        while window < end {
            let first = window;
            while window < end && !self.is_mapped(window) {
                window += 1;
            }
            if window > first && self.map_run(fd, first, window)? == Mapped::Other {
                // Another thread is mapping some of these, or the parent of this process had mapped them.
                (first..window).try_for_each(|window| self.map_one(fd, window))?;
            }
            window += 1;
        }
        Ok(())
    }

    fn map_one(&self, fd: &Result<BorrowedFd<'_>>, window: u64) -> Result<()> {
        if self.is_mapped(window) || self.map_run(fd, window, window + 1)? == Mapped::Done {
            return Ok(());
        }
        self.find_mapped(window, window + 1).map(drop)
    }

    /// Note windows that are mapped already. An error if one of them is not.
    fn find_mapped(&self, first: u64, end: u64) -> Result<Mapped> {
        let is_ours = |window: u64| memory::is_mapping_of(self.file, self.address(window), WINDOW, window * WINDOW);
        if !(first..end).all(is_ours) {
            return Err(exhausted());
        }
        self.note(first, end);
        Ok(Mapped::Done)
    }

    fn map_run(&self, fd: &Result<BorrowedFd<'_>>, first: u64, end: u64) -> Result<Mapped> {
        let (at, offset, length) = (self.address(first), first * WINDOW, (end - first) * WINDOW);
        // A reclaim uses all of it: a cell that it cannot read is lost for good.
        let reserve = if (hooks().is_reclaiming)() { 0 } else { RESERVE };
        if limits::address_space_left().is_some_and(|left| left < length + reserve) {
            // Another thread, or the parent of this process, may have mapped all of it.
            return self.find_mapped(first, end);
        }
        let done = match fd {
            Ok(fd) => memory::map_at(*fd, at, length, offset),
            // The first window is always mapped, except at the very first call.
            Err(_) if self.is_mapped(0) => memory::map_again(self.base, at, length, offset),
            Err(_) => return Err(exhausted()),
        }
        .map_err(|_| exhausted())?;
        if done == Mapped::Done {
            self.note(first, end);
        }
        Ok(done)
    }

    fn address(&self, window: u64) -> NonNull<u8> {
        // SAFETY: the callers' windows lie within the range.
        unsafe { self.base.add((window * WINDOW) as usize) }
    }

    fn note(&self, first: u64, end: u64) {
        for window in first..end {
            self.mapped[window as usize / 64].fetch_or(1 << (window % 64), Release);
        }
    }
}

fn exhausted() -> Error {
    Error::Exhausted {
        what: "address space for shared memory",
        wanted: WINDOW,
    }
}

impl Drop for Windows {
    /// Only an arena that did not become the family's is ever dropped.
    fn drop(&mut self) {
        for window in (0..self.size / WINDOW)
            .filter(|&window| self.mapped[window as usize / 64].load(Acquire) & 1 << (window % 64) != 0)
        {
            // SAFETY: mapped by us, and nothing else has seen it.
            unsafe { memory::unmap(self.address(window), WINDOW) };
        }
    }
}
