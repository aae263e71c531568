//! The arena's file, opened for reading. Leaves to the callers what its bytes mean.
//!
//! It is read by `pread`, and not through a mapping. A mapped page that the family has not committed would be committed
//! by the look at it, and where memory is short, the look would end the observer with a SIGBUS. `pread` reads zeros
//! there, and changes nothing.

use super::error::{InspectError, Look};
use crate::arena::seen::{AnyBits, Header, Layout, MAGIC, VERSION};
use crate::sys::memory::{self, FileId, ReadOnly};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// An arena of another family, or of this process's own.
pub(super) struct ArenaFile {
    file: OwnedFd,
    layout: Layout,
    /// A process of the family, for errors.
    pid: u32,
}

fn os(call: &'static str, source: Errno) -> InspectError {
    let source = source.into();
    InspectError::Os { call, source }
}

/// Open a descriptor of another process for reading, through `/proc`. `None` if it is gone.
pub(super) fn open(pid: u32, fd: &str) -> Look<Option<OwnedFd>> {
    let path = format!("/proc/{pid}/fd/{fd}");
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT | Errno::SRCH | Errno::NXIO) => Ok(None),
        Err(Errno::ACCESS | Errno::PERM) => Err(InspectError::NotAllowed(pid)),
        Err(error) => Err(os("open", error)),
    }
}

/// Which file it is.
pub(super) fn identity(file: &OwnedFd) -> Look<FileId> {
    FileId::of(file.as_fd()).map_err(|_| os("fstat", Errno::BADF))
}

impl ArenaFile {
    /// Check that `file` is an arena of this version. `pid` is a process that has it.
    pub(super) fn check(file: OwnedFd, pid: u32) -> Look<Self> {
        let damaged = |what| InspectError::Damaged { pid, what };
        let size = memory::size_of_file(file.as_fd()).map_err(|_| os("fstat", Errno::BADF))?;
        let layout = Layout::new(size).ok_or_else(|| damaged("its size is none of an arena"))?;
        let arena = Self { file, layout, pid };
        let header = arena.header()?;
        if header.magic.load(Acquire) != MAGIC {
            return Err(damaged("it does not begin as an arena does"));
        }
        let found = header.version.load(Relaxed);
        if found != VERSION {
            let ours = VERSION;
            return Err(InspectError::OtherVersion { pid, found, ours });
        }
        if header.size.load(Relaxed) != size {
            return Err(damaged("its size is not the one on record"));
        }
        Ok(arena)
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn header(&self) -> Look<Box<Header>> {
        self.read(0)
    }

    /// The number by which the kernel's lists of mappings name the file.
    pub(super) fn inode(&self) -> Look<u64> {
        Ok(rustix::fs::fstat(&self.file)
            .map_err(|error| os("fstat", error))?
            .st_ino)
    }

    /// How many bytes of the file are committed.
    pub(super) fn committed(&self) -> Look<u64> {
        memory::committed_bytes(self.file.as_fd()).map_err(|_| os("fstat", Errno::BADF))
    }

    /// Copy a structure. Words that change meanwhile are copied before or after their change.
    pub(super) fn read<T: AnyBits>(&self, offset: u64) -> Look<Box<T>> {
        let mut copy = Box::new(MaybeUninit::<T>::zeroed());
        // SAFETY: the slice is the box's own memory, of the size of T, initialised with zeros, and T is not used before
        // the slice's last use.
        let bytes = unsafe { std::slice::from_raw_parts_mut(copy.as_mut_ptr().cast::<u8>(), size_of::<T>()) };
        self.read_bytes(bytes, offset)?;
        // SAFETY: `AnyBits`: any bytes are a valid T.
        Ok(unsafe { Box::from_raw(Box::into_raw(copy).cast::<T>()) })
    }

    /// Map a range of the file for reading. The pages of the range are committed, or are committed by a look at them.
    pub(super) fn map(&self, offset: u64, length: u64) -> Look<ReadOnly> {
        if !memory::is_sealed(self.file.as_fd()) || offset.checked_add(length).is_none_or(|end| end > self.layout.size)
        {
            return Err(InspectError::Damaged {
                pid: self.pid,
                what: "it is not sealed, or too short",
            });
        }
        ReadOnly::map(self.file.as_fd(), offset, length).map_err(|error| os("mmap", error))
    }

    /// Become the one observer that traces the family, until this file is closed.
    pub(super) fn claim_trace(&self) -> Look<()> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(()),
            Err(Errno::WOULDBLOCK) => Err(InspectError::Traced(self.pid)),
            Err(error) => Err(os("flock", error)),
        }
    }

    /// Write into the family's memory, through a descriptor that is open only meanwhile: one that stayed open would look
    /// as if this process belonged to the family.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Look<()> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let file = match rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => return Err(InspectError::NotWritable(self.pid)),
            Err(error) => return Err(os("open", error)),
        };
        match rustix::io::pwrite(&file, bytes, offset) {
            Ok(length) if length == bytes.len() => Ok(()),
            Ok(_) => Err(os("pwrite", Errno::IO)),
            Err(error) => Err(os("pwrite", error)),
        }
    }

    fn read_bytes(&self, bytes: &mut [u8], offset: u64) -> Look<()> {
        let damaged = || InspectError::Damaged {
            pid: self.pid,
            what: "it names a place beyond its end",
        };
        let mut done = 0;
        while done < bytes.len() {
            let at = offset.checked_add(done as u64).ok_or_else(damaged)?;
            match rustix::io::pread(&self.file, &mut bytes[done..], at) {
                Ok(0) => return Err(damaged()),
                Ok(more) => done += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(os("pread", error)),
            }
        }
        Ok(())
    }
}
