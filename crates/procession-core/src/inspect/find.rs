//! The families of this user, by what `/proc` shows of each process's descriptors.

use super::budget::Budget;
use super::error::{InspectError, Look};
use super::file::{identity, open, ArenaFile};
use super::listing::list;
use super::objects::Objects;
use super::processes::Processes;
use super::snapshot::FamilySnapshot;
use crate::sys::memory::FileId;
use crate::sys::observed;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

/// How the kernel names an arena's file among a process's descriptors.
const LINK: &str = "/memfd:procession (deleted)";

/// A family that was found.
pub struct FamilyFound {
    /// The processes that share its memory, in order. Observers do not.
    pub pids: Vec<u32>,
    /// The family, or why it cannot be read.
    pub inspector: Result<Inspector, InspectError>,
}

/// An observer of one family. It has the family's memory open for reading.
pub struct Inspector {
    file: ArenaFile,
}

/// The families of this user; for root, of all users. Of other users nothing is shown.
pub fn families() -> Vec<FamilyFound> {
    let me = rustix::process::geteuid();
    let mut found: Vec<(FileId, OwnedFd, Vec<u32>)> = Vec::new();
    let mut pids = observed::pids();
    pids.sort_unstable();
    for pid in pids {
        if !me.is_root() && observed::user(pid) != Some(me.as_raw()) {
            continue;
        }
        // A process that ends, or hides itself, is passed over.
        let Ok(Some((id, file))) = arena_of(pid) else { continue };
        match found.iter_mut().find(|(known, ..)| *known == id) {
            Some((.., pids)) => pids.push(pid),
            None => found.push((id, file, vec![pid])),
        }
    }
    let check = |(_, file, pids): (FileId, OwnedFd, Vec<u32>)| FamilyFound {
        inspector: check_namespace(pids[0])
            .and_then(|()| ArenaFile::check(file, pids[0]))
            .map(|file| Inspector { file }),
        pids,
    };
    found.into_iter().map(check).collect()
}

/// An entry of the process table names a process by its number in the family's own namespace: in another one the number
/// is another process's.
fn check_namespace(pid: u32) -> Look<()> {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    match (namespace("self"), namespace(&pid.to_string())) {
        (Some(own), Some(other)) if own != other => Err(InspectError::OtherNamespace(pid)),
        _ => Ok(()),
    }
}

/// Whether a descriptor of a process, by its link in `/proc`, is open for writing. A member's arena is; an observer's is
/// not.
fn is_writable(link: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(link).is_ok_and(|link| link.mode() & 0o200 != 0)
}

/// The arena that a process shares, if any.
fn arena_of(pid: u32) -> Look<Option<(FileId, OwnedFd)>> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => InspectError::NotAllowed(pid),
        _ => InspectError::NoProcess(pid),
    })?;
    for entry in folder.flatten() {
        let path = entry.path();
        let is_arena = fs::read_link(&path).is_ok_and(|to| to.as_os_str() == LINK) && is_writable(&path);
        let name = entry.file_name();
        if let (true, Some(name)) = (is_arena, name.to_str()) {
            if let Some(file) = open(pid, name)? {
                return Ok(Some((identity(&file)?, file)));
            }
        }
    }
    Ok(None)
}

impl Inspector {
    /// Observe the family of process `pid`.
    pub fn of(pid: u32) -> Result<Self, InspectError> {
        let (_, file) = arena_of(pid)?.ok_or(InspectError::NoFamily(pid))?;
        check_namespace(pid)?;
        let file = ArenaFile::check(file, pid)?;
        Ok(Self { file })
    }

    /// Observe the family of this process. The process joins no family by this.
    pub fn own() -> Result<Self, InspectError> {
        let pid = std::process::id();
        let arena = crate::arena::existing().ok_or(InspectError::NoFamily(pid))?;
        let fd = arena.fd().map_err(|_| InspectError::NoFamily(pid))?;
        let path = format!("{}", std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd()));
        let file = open(pid, &path)?.ok_or(InspectError::NoFamily(pid))?;
        Ok(Self {
            file: ArenaFile::check(file, pid)?,
        })
    }

    pub(super) fn file(&self) -> &ArenaFile {
        &self.file
    }

    /// A process that has the family's memory open, or had it when this observer was made.
    pub fn pid(&self) -> u32 {
        self.file.pid()
    }

    /// A number that no other family of this machine has at the time: of the file that is its memory.
    pub fn number(&self) -> Result<u64, InspectError> {
        self.file.inode()
    }

    /// What the family's processes and objects are at this moment, read one after the other. `Ended` if no process of
    /// the family is left.
    pub fn snapshot(&self) -> Result<FamilySnapshot, InspectError> {
        self.look(true)
    }

    /// As [`snapshot`](Self::snapshot), without the objects: quicker.
    pub fn processes(&self) -> Result<FamilySnapshot, InspectError> {
        self.look(false)
    }

    fn look(&self, with_objects: bool) -> Look<FamilySnapshot> {
        let taken_ms = crate::liveness::seen::now();
        let header = self.file.header()?;
        let mut processes = Processes::read(&self.file, &header)?;
        let mut snapshot = FamilySnapshot {
            deaths: header.deaths.load(std::sync::atomic::Ordering::Relaxed),
            committed_bytes: self.file.committed()?,
            limit_bytes: self.file.layout().size,
            taken_ms,
            ..FamilySnapshot::default()
        };
        if with_objects {
            let objects = Objects::read(&self.file, &header, &processes.awaited(), Budget::default())?;
            list(&objects, &processes, &mut snapshot);
            processes.resolve_waits(&objects);
            processes.find_joined();
            processes.add_memory(&objects);
        }
        processes.enter(&mut snapshot);
        snapshot.add_waiters();
        let lives = |process: &super::ProcessSeen| process.state.is_alive();
        if !snapshot.processes.iter().any(lives) {
            return Err(InspectError::Ended(self.file.pid()));
        }
        Ok(snapshot)
    }
}
