//! Running a program as a child process.

use super::memory::is_below_limit;
use crate::{Error, Result};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

/// Run `path` with `argv` and `env`. Of this process's descriptors the child gets 0, 1, 2 and `keep`, at the same
/// numbers.
///
/// The child inherits the signal mask and ignored signals; the kernel resets handlers. A program that cannot be run is
/// an error here.
pub fn posix_spawn(path: &CStr, argv: &[CString], env: &[CString], keep: &[RawFd]) -> Result<i32> {
    let mut actions = Actions::new()?;
    for fd in inheritable(keep) {
        actions.close(fd)?;
    }
    for &fd in keep {
        actions.keep(fd)?;
    }
    let argv = pointers(argv);
    let env = pointers(env);
    let mut pid = 0;
    // SAFETY: all strings are NUL-terminated and outlive the call, both vectors end with a null pointer, the actions
    // are initialised.
    let code = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            path.as_ptr(),
            &raw const actions.0,
            ptr::null(),
            argv.as_ptr(),
            env.as_ptr(),
        )
    };
    check(code, "posix_spawn").map(|()| pid)
}

fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    let pointers = strings.iter().map(|s| s.as_ptr().cast_mut());
    pointers.chain([ptr::null_mut()]).collect()
}

fn check(code: libc::c_int, call: &'static str) -> Result<()> {
    match code {
        0 => Ok(()),
        code => Err(Error::os(call, std::io::Error::from_raw_os_error(code))),
    }
}

/// The open descriptors that would survive an exec without having been asked for. One that another thread opens
/// meanwhile without close-on-exec slips through.
fn inheritable(keep: &[RawFd]) -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new(); // no /proc: what is not close-on-exec stays open
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2 && !keep.contains(&fd))
        // Above a limit that was lowered since, a descriptor can be neither closed here nor used there.
        .filter(|&fd| is_below_limit(fd))
        .filter(|&fd| {
            // SAFETY: F_GETFD reads a flag and fails on a number that is no descriptor.
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
            flags >= 0 && flags & libc::FD_CLOEXEC == 0
        })
        .collect()
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: initialises the memory it is given.
        let code = unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) };
        check(code, "posix_spawn_file_actions_init")?;
        // SAFETY: initialised by the call above, which succeeded.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    /// Duplicating a descriptor onto itself clears close-on-exec, in the child alone.
    fn keep(&mut self, fd: RawFd) -> Result<()> {
        // SAFETY: the actions are initialised.
        let code = unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, fd, fd) };
        check(code, "posix_spawn_file_actions_adddup2")
    }

    fn close(&mut self, fd: RawFd) -> Result<()> {
        // SAFETY: the actions are initialised.
        let code = unsafe { libc::posix_spawn_file_actions_addclose(&raw mut self.0, fd) };
        check(code, "posix_spawn_file_actions_addclose")
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}
