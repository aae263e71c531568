//! Signals: sending them by pidfd, and learning of children's ends through a descriptor.

use crate::{Error, Result};
use rustix::io::Errno;
use rustix::process::{waitid, waitpid, Pid, WaitId, WaitIdOptions, WaitOptions};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Send `signal` (any number the kernel knows, including real-time signals) to the process behind `pidfd`.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let info: *const libc::siginfo_t = ptr::null();
    // SAFETY: takes three numbers and a null pointer, which means what kill() would fill in.
    let code = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    if code < 0 {
        Err(last())
    } else {
        Ok(())
    }
}

/// SIGCHLD, blocked in the calling thread and readable from a descriptor instead, until [`restore`](Self::restore). Its
/// disposition is the default meanwhile: if it is ignored, or has `SA_NOCLDWAIT`, the kernel reaps children by itself
/// and does not tell how they ended.
pub struct ChildSignals {
    fd: OwnedFd,
    mask: libc::sigset_t,
    disposition: libc::sigaction,
}

impl std::fmt::Debug for ChildSignals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChildSignals")
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}

impl ChildSignals {
    /// Block SIGCHLD and open the descriptor.
    pub fn listen() -> Result<Self> {
        let (mut mask, mut disposition) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: sigemptyset initialises `set`, sigaddset changes it, pthread_sigmask reads it and initialises `mask`;
        // signalfd reads it and returns a descriptor that is ours alone. An all-zero `sigaction` is the default
        // disposition; sigaction initialises `disposition`, and cannot fail for SIGCHLD.
        unsafe {
            let mut set = MaybeUninit::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
            let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(Error::os("signalfd", last()));
            }
            let fd = OwnedFd::from_raw_fd(fd);
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), mask.as_mut_ptr());
            let default = MaybeUninit::<libc::sigaction>::zeroed();
            libc::sigaction(libc::SIGCHLD, default.as_ptr(), disposition.as_mut_ptr());
            Ok(Self {
                fd,
                mask: mask.assume_init(),
                disposition: disposition.assume_init(),
            })
        }
    }

    /// The descriptor that polls readable after a SIGCHLD.
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }

    /// Read what is pending, so that the descriptor polls readable for the next signal only.
    pub fn drain(&self) {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>() * 4];
        while rustix::io::read(&self.fd, &mut info).is_ok_and(|n| n > 0) {}
    }

    /// Restore mask and disposition.
    pub fn restore(self) {
        // SAFETY: both were filled in by `listen`.
        unsafe {
            libc::sigaction(libc::SIGCHLD, &raw const self.disposition, ptr::null_mut());
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, ptr::null_mut());
        }
    }
}

/// A child of this process that has ended and was not reaped yet: its pid, and its exit code or else its signal. It
/// stays unreaped.
pub fn ended_child() -> Option<(i32, Result<i32, i32>)> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: fills in `info`, or leaves it zeroed, which is a valid value too.
    let info = unsafe {
        let code = libc::waitid(
            libc::P_ALL,
            0,
            info.as_mut_ptr(),
            libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
        );
        if code < 0 {
            return None;
        }
        info.assume_init()
    };
    // SAFETY: after waitid these fields of the union are the valid ones (zero if there was no such child).
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let status = if info.si_code == libc::CLD_EXITED {
        Ok(status)
    } else {
        Err(status)
    };
    (pid > 0).then_some((pid, status))
}

/// Whether process `pid` is a child of this process that has not been reaped yet.
pub(crate) fn is_child(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let Some(pid) = Pid::from_raw(pid) else { return false };
    !matches!(waitid(WaitId::Pid(pid), options), Err(Errno::CHILD))
}

/// Reap an ended child of this process.
pub fn reap(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // An error means that there is nothing to reap.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// Run `f`, which starts a thread, with all signals blocked: threads inherit the mask of their maker, and handlers
/// belong to the program's own threads.
pub(crate) fn with_signals_blocked<T>(f: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises `all`.
    let _blocked = Blocked::new(&unsafe {
        libc::sigfillset(all.as_mut_ptr());
        all.assume_init()
    });
    f()
}

/// Blocks SIGINT in this thread, and in the processes that it makes, until dropped.
pub struct InterruptHeld {
    _blocked: Blocked,
}

impl InterruptHeld {
    /// Block SIGINT.
    pub fn new() -> Self {
        let mut interrupt = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises `interrupt`, sigaddset changes it.
        let blocked = Blocked::new(&unsafe {
            libc::sigemptyset(interrupt.as_mut_ptr());
            libc::sigaddset(interrupt.as_mut_ptr(), libc::SIGINT);
            interrupt.assume_init()
        });
        Self { _blocked: blocked }
    }
}

impl Default for InterruptHeld {
    fn default() -> Self {
        Self::new()
    }
}

/// Restores the thread's signal mask when dropped.
struct Blocked {
    before: libc::sigset_t,
    /// The mask belongs to the thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Blocked {
    /// Block these signals, besides those that are blocked already.
    fn new(signals: &libc::sigset_t) -> Self {
        let mut before = MaybeUninit::uninit();
        // SAFETY: pthread_sigmask reads `signals` and initialises `before`; it cannot fail with this first argument.
        let before = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, signals, before.as_mut_ptr());
            before.assume_init()
        };
        Self {
            before,
            _not_send: std::marker::PhantomData,
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `before` was filled in by `new`, in this thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}
