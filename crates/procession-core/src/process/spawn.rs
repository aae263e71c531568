//! Starting a program as a child.

use super::child::ReservedFd;
use super::Child;
use crate::{liveness, sys, Error, Result};
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;

/// Run `path` with `argv` (whose first item is the program's name) and this process's environment, to which `extra` is
/// added. The program gets the descriptors 0, 1, 2 and `keep`, at the same numbers, and no others.
///
/// To let it join the family, keep [`Family::arena_fd`](crate::Family::arena_fd) and tell it the number.
pub fn spawn<S: AsRef<OsStr>>(path: &OsStr, argv: &[S], extra: &[(&str, OsString)], keep: &[RawFd]) -> Result<Child> {
    liveness::check_room()?;
    let argv: Vec<_> = argv.iter().map(|arg| c_string(arg.as_ref())).collect::<Result<_>>()?;
    let inherited = std::env::vars_os().filter(|(key, _)| extra.iter().all(|(name, _)| key != name));
    let extra = extra.iter().map(|(name, value)| (OsString::from(name), value.clone()));
    let env: Vec<_> = inherited
        .chain(extra)
        .map(|(key, value)| variable(key, &value))
        .collect::<Result<_>>()?;
    let reserved_fd = ReservedFd::new()?;
    let pid = sys::spawn::posix_spawn(&c_string(path)?, &argv, &env, keep)?;
    drop(reserved_fd);
    Child::own(pid, None)
}

fn variable(mut key: OsString, value: &OsStr) -> Result<CString> {
    key.push("=");
    key.push(value);
    c_string(&key)
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|e| Error::os("posix_spawn", std::io::Error::from(e)))
}
