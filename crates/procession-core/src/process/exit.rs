//! How a process ended.

use crate::liveness;
use rustix::process::WaitIdStatus;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It ended, but how is not known. The fork server that forked it died; or the kernel reaped it (SIGCHLD is
    /// ignored) or another part of the program did, and the kernel keeps no status (before Linux 6.15).
    Unknown,
}

impl Exit {
    /// The exit code as `multiprocessing` defines it: the code, the negative signal number, or 255 if unknown.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => -signal,
            Self::Unknown => 255,
        }
    }

    pub(super) fn from_status(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }

    /// From a status as `wait` reports it.
    pub(super) fn from_raw(status: i32) -> Self {
        if libc::WIFEXITED(status) {
            Self::Code(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Unknown
        }
    }

    /// Encode the end for a word in shared memory.
    pub(super) fn to_bits(self) -> i32 {
        match self {
            Self::Code(code) => code & 0xff,
            Self::Signal(signal) => 0x100 | (signal & 0xff),
            Self::Unknown => 0x200,
        }
    }

    pub(super) fn from_bits(bits: i32) -> Self {
        match bits >> 8 {
            0 => Self::Code(bits),
            1 => Self::Signal(bits & 0xff),
            _ => Self::Unknown,
        }
    }
}

/// Have this process note its exit code, whatever part of the program calls `exit`: see [`liveness::note_exit`]. It
/// does not notice `_exit`.
pub fn note_at_exit() {
    #[cfg(target_env = "gnu")]
    {
        extern "C" {
            fn on_exit(
                function: extern "C" fn(libc::c_int, *mut libc::c_void),
                argument: *mut libc::c_void,
            ) -> libc::c_int;
        }
        extern "C" fn note(code: libc::c_int, _: *mut libc::c_void) {
            liveness::note_exit(code);
        }
        // SAFETY: registers a plain function, which ignores its argument.
        unsafe { on_exit(note, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn survives_its_encoding() {
        for exit in [Exit::Code(0), Exit::Code(255), Exit::Signal(9), Exit::Unknown] {
            assert_eq!(Exit::from_bits(exit.to_bits()), exit);
        }
        assert_eq!(Exit::from_bits(-1), Exit::Unknown);
    }
}
