//! What a child has of its parent besides memory: current directory, environment, umask and standard streams. A child
//! of the fork server has them from the fork server, as they were when that was started. So it is sent its parent's.

use crate::error::Ours;
use crate::{Error, Result};
use procession_core::Error as Engine;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// The surroundings of a process, without the descriptors among them.
#[derive(Debug, Serialize, Deserialize)]
#[expect(
    clippy::unsafe_derive_deserialize,
    reason = "what is unsafe does not rely on its fields"
)]
pub(crate) struct Surroundings {
    environment: Vec<(OsString, OsString)>,
    umask: u32,
    /// What each of the descriptors behind those of the arguments is.
    descriptors: Vec<Place>,
}

/// What a descriptor is for a process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Place {
    Directory,
    Stream(RawFd),
}

const STREAMS: [RawFd; 3] = [0, 1, 2];

impl Surroundings {
    /// Those of this process, and the descriptors among them.
    pub(crate) fn of_this_process() -> Result<(Self, Vec<OwnedFd>)> {
        let mut descriptors = Vec::with_capacity(1 + STREAMS.len());
        let mut fds = Vec::with_capacity(1 + STREAMS.len());
        // First: what is opened here may take the number of a stream that is closed.
        for number in STREAMS {
            // SAFETY: only duplicated, which fails if the number is no descriptor.
            let stream = unsafe { BorrowedFd::borrow_raw(number) };
            // What the program closed, and a file of its own that took the number, are no streams for children.
            match rustix::io::fcntl_getfd(stream) {
                Ok(flags) if !flags.contains(FdFlags::CLOEXEC) => {
                    let fd = rustix::io::fcntl_dupfd_cloexec(stream, 3)
                        .map_err(|e| Engine::os("fcntl", e))
                        .ours()?;
                    descriptors.push(Place::Stream(number));
                    fds.push(fd);
                }
                Ok(_) | Err(Errno::BADF) => {}
                Err(error) => return Err(Error::engine(Engine::os("fcntl", error))),
            }
        }
        // By descriptor: the directory's name may have changed. Without the permission to open it, the child could not
        // enter it either.
        match rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => {
                descriptors.push(Place::Directory);
                fds.push(fd);
            }
            Err(Errno::ACCESS) => {}
            Err(error) => return Err(Error::engine(Engine::os("open", error))),
        }
        let surroundings = Self {
            environment: environment(),
            umask: umask()?,
            descriptors,
        };
        Ok((surroundings, fds))
    }
}

/// Make these surroundings those of this process. `fds` ends with the descriptors among them, which are removed.
///
/// # Safety
/// This process has one thread.
pub(crate) unsafe fn adopt(surroundings: &Surroundings, fds: &mut Vec<OwnedFd>) -> Result<()> {
    let first = fds.len().checked_sub(surroundings.descriptors.len());
    let first = first
        .ok_or(Engine::Corrupt("a request without its descriptors"))
        .ours()?;
    // Without streams of its own, the fork server received some of them under the numbers of streams.
    for fd in fds.iter_mut().filter(|fd| STREAMS.contains(&fd.as_raw_fd())) {
        *fd = rustix::io::fcntl_dupfd_cloexec(&*fd, 3)
            .map_err(|e| Engine::os("fcntl", e))
            .ours()?;
    }
    let own = fds.split_off(first);
    for (place, fd) in surroundings.descriptors.iter().zip(&own) {
        match place {
            Place::Directory => rustix::process::fchdir(fd)
                .map_err(|e| Engine::os("fchdir", e))
                .ours()?,
            Place::Stream(number) => replace(*number, fd.as_fd())?,
        }
    }
    for number in STREAMS {
        if !surroundings.descriptors.contains(&Place::Stream(number)) {
            // SAFETY: the parent has no such stream, so nothing of this process uses it.
            unsafe { libc::close(number) };
        }
    }
    rustix::process::umask(Mode::from_raw_mode(surroundings.umask));
    // Mostly nothing has changed.
    let before = environment();
    if before != surroundings.environment {
        for (name, _) in before {
            // SAFETY: no other thread could read the environment meanwhile.
            unsafe { std::env::remove_var(name) };
        }
        for (name, value) in &surroundings.environment {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
    }
    Ok(())
}

/// The variables that can be set: names that begin with `=` are not among them, and of several entries with one name
/// only the first counts, as for `getenv`.
fn environment() -> Vec<(OsString, OsString)> {
    let mut names = HashSet::new();
    std::env::vars_os()
        .filter(|(name, _)| !name.as_encoded_bytes().contains(&b'=') && names.insert(name.clone()))
        .collect()
}

fn replace(number: RawFd, fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: this process's stream of that number becomes a copy of `fd`, which is open; no code relies on its file.
    let made = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    if made == number {
        return Ok(());
    }
    Err(Error::engine(Engine::os("dup2", std::io::Error::last_os_error())))
}

/// The process's umask. The system call that reads it changes it, too, for all threads; so it is read from a file.
fn umask() -> Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|e| Engine::os("open", e))
        .ours()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let umask = line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    umask.ok_or(Engine::Corrupt("/proc/self/status")).ours()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_umask_is_read_without_a_change() {
        let before = umask().unwrap();
        assert_eq!(umask().unwrap(), before);
        let set = rustix::process::umask(Mode::from_raw_mode(0o27));
        assert_eq!(set.as_raw_mode(), before);
        assert_eq!(umask().unwrap(), 0o27);
        rustix::process::umask(set);
    }

    #[test]
    fn a_request_without_its_descriptors_is_an_error() {
        let (surroundings, fds) = Surroundings::of_this_process().unwrap();
        assert_eq!(fds.len(), surroundings.descriptors.len());
        // SAFETY: it fails before it changes anything.
        let error = unsafe { adopt(&surroundings, &mut Vec::new()) }
            .unwrap_err()
            .to_string();
        assert!(error.contains("a request without its descriptors"), "{error}");
    }
}
