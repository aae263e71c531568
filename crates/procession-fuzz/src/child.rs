//! Runs each input in a process of its own, which has its own arena and leaves nothing behind.

use std::panic::{catch_unwind, AssertUnwindSafe};

/// A process that is not done after this number of seconds hangs: a round takes milliseconds.
const LIMIT: u32 = 60;

/// Run `round` in a child process. An error says how the child ended, if not well. The caller must have no arena.
pub fn in_child(round: impl FnOnce()) -> Result<(), String> {
    let seen = Coverage::share();
    let pid = fork(|| {
        round();
        seen.hand_over();
    });
    let status = wait(pid);
    seen.take_over();
    match status {
        0 => Ok(()),
        _ if !libc::WIFSIGNALED(status) => Err("panicked".into()),
        _ if libc::WTERMSIG(status) == libc::SIGALRM => Err("hung".into()),
        _ => Err(format!("died of signal {}", libc::WTERMSIG(status))),
    }
}

/// Fork a child that does `work` and then ends as if it were killed: it gives nothing back. Returns its pid.
pub(crate) fn fork(work: impl FnOnce()) -> i32 {
    // SAFETY: only the calling thread goes on in the child; it calls the engine, which is prepared for that.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid > 0 {
        return pid;
    }
    // SAFETY: plain system calls; a fuzzer may handle that signal itself, but here it must end the process.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(LIMIT);
    }
    let code = catch_unwind(AssertUnwindSafe(work)).map_or(1, |()| 0);
    // SAFETY: ends this process, without running what it inherited.
    unsafe { libc::_exit(code) }
}

/// How a child ended.
pub(crate) fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: waits for a child of ours, which ends by itself or by its alarm.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0 {
        let error = std::io::Error::last_os_error();
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "waitpid: {error}");
    }
    status
}

/// Shows the fuzzer which code ran: a child's counters are its own, so they are copied back through shared memory.
#[cfg(feature = "coverage")]
mod coverage {
    extern "C" {
        // The linker's names for the ends of the section that holds the compiler's counters.
        #[link_name = "__start___sancov_cntrs"]
        static mut START: u8;
        #[link_name = "__stop___sancov_cntrs"]
        static mut STOP: u8;
    }

    pub struct Coverage(*mut u8);

    fn counters() -> (*mut u8, usize) {
        let (start, stop) = (&raw mut START, &raw mut STOP);
        (start, stop as usize - start as usize)
    }

    impl Coverage {
        pub fn share() -> Self {
            static SHARED: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
            let shared = *SHARED.get_or_init(|| {
                let (protection, flags) = (
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                );
                // SAFETY: a new mapping, as long as the counters, never unmapped.
                let memory = unsafe { libc::mmap(std::ptr::null_mut(), counters().1, protection, flags, -1, 0) };
                assert!(memory != libc::MAP_FAILED);
                memory as usize
            });
            Self(shared as *mut u8)
        }

        pub fn hand_over(&self) {
            let (start, length) = counters();
            // SAFETY: both are `length` bytes, and do not overlap; other threads may count meanwhile, which spoils a
            // count.
            unsafe { std::ptr::copy_nonoverlapping(start, self.0, length) };
        }

        pub fn take_over(&self) {
            let (start, length) = counters();
            // SAFETY: as above; the child has ended.
            unsafe { std::ptr::copy_nonoverlapping(self.0, start, length) };
        }
    }
}

#[cfg(not(feature = "coverage"))]
mod coverage {
    pub struct Coverage;

    #[allow(clippy::unused_self)] // the same signatures as with counters
    impl Coverage {
        pub fn share() -> Self {
            Self
        }

        pub fn hand_over(&self) {}

        pub fn take_over(&self) {}
    }
}

use coverage::Coverage;
