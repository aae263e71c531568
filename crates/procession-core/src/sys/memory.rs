//! The arena's file and its mapping: memfd, mmap, commit, punch. Knows nothing of its content.

use std::ffi::c_void;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::{getrlimit, Resource};
use rustix::rand::GetRandomFlags;

use crate::{Error, Result};

/// Descriptors below this number are left to the program, to close and redirect.
const FIRST_DESCRIPTOR: i32 = 512;

/// Which file a descriptor refers to, whatever its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The identity of an open file.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        let stat = rustix::fs::fstat(fd).map_err(|e| Error::os("fstat", e))?;
        Ok(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }
}

/// An anonymous file of `size` bytes, all of it a hole. It is not yet sealed.
pub(crate) fn create(size: u64) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("procession", flags).map_err(|e| Error::os("memfd_create", e))?;
    rustix::fs::ftruncate(&fd, size).map_err(|e| Error::os("ftruncate", e))?;
    Ok(fd)
}

/// Fix the file's size: from now on no process can truncate it, which would be a SIGBUS for the others.
pub(crate) fn seal(fd: BorrowedFd<'_>) -> Result<()> {
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(fd, seals).map_err(|e| Error::os("fcntl(F_ADD_SEALS)", e))
}

/// Whether the file can no longer change its size.
pub(crate) fn is_sealed(fd: BorrowedFd<'_>) -> bool {
    let seals = SealFlags::SHRINK | SealFlags::GROW;
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|present| present.contains(seals))
}

/// Whether the file belongs to this user, or to the superuser: a process may have given up the superuser's rights
/// since.
pub(crate) fn is_own(fd: BorrowedFd<'_>) -> bool {
    let us = [
        rustix::process::geteuid(),
        rustix::process::getuid(),
        rustix::process::Uid::ROOT,
    ];
    rustix::fs::fstat(fd).is_ok_and(|stat| us.iter().any(|uid| uid.as_raw() == stat.st_uid))
}

/// The size of an open file.
pub(crate) fn size_of_file(fd: BorrowedFd<'_>) -> Result<u64> {
    let stat = rustix::fs::fstat(fd).map_err(|e| Error::os("fstat", e))?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

/// How many bytes of an open file are committed.
pub(crate) fn committed_bytes(fd: BorrowedFd<'_>) -> Result<u64> {
    let stat = rustix::fs::fstat(fd).map_err(|e| Error::os("fstat", e))?;
    Ok(u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
}

/// The outcome of mapping something at a fixed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapped {
    Done,
    /// Another mapping is there already.
    Other,
}

/// Map a part of the file at an address: shared, readable and writable, without reserving memory, and kept out of core
/// dumps. Replaces no mapping.
pub(crate) fn map_at(fd: BorrowedFd<'_>, at: NonNull<u8>, length: u64, offset: u64) -> Result<Mapped> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::SHARED | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: the flags keep the mapping from replacing another.
    let mapped = unsafe { rustix::mm::mmap(at.as_ptr().cast(), length as usize, protection, flags, fd, offset) };
    placed(mapped, at, length)
}

/// The outcome of a request for a mapping at an address. Before Linux 4.17 the address is only a hint.
fn placed(mapped: rustix::io::Result<*mut c_void>, at: NonNull<u8>, length: u64) -> Result<Mapped> {
    match mapped {
        Ok(got) if got.cast() == at.as_ptr() => {
            // SAFETY: the range was mapped just now; the advice does not change its content. A refusal only makes core
            // dumps larger.
            let _ = unsafe { rustix::mm::madvise(got, length as usize, Advice::LinuxDontDump) };
            Ok(Mapped::Done)
        }
        Ok(got) => {
            // SAFETY: mapped just now, and of no use.
            let _ = unsafe { rustix::mm::munmap(got, length as usize) };
            Ok(Mapped::Other)
        }
        Err(Errno::EXIST) => Ok(Mapped::Other),
        Err(e) => Err(Error::os("mmap", e)),
    }
}

/// A part of a file that is mapped for reading, while other processes write to it.
pub(crate) struct ReadOnly {
    page: NonNull<u8>,
    mapped: usize,
    /// Where the part begins in the mapping, and its length.
    begin: usize,
    length: usize,
}

// SAFETY: memory that is only read, as atomics.
unsafe impl Send for ReadOnly {}

impl ReadOnly {
    /// Map a part, whose offset and length are multiples of 8. It lies within the file, whose size does not change.
    pub(crate) fn map(fd: BorrowedFd<'_>, offset: u64, length: u64) -> rustix::io::Result<Self> {
        let begin = offset % rustix::param::page_size() as u64;
        let mapped = (begin + length) as usize;
        // SAFETY: a new mapping replaces nothing.
        let page = unsafe {
            let flags = MapFlags::SHARED | MapFlags::NORESERVE;
            rustix::mm::mmap(std::ptr::null_mut(), mapped, ProtFlags::READ, flags, fd, offset - begin)?
        };
        Ok(Self {
            page: NonNull::new(page.cast()).ok_or(Errno::NOMEM)?,
            mapped,
            begin: begin as usize,
            length: length as usize,
        })
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: mapped as long as `self` lives, aligned to 8; other processes change it as atomics do.
        unsafe { std::slice::from_raw_parts(self.page.as_ptr().add(self.begin).cast(), self.length / 8) }
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        // SAFETY: this mapping, to which no reference is left.
        let _ = unsafe { rustix::mm::munmap(self.page.as_ptr().cast(), self.mapped) };
    }
}

/// As [`map_at`] without a descriptor, given the address of the file's first page, which is mapped.
pub(crate) fn map_again(first: NonNull<u8>, at: NonNull<u8>, length: u64, offset: u64) -> Result<Mapped> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: the flags keep the mapping from replacing another.
    let reserved =
        unsafe { rustix::mm::mmap_anonymous(at.as_ptr().cast(), length as usize, ProtFlags::empty(), flags) };
    if placed(reserved, at, length)? == Mapped::Other {
        return Ok(Mapped::Other);
    }
    let end = (offset + length) as usize;
    // SAFETY: of a shared mapping, an old length of 0 makes another mapping of the same file from the same page on.
    let all = unsafe { libc::mremap(first.as_ptr().cast(), 0, end, libc::MREMAP_MAYMOVE) };
    if all == libc::MAP_FAILED {
        let error = std::io::Error::last_os_error();
        // SAFETY: reserved above.
        unsafe { unmap(at, length) };
        return Err(Error::os("mremap", error));
    }
    // SAFETY: the end of the new mapping moves over what was reserved above; the rest of it is of no use.
    unsafe {
        let part = all.byte_add(offset as usize);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let moved = libc::mremap(part, length as usize, length as usize, flags, at.as_ptr());
        let error = std::io::Error::last_os_error();
        let left = if moved == libc::MAP_FAILED {
            end
        } else {
            offset as usize
        };
        if left > 0 {
            libc::munmap(all, left);
        }
        if moved == libc::MAP_FAILED {
            unmap(at, length);
            return Err(Error::os("mremap", error));
        }
    }
    Ok(Mapped::Done)
}

/// A mapping of this process: a line of `/proc/self/maps`.
struct Line {
    start: u64,
    end: u64,
    offset: u64,
    inode: u64,
}

fn own_mappings() -> Vec<Line> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let parse = |line: &str| {
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (offset, inode) = (fields.nth(1)?, fields.nth(1)?);
        Some(Line {
            start: hex(start)?,
            end: hex(end)?,
            offset: hex(offset)?,
            inode: inode.parse().ok()?,
        })
    };
    text.lines().filter_map(parse).collect()
}

/// Whether all of a range is mapped to this part of the file `id`.
pub(crate) fn is_mapping_of(id: FileId, at: NonNull<u8>, length: u64, offset: u64) -> bool {
    let (mut next, end) = (at.as_ptr() as u64, at.as_ptr() as u64 + length);
    for line in own_mappings() {
        if line.start <= next && next < line.end {
            let expected = offset + (next - at.as_ptr() as u64);
            if line.inode != id.inode || line.offset + (next - line.start) != expected {
                return false;
            }
            next = line.end;
        }
    }
    next >= end
}

/// An address for a range of `size` bytes, aligned to `step`, in the middle of the largest hole of the address space:
/// other mappings begin at its edges.
pub(crate) fn find_hole(size: u64, step: u64) -> Option<NonNull<u8>> {
    /// No program's own mappings lie above this: half of what page tables of four levels reach.
    const TOP: u64 = 1 << 47;
    let lines = own_mappings();
    let ends = lines.iter().map(|line| line.end);
    let (start, length) = std::iter::once(1 << 16)
        .chain(ends)
        .zip(lines.iter().map(|line| line.start.min(TOP)))
        .map(|(end, next)| (end, next.saturating_sub(end)))
        .max_by_key(|&(_, length)| length)?;
    let spare = length.checked_sub(size)?;
    // A random place in the middle half, which cannot be guessed.
    let random = random_id().ok()? as u64 % (spare / 2).max(1);
    let base = (start + spare / 4 + random).next_multiple_of(step);
    let fits = base + size <= start + length;
    NonNull::new(std::ptr::with_exposed_provenance_mut(base as usize)).filter(|_| fits)
}

/// Undo [`map_at`].
///
/// # Safety
/// Nothing may use the mapping any more.
pub(crate) unsafe fn unmap(base: NonNull<u8>, size: u64) {
    // SAFETY: the caller vouches that the range is mapped and unused.
    let _ = unsafe { rustix::mm::munmap(base.as_ptr().cast(), size as usize) };
}

/// Whether this process may open a descriptor of this number now. `posix_spawn` refuses the others.
pub(crate) fn is_below_limit(fd: RawFd) -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.is_none_or(|limit| (fd as u64) < limit)
}

/// Move a descriptor out of the range that programs close or redirect by number.
pub(crate) fn move_high(fd: OwnedFd) -> OwnedFd {
    if fd.as_raw_fd() >= FIRST_DESCRIPTOR {
        return fd;
    }
    // A low limit on descriptors may forbid the first choice; any number above the standard three will do then.
    [FIRST_DESCRIPTOR, 64, 16]
        .into_iter()
        .find_map(|least| rustix::io::fcntl_dupfd_cloexec(&fd, least).ok())
        .unwrap_or(fd)
}

/// Commit a range of the file, so that touching it cannot fail. `Exhausted` if the system has no more.
pub(crate) fn commit(fd: BorrowedFd<'_>, offset: u64, length: u64, what: &'static str) -> Result<()> {
    loop {
        match rustix::fs::fallocate(fd, FallocateFlags::KEEP_SIZE, offset, length) {
            Ok(()) => return Ok(()),
            // A signal arrived while pages were being allocated; what was done stays done.
            Err(Errno::INTR) => {}
            Err(Errno::NOMEM | Errno::NOSPC) => return Err(Error::Exhausted { what, wanted: length }),
            Err(e) => return Err(Error::os("fallocate", e)),
        }
    }
}

/// As [`commit`], through a mapping of the file.
pub(crate) fn populate(at: NonNull<u8>, length: u64, what: &'static str) -> Result<()> {
    loop {
        // SAFETY: populating changes no content, and a range that is not mapped is an error.
        match unsafe { rustix::mm::madvise(at.as_ptr().cast(), length as usize, Advice::LinuxPopulateWrite) } {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::NOMEM | Errno::FAULT) => return Err(Error::Exhausted { what, wanted: length }),
            Err(e) => return Err(Error::os("madvise(POPULATE_WRITE)", e)),
        }
    }
}

/// As [`punch`], through a mapping of the file.
///
/// # Safety
/// The range must be part of a mapping of the file, and nothing may use its content any more.
pub(crate) unsafe fn remove(at: NonNull<u8>, length: u64) -> Result<()> {
    // SAFETY: vouched for by the caller.
    unsafe { rustix::mm::madvise(at.as_ptr().cast(), length as usize, Advice::LinuxRemove) }
        .map_err(|e| Error::os("madvise(REMOVE)", e))
}

/// Makes [`punch`] fail, as it does where a system filter or another user of the memory forbids it.
#[cfg(test)]
pub(crate) static NO_PUNCH: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Give a range back to the system; it reads as zeros afterwards.
pub(crate) fn punch(fd: BorrowedFd<'_>, offset: u64, length: u64) -> Result<()> {
    #[cfg(test)]
    if NO_PUNCH.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(Error::os("fallocate(PUNCH_HOLE)", Errno::PERM));
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        match rustix::fs::fallocate(fd, flags, offset, length) {
            Err(Errno::INTR) => {}
            done => return done.map_err(|e| Error::os("fallocate(PUNCH_HOLE)", e)),
        }
    }
}

/// Another descriptor of the file mapped at `base`, found through the kernel's own record of the mapping.
pub(crate) fn reopen_mapping(base: NonNull<u8>) -> Option<OwnedFd> {
    let at = base.as_ptr() as u64;
    let mapping = own_mappings()
        .into_iter()
        .find(|line| line.start <= at && at < line.end)?;
    reopen(&format!("/proc/self/map_files/{:x}-{:x}", mapping.start, mapping.end))
}

/// Another descriptor of the file `id`, found among those of the process `pid`.
pub(crate) fn reopen_from(pid: u32, id: FileId) -> Option<OwnedFd> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    folder
        .flatten()
        .filter(|entry| {
            std::fs::read_link(entry.path())
                .is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"/memfd:procession"))
        })
        .filter_map(|entry| reopen(entry.path().to_str()?))
        .find(|fd| FileId::of(fd.as_fd()).is_ok_and(|found| found == id))
}

fn reopen(path: &str) -> Option<OwnedFd> {
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .ok()
        .map(OwnedFd::from)
}

/// The largest file this process may make (`RLIMIT_FSIZE`); growing beyond it would be a `SIGXFSZ`.
pub(crate) fn file_size_limit() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

/// Whether `fd` is an open descriptor of the file `id`; `fd` is a bare number, because the program may have closed it.
pub(crate) fn refers_to(fd: i32, id: FileId) -> bool {
    if fd < 0 {
        return false;
    }
    // SAFETY: the borrow ends in this function, and fstat tolerates a number that is no descriptor at all.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    FileId::of(fd).is_ok_and(|found| found == id)
}

/// A clock that all processes share, in milliseconds: cheap, no finer than the scheduler's tick, and without the time
/// that the machine was suspended.
pub(crate) fn milliseconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Nanoseconds of a clock that all processes share; never 0.
pub(crate) fn nanoseconds() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (time.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
        .max(1)
}

/// Random bytes for an identity.
pub(crate) fn random_id() -> Result<u128> {
    let mut bytes = [0_u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(got) => filled += got,
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::os("getrandom", e)),
        }
    }
    Ok(u128::from_le_bytes(bytes))
}

/// Take ownership of a descriptor number.
///
/// # Safety
/// `fd` must be open and have no other owner.
pub(crate) unsafe fn own(fd: i32) -> OwnedFd {
    // SAFETY: vouched for by the caller.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
