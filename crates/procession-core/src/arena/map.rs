//! The mapped arena: made or attached once per process, then only read.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::layout::{Header, TraceWords, GRAIN, MAGIC, MAX_SIZE, MIN_SIZE, PROCESS_ENTRY, TRACE_WORDS, VERSION};
use super::window::Windows;
use super::{FixedTable, Layout};
use crate::hooks::hooks;
use crate::sys::memory::{self, FileId};
use crate::{Error, Result};

/// Environment variable that says how many bytes a family may have at most: a number with an optional suffix K, M, G or
/// T.
const SIZE_VARIABLE: &str = "PROCESSION_ARENA_SIZE";
/// How many times as large as that the file is.
const SPREAD: u64 = 16;

/// The mapped arena.
pub struct Arena {
    windows: Windows,
    layout: Layout,
    /// The descriptors of slabs below this number are mapped, and their words and bits in the other tables.
    reached: AtomicU64,
    file: FileId,
    /// Number of our descriptor. The program may close it, so it is checked before each use.
    fd: AtomicI32,
}

impl Arena {
    /// Create the arena of a new family, as large as the system permits.
    pub(crate) fn create() -> Result<Self> {
        let (mut size, budget) = wanted();
        if memory::file_size_limit() < size {
            return Err(Error::Exhausted {
                what: "the arena, and RLIMIT_FSIZE (`ulimit -f`) allows less",
                wanted: size,
            });
        }
        let arena = loop {
            match memory::create(size).and_then(|fd| Self::over(fd, size)) {
                Ok(made) => break made,
                Err(e) if size <= MIN_SIZE => return Err(e),
                Err(_) => size /= 2,
            }
        };
        arena.fill_header(size, budget)?;
        // SAFETY: the descriptor is open: `over` stored it just now.
        memory::seal(arena.fd()?)?;
        Ok(arena)
    }

    /// Attach the arena of the family that `fd` belongs to.
    pub(crate) fn attach(fd: OwnedFd) -> Result<Self> {
        let size = memory::size_of_file(fd.as_fd())?;
        if !memory::is_own(fd.as_fd()) {
            return Err(Error::Foreign("arena"));
        }
        if Layout::new(size).is_none() || !memory::is_sealed(fd.as_fd()) {
            return Err(Error::Corrupt("the inherited descriptor is no arena"));
        }
        let arena = Self::over(fd, size)?;
        let header = arena.header();
        let ours = header.magic.load(Ordering::Acquire) == MAGIC && header.size.load(Ordering::Relaxed) == size;
        if !ours {
            return Err(Error::Corrupt("the inherited descriptor is no arena"));
        }
        if header.version.load(Ordering::Relaxed) != VERSION {
            return Err(Error::Corrupt("the arena was made by another version of procession"));
        }
        Ok(arena)
    }

    fn over(fd: OwnedFd, size: u64) -> Result<Self> {
        let layout = Layout::new(size).ok_or(Error::Corrupt("arena size"))?;
        let fd = memory::move_high(fd);
        let file = FileId::of(fd.as_fd())?;
        let windows = Windows::place(file, size)?;
        // The header, the process table and the directories are always mapped.
        let (fixed, _) = layout.table(FixedTable::Slabs);
        windows.map(&Ok(fd.as_fd()), 0, fixed)?;
        Ok(Self {
            windows,
            layout,
            reached: AtomicU64::new(0),
            file,
            fd: AtomicI32::new(fd.into_raw_fd()),
        })
    }

    fn fill_header(&self, size: u64, budget: u64) -> Result<()> {
        memory::commit(self.fd()?, 0, GRAIN, "the arena's header")?;
        let header = self.header();
        let id = memory::random_id()?;
        header.version.store(VERSION, Ordering::Relaxed);
        header.size.store(size, Ordering::Relaxed);
        header.budget.store(budget, Ordering::Relaxed);
        header.id[0].store(id as u64, Ordering::Relaxed);
        header.id[1].store((id >> 64) as u64, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        Ok(())
    }

    /// The first page.
    pub(crate) fn header(&self) -> &'static Header {
        // SAFETY: the first window is mapped as long as the process lives, its first grain is committed, and the header
        // is all atomics.
        unsafe { self.windows.base().cast().as_ref() }
    }

    /// What an observer and the family share about a trace.
    pub(crate) fn trace_words(&self) -> &'static TraceWords {
        // SAFETY: as for the header: the words lie in its grain, and are all atomics.
        unsafe { self.windows.base().add(TRACE_WORDS as usize).cast().as_ref() }
    }

    /// The ring of trace events of the process in this slot, committed and mapped; and its length.
    pub(crate) fn ring(&self, slot: usize) -> Result<(NonNull<u8>, u64)> {
        let (offset, all) = self.layout.table(FixedTable::Rings);
        let (at, length) = (slot as u64 * self.layout.ring, self.layout.ring);
        let committed = self.trace_words().rings.get(slot / 64);
        let committed = committed
            .filter(|_| at + length <= all)
            .ok_or(Error::Corrupt("a process slot"))?;
        if committed.load(Ordering::Acquire) >> (slot % 64) & 1 == 0 {
            self.commit(offset + at, length, "a trace")?;
            // DEATH: before this the ring is committed but not recorded; committing it again does no harm.
            committed.fetch_or(1 << (slot % 64), Ordering::AcqRel);
        }
        Ok((self.reach(offset + at, length)?, length))
    }

    /// Where everything lies.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The family's identity.
    pub(crate) fn id(&self) -> u128 {
        let [low, high] = &self.header().id;
        u128::from(high.load(Ordering::Relaxed)) << 64 | u128::from(low.load(Ordering::Relaxed))
    }

    /// The process table's entries. Only those that [`Arena::commit_process_table`] has committed may be touched.
    ///
    /// # Safety
    /// `T` must be valid for any bytes and consist of atomics only; all callers must agree on it.
    pub(crate) unsafe fn process_table<T>(&self) -> &'static [T] {
        const { assert!(size_of::<T>() as u64 == PROCESS_ENTRY && align_of::<T>() as u64 <= PROCESS_ENTRY) };
        // SAFETY: the caller vouches for the type; the table lies within the mapping.
        unsafe { self.table(FixedTable::Processes) }
    }

    /// Commit the first `entries` entries of the process table, and what the arena keeps about their processes.
    pub(crate) fn commit_process_table(&self, entries: usize) -> Result<()> {
        let directories = entries * size_of::<super::directory::Directory>();
        self.ensure(FixedTable::Directories, directories as u64, "reference logs")?;
        self.ensure(
            FixedTable::Processes,
            entries as u64 * PROCESS_ENTRY,
            "the process table",
        )
    }

    /// A fixed table as a slice. What is not committed must not be touched: see [`Arena::ensure`].
    ///
    /// # Safety
    /// `T` must be the table's type: valid for any bytes, atomics only.
    pub(super) unsafe fn table<T>(&self, table: FixedTable) -> &'static [T] {
        let (offset, length) = self.layout.table(table);
        // SAFETY: the layout keeps tables within the arena's range, which lasts as long as the process; the caller
        // vouches for the type.
        unsafe {
            std::slice::from_raw_parts(
                self.windows.base().as_ptr().add(offset as usize).cast(),
                length as usize / size_of::<T>(),
            )
        }
    }

    /// A count of a table's entries, but never more than are committed, or than there can be.
    pub(super) fn bounded(&self, count: &AtomicU64, table: FixedTable, entry: usize) -> u64 {
        let committed = self.header().committed[table as usize].load(Ordering::Acquire);
        let most = self.layout.table(table).1 / entry as u64;
        count.load(Ordering::Acquire).min(committed / entry as u64).min(most)
    }

    /// Commit the first `bytes` bytes of a fixed table. Cheap if that was done before.
    pub(super) fn ensure(&self, table: FixedTable, bytes: u64, what: &'static str) -> Result<()> {
        let committed = &self.header().committed[table as usize];
        let (offset, length) = self.layout.table(table);
        let have = committed.load(Ordering::Acquire);
        if bytes <= have {
            return Ok(());
        }
        if bytes > length {
            return Err(Error::Exhausted { what, wanted: bytes });
        }
        let have = have.min(length);
        let upto = bytes.next_multiple_of(GRAIN).min(length);
        self.commit(offset + have, upto - have, what)?;
        // DEATH: before this the grain is committed but not recorded; committing it again does no harm.
        committed.fetch_max(upto, Ordering::Release);
        Ok(())
    }

    /// Words of the allocator's tables and header that are committed, for tests that damage them.
    #[cfg(test)]
    pub(crate) fn table_words_for_tests(&self) -> Vec<&'static AtomicU64> {
        let words = |table: FixedTable, most: usize| {
            let committed = self.header().committed[table as usize].load(Ordering::Relaxed) as usize / 8;
            // SAFETY: all tables are atomics, aligned to 8; only the committed part is handed out.
            let all: &'static [AtomicU64] = unsafe { self.table(table) };
            &all[..committed.min(most)]
        };
        let header = self.header();
        let counters = [
            &header.slab_count,
            &header.idle,
            &header.deferred,
            &header.sweep_at,
            &header.budget,
        ];
        [
            words(FixedTable::Slabs, 2000),
            words(FixedTable::Directories, 4),
            words(FixedTable::Partial, 40),
        ]
        .into_iter()
        .flatten()
        .chain(counters)
        .collect()
    }

    /// Address of a range of the arena. `None` if it does not lie within. It may not be [mapped](Self::reach) yet.
    #[inline]
    pub(super) fn range(&self, offset: u64, length: u64) -> Option<NonNull<u8>> {
        self.windows.range(offset, length)
    }

    /// Map a range of the arena in this process.
    #[inline]
    pub(super) fn reach(&self, offset: u64, length: u64) -> Result<NonNull<u8>> {
        let at = self
            .windows
            .range(offset, length)
            .ok_or(Error::Corrupt("an offset in the arena"))?;
        if !self.windows.covers(offset, length) {
            self.windows.map(&self.fd(), offset, length)?;
        }
        Ok(at)
    }

    /// Whether a range that lies within the arena is mapped in this process.
    pub(super) fn is_reached(&self, offset: u64, length: u64) -> bool {
        self.windows.covers(offset, length)
    }

    /// Map the descriptors of the first `slabs` slabs in this process, and their words and bits in the other tables.
    #[inline]
    pub(super) fn reach_slabs(&self, slabs: u64) -> Result<()> {
        if slabs <= self.reached.load(Ordering::Relaxed) {
            return Ok(());
        }
        for (table, bytes) in super::partial::table_bytes(slabs) {
            let (offset, length) = self.layout.table(table);
            self.reach(offset, bytes.min(length))?;
        }
        self.reached.fetch_max(slabs, Ordering::Relaxed);
        Ok(())
    }

    /// How many slabs this process has reached.
    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Relaxed)
    }

    /// Map all of the arena, for tools that look at it from outside and would miss what is mapped later.
    #[doc(hidden)]
    pub fn reach_all(&self) -> Result<()> {
        self.reach(0, self.layout.size).map(drop)
    }

    /// Offset of a word in the arena.
    pub(super) fn offset_of(&self, word: &AtomicU64) -> u64 {
        (std::ptr::from_ref(word) as usize).wrapping_sub(self.windows.base().as_ptr() as usize) as u64
    }

    /// Commit a range, so that touching it cannot fail. Works without the descriptor, too: the program may have closed
    /// it, and the process may not be allowed to open it again.
    pub(super) fn commit(&self, offset: u64, length: u64, what: &'static str) -> Result<()> {
        match self.fd() {
            Ok(fd) => {
                let budget = self.header().budget.load(Ordering::Relaxed);
                if budget != u64::MAX && memory::committed_bytes(fd)?.saturating_add(length) > budget {
                    return Err(Error::Exhausted { what, wanted: length });
                }
                memory::commit(fd, offset, length, what)
            }
            Err(_) => memory::populate(self.reach(offset, length)?, length, what),
        }
    }

    /// Give a range that is not in use back to the system; it reads as zeros afterwards.
    pub(super) fn punch(&self, offset: u64, length: u64) -> Result<()> {
        match self.fd() {
            Ok(fd) => memory::punch(fd, offset, length),
            // SAFETY: the range is mapped, and the callers vouch that nothing uses it.
            Err(_) => unsafe { memory::remove(self.reach(offset, length)?, length) },
        }
    }

    /// The descriptor, reopened if the program closed it or put another file in its place.
    pub(crate) fn fd(&self) -> Result<BorrowedFd<'static>> {
        let mut fd = self.fd.load(Ordering::Acquire);
        if !memory::refers_to(fd, self.file) {
            let found = memory::reopen_mapping(self.windows.base())
                .or_else(|| {
                    let mut pids = (hooks().pids)().into_iter();
                    pids.find_map(|pid| memory::reopen_from(pid, self.file))
                })
                .ok_or(Error::Os {
                    call: "open the arena again (the program closed its descriptor)",
                    source: std::io::ErrorKind::NotFound.into(),
                })?;
            // The old number is not ours any more: whatever it refers to now is not closed.
            fd = memory::move_high(found).into_raw_fd();
            self.fd.store(fd, Ordering::Release);
        }
        // SAFETY: it was verified to be the arena; only the program itself could close it, and then it is found again.
        Ok(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// The descriptor, at a number that can be passed to an executed program. This program may have lowered its limit
    /// on descriptors since the descriptor was opened.
    pub(crate) fn passable_fd(&self) -> Result<BorrowedFd<'static>> {
        let fd = self.fd()?;
        if memory::is_below_limit(fd.as_raw_fd()) {
            return Ok(fd);
        }
        let lower = rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|e| Error::os("fcntl", e))?;
        // The old one stays open: another thread may be using it.
        self.fd.store(lower.into_raw_fd(), Ordering::Release);
        self.fd()
    }
}

impl Drop for Arena {
    /// Only an arena that did not become the family's is ever dropped.
    fn drop(&mut self) {
        let fd = *self.fd.get_mut();
        if memory::refers_to(fd, self.file) {
            // SAFETY: the number was verified to be our file, and nothing else owns it.
            drop(unsafe { memory::own(fd) });
        }
    }
}

/// The size of the file, and how many bytes of it may be committed: what the user says, or everything; less where
/// limits forbid it anyway. Large blocks lie in cells of a power of two, so the file is larger than what may be
/// committed of it.
fn wanted() -> (u64, u64) {
    let asked = (!crate::sys::limits::is_secure())
        .then(|| std::env::var(SIZE_VARIABLE).ok())
        .flatten()
        .and_then(|text| parse_size(&text));
    let budget = asked.map_or(u64::MAX, |asked| asked.max(MIN_SIZE));
    let size = budget.saturating_mul(SPREAD).min(memory::file_size_limit());
    let size = size.clamp(MIN_SIZE, MAX_SIZE);
    (1 << size.ilog2(), budget)
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        b'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(parse_size("1048576"), Some(1 << 20));
        assert_eq!(parse_size(" 64m "), Some(64 << 20));
        assert_eq!(parse_size("2 G"), Some(2 << 30));
        assert_eq!(parse_size("1T"), Some(1 << 40));
        for bad in ["", "M", "x", "-1", "99999999T", "1.5G", "é"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
